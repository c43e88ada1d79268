"""The page of a service that has keys: everything that it asks carries the one that was given."""

from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from browser import harness
from browser.harness import Visit, greenish
from playwright.sync_api import Browser, expect

from benchmarks.load import service_process
from service.access.keys import Keys
from service.settings import Settings

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def key(folder: Path) -> str:
    """What a clinician was given."""
    keys = Keys(Settings(data_dir=folder).registry_url)
    made = keys.create("reading room", ["read", "write"])
    keys.close()
    return made


@pytest.fixture(scope="module")
def service(folder: Path, key: str) -> Iterator[str]:
    harness.require()
    with service_process(device="cpu", data_dir=folder) as running:
        yield running.address


def test_a_study_with_a_key(
    browser: Browser, service: str, key: str, small_study: Path, tmp_path: Path
) -> None:
    """A wrong key is asked for again; with the right one a study is sent, shown and taken away."""
    with Visit.begin(browser, service) as visit:
        dialog = visit.page.get_by_role("dialog", name="API key")
        for given in (f"{key[:-4]}zzzz", key):
            expect(dialog).to_be_visible()
            dialog.get_by_label("Key").fill(given)
            dialog.get_by_role("button", name="Continue").click()
        expect(dialog).to_be_hidden()
        visit.show(small_study)
        assert greenish(visit.picture()).any()
        with visit.page.expect_download() as download:
            visit.button("NIfTI mask").click()
        mask = tmp_path / "mask.nii.gz"
        download.value.save_as(mask)
        assert np.asarray(nibabel.load(mask).dataobj).any()
        asked = [request for request in visit.requests if "/v1/" in request.url]
        assert all(key not in request.url for request in asked)
        visit.check()
