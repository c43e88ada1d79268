"""Images for the tests of deployment, built once; what needs an engine runs with `-m deploy`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from deploy.engine import Project, engine, project

AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
"""Handed to the builds, for a network that signs TLS anew."""

IMAGE, NEXT_IMAGE = "lts-test:cpu", "lts-test:next"

_figures: dict[str, str] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """They need an engine and minutes: nobody gets them who does not name their mark."""
    if "deploy" in config.getoption("-m"):
        return
    left_out = [item for item in items if item.get_closest_marker("deploy")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, figure in _figures.items():
        terminalreporter.write_line(f"{name}: {figure}")


@pytest.fixture(scope="session")
def figures() -> dict[str, str]:
    """What is measured, by name; printed at the end."""
    return _figures


def build(target: str, tag: str, folder: Path, *words: str) -> str:
    secret = f"id=ca,src={AUTHORITIES}"
    given = ("--secret", secret) if AUTHORITIES.exists() else ()
    options = ("--network", "host", "--target", target, "--tag", tag, *given, *words)
    engine("build", *options, str(folder))
    return tag


@pytest.fixture(scope="session")
def image() -> str:
    """The service's image for the CPU."""
    return build("cpu", IMAGE, ROOT, "--build-arg", "VERSION=tested")


@pytest.fixture(scope="session")
def next_image(image: str) -> str:
    """The same as a later version."""
    return build("cpu", NEXT_IMAGE, ROOT, "--build-arg", "VERSION=next")


def stand_in(name: str) -> str:
    """The test's own image of a server of others."""
    return build(name, f"lts-test-{name}", ROOT / "tests" / "deploy" / "images")


@pytest.fixture(scope="session")
def nginx_image() -> str:
    return stand_in("nginx")


@pytest.fixture(scope="session")
def cluster_images(nginx_image: str) -> dict[str, str]:
    """What the profile `cluster` needs, by variable."""
    return {
        "LTS_NGINX_IMAGE": nginx_image,
        "LTS_POSTGRES_IMAGE": stand_in("postgres"),
        "LTS_STORE_IMAGE": stand_in("store"),
    }


@pytest.fixture(scope="session")
def orthanc_image() -> str:
    return stand_in("orthanc")


@pytest.fixture(scope="module")
def deployed(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project of one container, not yet started."""
    with project(tmp_path_factory.mktemp("deployed"), LTS_IMAGE=image) as found:
        yield found
