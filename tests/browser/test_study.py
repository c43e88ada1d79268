"""A study as it is shown: the viewer, the findings, and what is taken away."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from browser.harness import Visit, changed, column_of, greenish, reddish, yellow
from playwright.sync_api import Browser, expect
from pydicom import dcmread

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def shown(browser: Browser, service: str, study: Path) -> Iterator[Visit]:
    """The phantom, analysed; each test leaves it as it found it."""
    with Visit.begin(browser, service) as visit:
        visit.show(study)
        yield visit
        visit.check()


@pytest.fixture(scope="module")
def job(shown: Visit) -> dict[str, Any]:
    return shown.job()


def test_overlay_is_seen(shown: Visit) -> None:
    """Liver and tumour are coloured, each as its box says, and without them the CT is grey."""
    both = shown.picture()
    shown.overlay(tumor=False)
    liver = shown.picture()
    shown.overlay(liver=False)
    tumor = shown.picture()
    shown.overlay(liver=False, tumor=False)
    none = shown.picture()
    shown.overlay()
    assert changed(none, both).mean() > 0.03
    assert not greenish(none).any()
    assert greenish(liver).mean() > 0.03
    assert not greenish(tumor).any()
    assert reddish(tumor).sum() > 100
    marked = reddish(none)  # edges of the diameter's line
    assert (reddish(liver) & ~marked).sum() < (reddish(tumor) & ~marked).sum() / 10
    assert not changed(both, shown.picture()).any()


def test_overlay_is_on_the_right_side_of_the_body(shown: Visit) -> None:
    """The liver is in the patient's right half, which radiologists see at the left."""
    assert column_of(greenish(shown.picture())) < 0.47


def test_outline(shown: Visit) -> None:
    """It draws less than the area, and around it."""
    filled = greenish(shown.picture())
    shown.button("Outline").click()
    outlined = greenish(shown.picture())
    shown.button("Fill").click()
    assert 50 < outlined.sum() < filled.sum() / 2
    for axis in (0, 1):
        edges = [(mask.any(axis=axis).argmax(), mask.any(axis=axis)[::-1].argmax())
                 for mask in (filled, outlined)]  # fmt: skip
        assert np.abs(np.subtract(*edges)).max() <= 3  # a line is one and a half pixels wide


def test_opacity(shown: Visit) -> None:
    """Nothing of the liver is left at 0, and its colour is strong at 1."""
    slider = shown.page.get_by_label("Opacity of the liver")
    before = slider.input_value()
    slider.fill("0")
    faint = shown.picture()
    slider.fill("1")
    strong = shown.picture()
    slider.fill(before)
    assert not greenish(faint).any()
    assert (strong[..., 1] - strong[..., 0] > 80).mean() > 0.03


def test_lesions_are_gone_to(shown: Visit, job: dict[str, Any]) -> None:
    """A click shows the lesion's largest slice, and marks its longest diameter where it lies."""
    lesions = job["findings"]["lesions"]
    assert len(lesions) >= 2
    pictures = []
    for lesion in lesions[::-1]:
        shown.button(f"Go to lesion {lesion['id']}").click()
        shown.expect_slice(lesion["largest_slice"] + 1)
        expect(shown.cursor).to_contain_text("tumour")
        pictures.append(shown.picture())
        mark = yellow(pictures[-1])
        assert mark.sum() > 20
        assert (column_of(mark) < 0.5) == (lesion["centroid_mm"][0] < 0)
    assert changed(pictures[-2], pictures[-1]).mean() > 0.02
    shown.page.keyboard.press("PageUp")
    assert yellow(shown.picture()).sum() < 20
    shown.button("Go to lesion 1").click()


def test_scrolling(shown: Visit) -> None:
    """By wheel and keys, through the slices and not beyond their ends."""
    shown.button("Go to lesion 1").click()
    first = shown.slice_number
    before = shown.picture()
    shown.page.keyboard.press("ArrowUp")
    shown.expect_slice(first + 1)
    assert changed(before, shown.picture()).any()
    shown.page.keyboard.press("ArrowDown")
    shown.expect_slice(first)
    shown.viewer.hover()
    shown.page.mouse.wheel(0, 120)
    shown.expect_slice(first - 1)
    for _ in range(6):
        shown.page.keyboard.press("PageDown")
    shown.expect_slice(1)
    for _ in range(6):
        shown.page.keyboard.press("PageUp")
    shown.expect_slice(40)
    shown.button("Go to lesion 1").click()


def test_layouts(shown: Visit) -> None:
    """Each shows the study in another way, all with the liver, and 3D as well."""
    pictures = {}
    for name in ("Coronal", "Sagittal", "All planes", "3D", "Axial"):
        shown.button(name).click()
        shown.page.wait_for_timeout(1500 if name == "3D" else 100)
        pictures[name] = shown.picture()
        assert (greenish(pictures[name]) | reddish(pictures[name])).mean() > 0.005, name
    for name, picture in pictures.items():
        others = [other for key, other in pictures.items() if key != name]
        assert all(changed(picture, other).mean() > 0.02 for other in others), name


def test_windows(shown: Visit) -> None:
    """Each preset shows other greys; a drag leaves them all."""
    window = shown.page.get_by_role("group", name="Window")
    pictures = []
    for name in ("Soft tissue", "Lung", "Bone", "Liver"):
        window.get_by_role("button", name=name).click()
        pictures.append(shown.picture())
    for index, picture in enumerate(pictures):
        assert changed(pictures[index - 1], picture).mean() > 0.1
    box = shown.viewer.bounding_box()
    assert box
    shown.page.mouse.move(box["x"] + 300, box["y"] + 250)
    shown.page.mouse.down(button="right")
    shown.page.mouse.move(box["x"] + 380, box["y"] + 250, steps=4)
    shown.page.mouse.up(button="right")
    assert changed(pictures[-1], shown.picture()).mean() > 0.02
    assert window.locator("[aria-pressed=true]").count() == 0
    window.get_by_role("button", name="Liver").click()


