"""The commands of docs/operations.md that back a service up, and bring it back."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from deploy.engine import Project, compose, project, until
from deploy.guide import commands
from deploy.test_access import serve_https

pytestmark = [pytest.mark.deploy, pytest.mark.real_ct]


@pytest.fixture(params=["alone", "proxy"])
def service(
    request: pytest.FixtureRequest, image: str, nginx_image: str, tmp_path: Path
) -> Iterator[Project]:
    """The single container, and the same behind nginx, where it is `inner`."""
    proxy = {"LTS_NGINX_IMAGE": nginx_image, "COMPOSE_PROFILES": "proxy", "LTS_SINGLE": "0"}
    with project(tmp_path, LTS_IMAGE=image, **(proxy if request.param == "proxy" else {})) as found:
        if request.param == "proxy":
            serve_https(found)
        found.up()
        found.wait_ready()
        yield found


def get(service: Project, address: str) -> requests.Response:
    return requests.get(address, timeout=60, verify=service.authority)


def process(service: Project) -> str:
    return "inner" if service.scheme == "https" else "service"


def test_results_come_back(service: Project, real_ct: Path) -> None:
    """A result and its mask are the same after the volume is lost and restored."""
    job = service.submit(real_ct.read_bytes())
    before = service.ended(job)
    mask = get(service, f"{job}/mask.nii.gz").content
    started = service.state(process(service))["StartedAt"]
    assert "backed up" in service.shell(commands("back-up"))
    assert (service.folder / "backup.tar").stat().st_mode & 0o777 == 0o600
    service.wait_ready()
    assert service.state(process(service))["StartedAt"] != started
    service.compose("down", "--volumes")
    service.up()
    service.wait_ready()
    assert get(service, job).status_code == 404
    assert "restored" in service.shell(commands("restore"))
    service.wait_ready()
    until(lambda: get(service, job).ok, 10, "the job")
    assert get(service, job).json()["findings"] == before["findings"]
    assert get(service, f"{job}/mask.nii.gz").content == mask


@pytest.mark.parametrize("name", ["back-up", "restore"])
def test_nothing_is_touched_while_it_runs(service: Project, name: str) -> None:
    """Where nobody has stopped the process, neither is anything read, nor deleted."""
    block = commands(name).replace(f"{shlex.join(compose())} stop", "true")
    (service.folder / "backup.tar").write_bytes(bytes(10240))  # an archive of nothing
    said = service.shell(f"set +e\n{block}")
    assert "backed up" not in said
    assert "restored" not in said
    assert "jobs.sqlite" in service.execute("ls", "/data", service=process(service))


def test_no_backup_deletes_nothing(service: Project) -> None:
    """A file that is no archive is looked at before anything is deleted."""
    (service.folder / "backup.tar").write_text("no archive")
    assert "restored" not in service.shell(f"set +e\n{commands('restore')}")
    assert "jobs.sqlite" in service.execute("ls", "/data", service=process(service))
