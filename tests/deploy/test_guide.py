"""What docs/operations.md promises of names, where no engine is needed to see it."""

import re
import subprocess

import yaml
from conftest import ROOT
from deploy.guide import GUIDE, block

IMAGE = "liver-tumor-segmentation"


def test_an_image_has_tags_of_its_version_and_its_revision() -> None:
    """Between two versions a build leaves the one before, by the tag of its revision."""
    words = ("TARGET=gpu", "DOCKER=docker", "VERSION=1.2.3", "SHORT=0123456789ab")
    done = subprocess.run(
        ["make", "--dry-run", "image", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tags = set(re.findall(r"--tag (\S+)", done.stdout))
    assert tags == {f"{IMAGE}:gpu", f"{IMAGE}:1.2.3-gpu", f"{IMAGE}:0123456789ab-gpu"}


def test_images_that_are_saved_are_those_that_run() -> None:
    """What is carried to a machine without a network is what compose asks for there."""
    text = (ROOT / "docker-compose.yml").read_text()
    services = yaml.safe_load(text)["services"]
    (saved,) = re.findall(r"docker save (.*) \|", block("save"))
    defaults = {
        services[name]["image"].partition(":-")[2].rstrip("}") for name in ("service", "tls")
    }
    assert set(saved.split()) == defaults


def test_what_the_guide_writes_is_not_committed() -> None:
    """Backups hold patient data: git ignores every file that a line of the guide makes."""
    ignored = (ROOT / ".gitignore").read_text().split()
    written = set(re.findall(r"> (\w+\.(?:tar\.gz|tar|dump))\b", GUIDE))
    assert {"backup.tar", "objects.tar", "database.dump", "images.tar.gz"} <= written
    for name in written | {"docker-compose.override.yml"}:
        assert f"/{name}" in ignored or f"*.{name.rpartition('.')[2]}" in ignored, name