def test_cursor(shown: Visit) -> None:
    """A click in the viewer tells place, HU and structure there."""
    box = shown.viewer.bounding_box()
    assert box
    shown.page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.99)
    before = shown.cursor.inner_text()
    shown.page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.4)
    expect(shown.cursor).not_to_have_text(before)
    expect(shown.cursor).to_contain_text(" mm")
    expect(shown.cursor).to_contain_text(" HU")
    shown.button("Go to lesion 1").click()


def test_findings(shown: Visit, job: dict[str, Any]) -> None:
    """Volumes, burden and every lesion are those of the service, and model and use are named."""
    panel = shown.page.get_by_role("complementary", name="Findings")
    expect(panel).to_contain_text(f"{job['findings']['liver']['volume_ml']:,.0f}")
    expect(panel).to_contain_text(f"{job['findings']['burden'] * 100:.1f} %")
    lesions = job["findings"]["lesions"]
    rows = panel.get_by_role("table").get_by_role("row")
    expect(rows).to_have_count(len(lesions) + 1)
    for lesion in lesions:
        expect(rows.nth(lesion["id"])).to_contain_text(f"{lesion['longest_diameter_mm']:.1f}")
    banner = shown.page.get_by_role("banner")
    expect(banner).to_contain_text("Research use only, not for diagnosis")
    expect(banner).to_contain_text(f"{job['model']['name']} {job['model']['version']}")


def _download(shown: Visit, name: str, folder: Path) -> Path:
    with shown.page.expect_download() as download:
        shown.button(name).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_dicom_objects(shown: Visit, job: dict[str, Any], tmp_path: Path) -> None:
    """SEG, SR and RTSTRUCT are read by pydicom and hold every lesion."""
    lesions = len(job["findings"]["lesions"])
    seg, sr, rtstruct = (
        dcmread(_download(shown, name, tmp_path)) for name in ("DICOM SEG", "DICOM SR", "RTSTRUCT")
    )
    assert [item.Modality for item in (seg, sr, rtstruct)] == ["SEG", "SR", "RTSTRUCT"]
    assert len(seg.SegmentSequence) == lesions + 1
    assert len(rtstruct.StructureSetROISequence) == lesions + 1
    assert {item.StudyInstanceUID for item in (seg, sr, rtstruct)} == {
        job["source"]["study_instance_uid"]
    }


def test_nifti(shown: Visit, job: dict[str, Any], tmp_path: Path) -> None:
    """The labels, as many as the service counted."""
    mask = np.asarray(nibabel.load(_download(shown, "NIfTI mask", tmp_path)).dataobj)
    assert mask.shape == (256, 256, 40)
    assert (mask > 0).sum() == job["findings"]["liver"]["voxels"]
    assert (mask == 2).sum() == job["findings"]["tumor"]["voxels"]


def test_csv(shown: Visit, job: dict[str, Any], tmp_path: Path) -> None:
    """A row for each lesion, with its numbers."""
    with _download(shown, "Lesions (CSV)", tmp_path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    lesions = job["findings"]["lesions"]
    assert [int(row["lesion"]) for row in rows] == [lesion["id"] for lesion in lesions]
    for name in ("volume_ml", "longest_diameter_mm", "mean_hu"):
        assert [float(row[name]) for row in rows] == [lesion[name] for lesion in lesions]
    assert all("not for diagnosis" in row["use"] for row in rows)


def test_report(shown: Visit, job: dict[str, Any]) -> None:
    """One page on paper, with pictures, the findings, and what it is not for."""
    shown.page.evaluate("() => { window.print = () => { window.printed = true; }; }")
    shown.button("Print report").click()
    for _ in range(100):
        if shown.page.evaluate("window.printed === true"):
            break
        shown.page.wait_for_timeout(100)
    assert shown.page.evaluate("window.printed === true")
    shown.page.emulate_media(media="print")
    report = shown.page.locator("#report")
    text = report.inner_text().lower()
    sizes = report.locator("img").evaluate_all("all => all.map(image => image.naturalWidth)")
    pages = shown.page.pdf(prefer_css_page_size=True).count(b"/Type /Page\n")
    shown.page.emulate_media(media="screen")
    assert len(sizes) >= 2, report.inner_html()
    assert min(sizes) > 100
    assert "not for diagnosis" in text
    assert job["model"]["version"] in text
    assert f"{job['findings']['lesions'][0]['longest_diameter_mm']:.1f}" in text
    assert pages == 1


def test_nobody_is_kept_out(shown: Visit) -> None:
    """Axe finds nothing serious, also while the list of shortcuts is shown."""
    assert shown.violations() == []
    shown.button("Shortcuts").click()
    assert shown.violations() == []
    shown.button("Close").click()


def test_weight(shown: Visit) -> None:
    """The whole page with its viewer takes less than 2 MB."""
    shown.button("3D").click()
    shown.page.wait_for_timeout(1000)
    shown.button("Axial").click()
    sizes = shown.bytes_of_page()
    assert any(path.startswith("/ui/vendor/niivue/") for path in sizes)
    assert sum(sizes.values()) < 2_000_000, sizes
