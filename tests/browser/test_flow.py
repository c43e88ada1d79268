"""The way of a study: how it comes in, what is seen meanwhile, what goes wrong, and back again."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from browser.harness import DESKTOP, TABLET, WAIT_MS, Visit, changed, greenish
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from service.phantom import Phantom
from service.phantom_files import nifti_bytes, write_dicom

pytestmark = pytest.mark.browser


def _focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.textContent.trim()"))


def _tab_to(page: Page, text: str) -> None:
    """Press the tab key until the control of this text has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if _focused(page) == text:
            return
    raise AssertionError(f"no way to {text}")


def _slice_png() -> bytes:
    """A slice of the phantom in the model's window, as somebody exports one for a talk."""
    hu = Phantom.draw(7).sample(9, 256, 7)[0].array[4].astype(float)
    grey = np.clip((hu + 40) / 200 * 255, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()


def test_start(visit: Visit) -> None:
    """The page says what it is, with which model, and nobody is kept out of it."""
    banner = visit.page.get_by_role("banner")
    expect(banner).to_contain_text("Research use only, not for diagnosis")
    expect(banner).to_contain_text("liver-tumor")
    assert visit.violations() == []
    assert not visit.scrolls_sideways()


def test_sample(visit: Visit) -> None:
    """One click on the sample shows a study with lesions; it is found again later."""
    visit.button("Try the sample phantom").click()
    visit.wait_shown()
    assert len(visit.job()["findings"]["lesions"]) >= 2
    visit.page.reload()
    visit.wait_shown()
    visit.button("New study").click()
    recent = visit.page.get_by_role("region", name="Recent studies")
    expect(recent).to_contain_text("Sample phantom")
    assert visit.violations() == []
    recent.get_by_role("button", name="Sample phantom").first.click()
    visit.wait_shown()
    visit.button("New study").click()
    recent.get_by_role("button", name="Delete").click()
    visit.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(recent).to_be_hidden()


def test_folder(visit: Visit, tmp_path: Path) -> None:
    """A folder of DICOM files is a study."""
    write_dicom(Phantom.draw(7).sample(12, 128, 7)[0], tmp_path / "series", 7)
    (tmp_path / "series" / ".DS_Store").write_bytes(b"clutter")
    visit.choose(tmp_path / "series", button="Choose a folder")
    visit.wait_shown()
    assert visit.job()["source"]["slices"] == 12


def test_nifti(visit: Visit, tmp_path: Path) -> None:
    """It is shown as DICOM is, but without what needs DICOM."""
    path = tmp_path / "phantom.nii"
    path.write_bytes(nifti_bytes(Phantom.draw(7).sample(12, 128, 7)[0]))
    visit.show(path)
    assert greenish(visit.picture()).any()
    expect(visit.button("NIfTI mask")).to_be_visible()
    expect(visit.button("DICOM SEG")).to_be_hidden()


def test_dropped_picture(visit: Visit) -> None:
    """A single image is shown flat, with the overlay, and measured in pixels."""
    png = base64.b64encode(_slice_png()).decode()
    transfer = visit.page.evaluate_handle(
        """(png) => {
            const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "slice.png", { type: "image/png" }));
            return transfer;
        }""",
        png,
    )
    for event in ("dragenter", "dragover", "drop"):
        visit.page.dispatch_event("#drop", event, {"dataTransfer": transfer})
    visit.wait_shown()
    expect(visit.page.get_by_role("group", name="Layout")).to_be_hidden()
    shown = visit.picture()
    visit.overlay(liver=False, tumor=False)
    assert changed(shown, visit.picture()).mean() > 0.01
    expect(visit.page.get_by_role("complementary")).to_contain_text("px")
    assert visit.violations() == []


def test_pixel_size_is_of_one_picture(visit: Visit, tmp_path: Path) -> None:
    """It may be written with a comma, and is not taken for the next picture."""
    (tmp_path / "slice.png").write_bytes(_slice_png())
    findings = visit.page.get_by_role("complementary")
    visit.page.get_by_text("Only for pictures").click()
    visit.page.get_by_label("Pixel size, mm").fill("0,7")
    visit.show(tmp_path / "slice.png")
    assert visit.job()["source"]["pixel_spacing_mm"] == [0.7, 0.7]
    expect(findings).to_contain_text("mm")
    visit.button("New study").click()
    visit.show(tmp_path / "slice.png")
    assert visit.job()["source"]["pixel_spacing_mm"] is None


def test_skip_link(visit: Visit) -> None:
    """It leads to the content and changes nothing."""
    visit.page.keyboard.press("Tab")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("#content")).to_be_focused()
    expect(visit.heading("Analyse a liver CT")).to_be_visible()


