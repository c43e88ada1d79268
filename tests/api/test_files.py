"""Stacks of images and the formats beside DICOM, from outside."""

import base64
import gzip
import io
import zipfile

import cv2
import nibabel
import numpy as np
import pytest
from dicom_files import series, to_bytes
from fastapi.testclient import TestClient
from highdicom import Volume
from plain_files import picture, tar_named, tiff, zip_named

URL = "/v1/segment"


def page(shift: int) -> np.ndarray:
    """Greys that the model's window turns into 108 HU (liver) and 52 HU (tumour)."""
    grey = np.full((64, 64), 60, np.uint8)
    grey[10:50, 5:45] = 189
    grey[20:26, 10 + shift : 20 + shift] = 117
    return grey


PAGES = [page(shift) for shift in range(7)]


def uploads(files: list[bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", ("any name", data)) for data in files]


@pytest.mark.parametrize(
    "files",
    [
        [picture(each) for each in PAGES],
        [picture(each, "BMP") for each in PAGES],
        [tiff(PAGES)],
        [zip_named({f"slice{index}.png": picture(each) for index, each in enumerate(PAGES)})],
        [tar_named({"a.tif": tiff(PAGES[:3]), "b.tif": tiff(PAGES[3:])}, "w:gz")],
    ],
    ids=["PNG", "BMP", "TIFF", "zip", "tar.gz"],
)
def test_stack(client: TestClient, files: list[bytes]) -> None:
    """Voxels are counted and diameters measured; areas and volumes are null, and it says why."""
    response = client.post(
        URL, files=uploads(files), params={"include": "mask", "pixel_spacing_mm": 0.5}
    )
    assert response.status_code == 200, response.text
    answer = response.json()
    source, findings = answer["source"], answer["findings"]
    assert (source["slices"], source["rows"], source["columns"]) == (7, 64, 64)
    assert source["slice_spacing_mm"] is source["orientation"] is None
    assert findings["liver"]["voxels"] == 7 * 1600
    assert findings["tumor"]["voxels"] == 7 * 60
    for structure in (findings["liver"], findings["tumor"], findings["lesions"][0]):
        assert structure["volume_ml"] is structure["area_px"] is structure["area_mm2"] is None
    lesion = findings["lesions"][0]
    assert (lesion["first_slice"], lesion["last_slice"]) == (0, 6)
    assert lesion["longest_diameter_mm"] == pytest.approx(0.5 * np.hypot(10, 5), abs=0.3)
    assert lesion["centroid_mm"] is lesion["recist_measurable"] is None
    reasons = {item["rule"]: item["reason"] for item in answer["postprocessing"]}
    assert "known spacing" in reasons["liver_fragments"]
    assert {item["code"] for item in answer["warnings"]} >= {"window_assumed", "thickness_unknown"}
    mask = nibabel.Nifti1Image.from_bytes(
        gzip.decompress(base64.b64decode(answer["mask"]["base64"]))
    )
    assert answer["mask"]["media_type"] == "application/gzip"
    assert int(mask.header["sform_code"]) == int(mask.header["qform_code"]) == 0
    labels = np.asarray(mask.dataobj).transpose(2, 1, 0)
    for shift in range(7):
        assert np.array_equal(labels[shift] == 2, PAGES[shift] == 117)


def test_stack_as_zip(client: TestClient) -> None:
    """The archive of everything holds a mask and an overlay of each image, and one preview."""

    response = client.post(URL, files=uploads([tiff(PAGES)]), headers={"Accept": "application/zip"})
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    names = archive.namelist()
    assert sum(name.startswith("masks/") for name in names) == 7
    assert sum(name.startswith("overlays/") for name in names) == 7
    assert "mask.dcm" not in names
    third = cv2.imdecode(
        np.frombuffer(archive.read("masks/0003.png"), np.uint8), cv2.IMREAD_UNCHANGED
    )
    assert np.array_equal(third == 2, PAGES[3] == 117)


def test_sixteen_bits_with_their_window(client: TestClient) -> None:
    """HU + 1024 in 16 bits, as DICOM stores it, by the window that says so."""
    hu = np.rint(PAGES[0] * (200 / 255.0) - 40)
    stored = (hu + 1024).astype(np.uint16)
    window = {"window_lower_hu": -1024, "window_upper_hu": 64511}
    for data in (picture(stored), tiff([stored])):
        assert client.post(URL, files=uploads([data])).json()["code"] == "unsupported_pixels"
        answer = client.post(URL, files=uploads([data]), params=window).json()
        assert answer["findings"]["liver"]["area_px"] == 1600
        assert answer["findings"]["tumor"]["area_px"] == 60
    answer = client.post(URL, files=uploads([tiff([hu.astype(np.int16)])])).json()
    assert answer["findings"]["liver"]["area_px"] == 1600


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("image/tiff", tiff(PAGES[:1])),
        ("image/bmp", picture(PAGES[0], "BMP")),
        ("application/x-tar", tar_named({"a": picture(PAGES[0])})),
        ("application/gzip", tar_named({"a": picture(PAGES[0])}, "w:gz")),
        ("application/x-bzip2", tar_named({"a": picture(PAGES[0])}, "w:bz2")),
    ],
)
def test_plain_bodies(client: TestClient, media_type: str, data: bytes) -> None:
    """Each media type of the contract is taken as a body."""
    response = client.post(URL, content=data, headers={"Content-Type": media_type})
    assert response.status_code == 200, response.text
    assert response.json()["findings"]["liver"]["area_px"] == 1600


def test_study_as_tar(client: TestClient, clean_volume: Volume) -> None:
    """A compressed tar of a study gives what its files give."""
    files = {f"s/{index}": to_bytes(each) for index, each in enumerate(series(clean_volume))}
    by_tar = client.post(URL, files=uploads([tar_named(files, "w:gz")])).json()
    by_files = client.post(URL, files=uploads(list(files.values()))).json()
    assert by_tar["findings"] == by_files["findings"]
