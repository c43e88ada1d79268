"""A service with the repository's model, and a browser, for each module.

For a module and not for the session, since while Playwright is open no other test of the same
process can run a loop of asyncio.
"""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import harness
from browser.harness import Visit
from dicom_files import series, zip_of
from forked_service import check_log
from http_helpers import ZIP
from playwright.sync_api import Browser

from benchmarks.load import service_process
from service.api.page import sample_zip
from service.phantom import Phantom


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. Its log may not name the patient."""
    harness.require()
    log = tmp_path_factory.mktemp("service") / "service.log"
    with service_process(log=log, device="cpu") as running:
        yield running.address
    check_log(log)


@pytest.fixture(scope="module")
def browser(service: str) -> Iterator[Browser]:
    with harness.chromium() as running:
        yield running


@pytest.fixture
def visit(browser: Browser, service: str) -> Iterator[Visit]:
    with Visit.begin(browser, service) as begun:
        yield begun
        begun.check()


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom's CT as a zip of DICOM files."""
    path = tmp_path_factory.mktemp("study") / "phantom.zip"
    path.write_bytes(sample_zip())
    return path


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, coarse: a quarter of its pixels and half of its slices."""
    path = tmp_path_factory.mktemp("study") / "small.zip"
    path.write_bytes(zip_of(series(Phantom.draw(7).sample(20, 128, 7)[0], 7)))
    return path


@pytest.fixture(scope="module")
def analysed(service: str, small_study: Path) -> str:
    """The address of the small study on the page, analysed."""
    headers = {**ZIP, "Prefer": "wait=60"}
    request = urllib.request.Request(
        f"{service}/v1/segmentations", small_study.read_bytes(), headers
    )
    with urllib.request.urlopen(request) as answer:
        made = json.loads(answer.read())
    assert made["status"] == "succeeded"
    return f"{service}/#{made['id']}"