def test_report_is_of_the_study_that_is_shown(visit: Visit, analysed: str) -> None:
    """The browser's own print command never prints the report of another study."""
    visit.page.add_init_script("window.print = () => {}")
    visit.page.reload()
    visit.open(analysed)
    visit.button("Print report").click()
    report = visit.page.locator("#report")
    expect(report.locator("h1")).to_have_count(1)
    visit.button("New study").click()
    expect(visit.heading("Analyse a liver CT")).to_be_visible()
    expect(report.locator("h1")).to_have_count(0)


def test_odd_key(visit: Visit) -> None:
    """What no header can hold is left out of a key, which may be asked for again."""
    visit.page.route(
        "**/v1/**",
        lambda route: (
            route.fulfill(json={"models": [{"name": "m", "version": "1"}]})
            if "Bearer" in str(route.request.headers) or "x-api-key" in route.request.headers
            else route.fulfill(
                status=401, json={"code": "unauthorized", "status": 401, "title": "Key"}
            )
        ),
    )
    visit.page.reload()
    dialog = visit.page.get_by_role("dialog")
    dialog.get_by_label("key").fill("ri\u2011ght")
    dialog.get_by_role("button", name="Continue").click()
    expect(dialog).to_be_hidden()
    expect(visit.page.locator("#model")).to_contain_text("m 1")


def test_progress(visit: Visit, study: Path) -> None:
    """Stages and slices are told as they come."""
    visit.page.evaluate(
        """() => {
            window.told = [];
            const label = document.getElementById("working-label");
            new MutationObserver(() => window.told.push(label.textContent))
                .observe(label, { childList: true, characterData: true, subtree: true });
        }"""
    )
    visit.show(study)
    told = visit.page.evaluate("window.told")
    assert any(text.startswith("Uploading") for text in told)
    slices = [text for text in dict.fromkeys(told) if "slice" in text]
    assert len(slices) >= 2
    assert all("of 40" in text for text in slices)


def test_cancel(visit: Visit, study: Path) -> None:
    """An analysis is ended, and the service knows."""
    visit.choose(study)
    expect(visit.page.get_by_text(re.compile(r"slice \d+ of 40"))).to_be_visible(timeout=WAIT_MS)
    job = visit.job()
    assert visit.violations() == []
    visit.button("Cancel").click()
    expect(visit.page.get_by_role("main")).to_contain_text("cancelled", timeout=WAIT_MS)
    expect(visit.heading("Analyse a liver CT")).to_be_visible()
    assert visit.job(job["id"])["status"] == "cancelled"


