"""The commands of docs/operations.md that back a service up, and bring it back."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from conftest import ROOT
from deploy.engine import Project, compose, project, until

GUIDE = (ROOT / "docs" / "operations.md").read_text()

pytestmark = [pytest.mark.deploy, pytest.mark.real_ct]


def commands(name: str) -> list[str]:
    """The lines of the guide's block with this name, for the compose at hand."""
    (block,) = re.findall(rf"```sh {name}\n(.*?)```", GUIDE, re.DOTALL)
    return [line.replace("docker compose", shlex.join(compose())) for line in block.splitlines()]


@pytest.fixture
def service(image: str, tmp_path: Path) -> Iterator[Project]:
    with project(tmp_path, LTS_IMAGE=image) as found:
        found.up()
        found.wait_ready()
        yield found


def follow(service: Project, name: str) -> None:
    for line in commands(name):
        service.shell(line)


def test_results_come_back(service: Project, real_ct: Path) -> None:
    """A result and its mask are the same after the volume is lost and restored."""
    job = service.submit(real_ct.read_bytes())
    before = service.ended(job)
    mask = requests.get(f"{job}/mask.nii.gz", timeout=60).content
    follow(service, "back-up")
    service.wait_ready()
    service.compose("down", "--volumes")
    service.up()
    service.wait_ready()
    assert requests.get(job, timeout=10).status_code == 404
    follow(service, "restore")
    service.wait_ready()
    until(lambda: requests.get(job, timeout=10).ok, 10, "the job")
    assert requests.get(job, timeout=10).json()["findings"] == before["findings"]
    assert requests.get(f"{job}/mask.nii.gz", timeout=60).content == mask
