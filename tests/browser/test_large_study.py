"""How soon a CT of 300 slices is seen, once it is analysed."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from browser import harness
from browser.harness import Visit
from highdicom import Volume
from playwright.sync_api import Browser

from benchmarks.load import service_process
from service.phantom import Phantom

pytestmark = [pytest.mark.browser, pytest.mark.alone]

SLICES, SIZE = 300, 512

NOISE_HU = 3.0
"""The quick model tells tissues apart in it, and the volume shrinks to three eighths."""

PICTURE_MS, VOLUME_MS = 1_000, 10_000

GO_AND_LOOK = """id => new Promise((done, fail) => {
  const start = performance.now(), seen = {};
  const look = () => {
    const image = document.getElementById("picture-image");
    const isShown = !document.getElementById("picture").hidden && image.complete && image.naturalWidth > 0;
    const isLoading = !document.getElementById("loading").hidden;
    if (isShown) seen.picture ??= performance.now() - start;
    if (seen.picture && !isShown && !isLoading) return done({ ...seen, volume: performance.now() - start });
    if (performance.now() - start > 60000) return fail(new Error("never shown"));
    requestAnimationFrame(look);
  };
  location.hash = id;
  look();
})"""  # noqa: E501


@pytest.fixture(scope="module")
def service(quick_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service whose model takes no time, since only what comes after the answer is measured."""
    harness.require()
    log = tmp_path_factory.mktemp("service") / "service.log"
    with service_process(log=log, device="cpu", model=quick_model) as running:
        yield running.address


def nifti(scan: Volume, times: int) -> bytes:
    """With every slice so many times, as thin: quicker than a phantom of as many slices."""
    ras_from_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine = ras_from_lps @ scan.affine[:, [2, 1, 0, 3]] @ np.diag([1, 1, 1 / times, 1])
    return nibabel.Nifti1Image(np.repeat(scan.array, times, axis=0).T, affine).to_bytes()


@pytest.fixture
def analysed(service: str, phantom: Phantom) -> str:
    """The id of a segmentation of 300 slices of 512 x 512."""
    drawn = phantom.sample(SLICES // 4, SIZE, seed=3, noise_hu=NOISE_HU)[0]
    body = nifti(drawn, times=4)
    headers = {"Content-Type": "application/octet-stream", "Prefer": "wait=300"}
    request = urllib.request.Request(f"{service}/v1/segmentations", body, headers)
    with urllib.request.urlopen(request, timeout=300) as answer:
        made = json.loads(answer.read())
    assert made["status"] == "succeeded"
    assert made["findings"]["lesions"]
    return str(made["id"])


def test_300_slices(analysed: str, service: str, browser: Browser) -> None:
    """The first picture within a second, the whole volume within ten."""
    with Visit.begin(browser, service) as visit:
        seen = visit.page.evaluate(GO_AND_LOOK, analysed)
        print(f"picture {seen['picture']:.0f} ms, volume {seen['volume']:.0f} ms")
        visit.wait_shown()
        assert visit.picture().any()
        visit.check()
    assert seen["picture"] <= PICTURE_MS
    assert seen["volume"] <= VOLUME_MS