def test_cancelled_upload(visit: Visit, study: Path) -> None:
    """An upload is ended before it has arrived."""
    network = visit.context.new_cdp_session(visit.page)
    network.send("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 200_000}
    network.send("Network.emulateNetworkConditions", slow)
    visit.choose(study)
    expect(visit.page.get_by_text(re.compile(r"Uploading, \d+ %"))).to_be_visible()
    visit.button("Cancel").click()
    expect(visit.page.get_by_role("main")).to_contain_text("The upload was cancelled.")


def test_text_file(visit: Visit, tmp_path: Path) -> None:
    """A file that is no image is refused in words, with what to do; then another can be chosen."""
    path = tmp_path / "report.txt"
    path.write_text("The liver is of normal size.\n" * 20)
    visit.choose(path)
    expect(visit.heading("This is not a medical image that can be read.")).to_be_visible()
    expect(visit.page.get_by_role("main")).to_contain_text("Choose a CT")
    expect(visit.page.get_by_role("alert")).to_contain_text("not a medical image")
    assert visit.violations() == []
    visit.button("Choose another study").click()
    expect(visit.heading("Analyse a liver CT")).to_be_visible()


def test_keyboard(visit: Visit, small_study: Path) -> None:
    """From the start to a lesion without a mouse, and the focus is seen on the way."""
    with visit.page.expect_file_chooser() as chosen:
        _tab_to(visit.page, "Choose files")
        assert visit.page.evaluate(
            "getComputedStyle(document.activeElement).outlineStyle !== 'none'"
        )
        visit.page.keyboard.press("Enter")
    chosen.value.set_files(small_study)
    visit.wait_shown()
    second = visit.job()["findings"]["lesions"][1]
    _tab_to(visit.page, "2")
    visit.page.keyboard.press("Enter")
    visit.expect_slice(round(second["longest_diameter"]["ends_px"][0][0]) + 1)
    overlaid = visit.picture()
    visit.page.keyboard.press("o")
    assert changed(overlaid, visit.picture()).mean() > 0.02
    visit.page.keyboard.press("2")
    expect(visit.button("Coronal")).to_have_attribute("aria-pressed", "true")
    visit.page.keyboard.press("1")
    visit.page.keyboard.press("w")
    expect(visit.button("Soft tissue")).to_have_attribute("aria-pressed", "true")
    place = visit.cursor.inner_text()
    visit.page.keyboard.press("l")
    expect(visit.cursor).not_to_have_text(place)


@pytest.mark.parametrize("viewport", [TABLET, TABLET[::-1], DESKTOP])
def test_fits(browser: Browser, service: str, analysed: str, viewport: tuple[int, int]) -> None:
    """Nothing lies beyond the side of the screen; a finger scrolls through the slices."""
    with Visit.begin(browser, service, viewport, touch=viewport != DESKTOP) as visit:
        assert not visit.scrolls_sideways()
        visit.open(analysed)
        assert not visit.scrolls_sideways()
        box = visit.viewer.bounding_box()
        assert box
        assert min(box["width"], box["height"]) > 300
        assert box["x"] + box["width"] <= viewport[0]
        if viewport != DESKTOP:
            before = visit.cursor.inner_text()
            _swipe(visit, box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, 90)
            expect(visit.cursor).not_to_have_text(before)
        visit.check()


def _swipe(visit: Visit, x: float, y: float, down: float) -> None:
    """One finger, straight."""
    fingers = visit.context.new_cdp_session(visit.page)
    for step in range(6):
        kind = "touchStart" if step == 0 else "touchMove"
        points = [{"x": x, "y": y + down * step / 5}]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_without_webgl(visit: Visit, analysed: str) -> None:
    """All but the view in three dimensions is there, and in its place is said why."""
    visit.context.add_init_script(
        """const getContext = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
            return kind.startsWith("webgl") ? null : getContext.call(this, kind, ...rest);
        };"""
    )
    visit.page.reload()
    visit.open(analysed)
    assert greenish(visit.picture()).any()
    visit.button("3D").click()
    expect(visit.page.get_by_text("it needs WebGL 2")).to_be_visible()
    visit.button("Coronal").click()
    assert greenish(visit.picture()).any()


def test_key(visit: Visit) -> None:
    """Where the service asks for a key, so does the page, and sends it from then on."""
    asked: list[str | None] = []

    def answer(route: Route) -> None:
        asked.append(route.request.headers.get("x-api-key"))
        if asked[-1] == "right":
            route.continue_()
        else:
            route.fulfill(status=401, json={"code": "unauthorized", "status": 401, "title": "Key."})

    visit.context.route("**/v1/models", answer)
    visit.page.reload()
    dialog = visit.page.get_by_role("dialog", name="API key")
    for key in ("wrong", "right"):
        expect(dialog).to_be_visible()
        dialog.get_by_label("Key").fill(key)
        dialog.get_by_role("button", name="Continue").click()
    expect(visit.page.get_by_role("banner")).to_contain_text("liver-tumor")
    assert asked == [None, "wrong", "right"]
    expect(dialog).to_be_hidden()
