"""Every bad file of the issue: its code and status, and no word of the file in the answer.

The rows that are about files; those about DICOM pixel data and about HTTP have tests of their own.
"""

import bz2
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from fakes import FakeSegmenter
from fastapi.testclient import TestClient
from plain_files import (
    GREY,
    TAR_END,
    many_directories,
    picture,
    quoted_overlap,
    tar_entry,
    tar_named,
    tiff,
    with_flag,
    zip_named,
)

from service.api.app import create_app
from service.phantom_files import PHANTOM_NAME
from service.settings import Settings

HU = np.arange(-1000, 400, 1400 / 24).astype(np.int16).reshape(2, 3, 4)
SECRET = PHANTOM_NAME.encode()
"""Stands wherever a file holds text: in names, comments, descriptions and data."""


def nifti(array: np.ndarray = HU, **fields: object) -> bytes:
    image = nibabel.Nifti1Image(array, np.diag([-2.0, -2.0, 3.0, 1.0]), dtype=array.dtype)
    image.header["descrip"] = SECRET
    data = image.to_bytes()
    header = nibabel.Nifti1Header(data[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + data[348:]


def named(data: bytes) -> dict[str, bytes]:
    return {f"{PHANTOM_NAME}/{PHANTOM_NAME}.png": data}


def damaged_zip() -> bytes:
    data = bytearray(zip_named(named(picture(GREY) * 9)))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


PNG = picture(GREY)
FLOATS = HU.astype(np.float32)

ROWS: dict[str, tuple[bytes | list[bytes], int, str]] = {
    "nothing": (b"", 400, "empty_input"),
    "an empty archive": (zip_named({}), 400, "empty_input"),
    "text": (SECRET, 415, "unknown_format"),
    "encrypted archive": (with_flag(0x1), 400, "unsafe_archive"),
    "AES-encrypted archive": (with_flag(0x1, 99), 400, "unsafe_archive"),
    "strongly encrypted archive": (with_flag(0x41), 400, "unsafe_archive"),
    "nested archive": (zip_named(named(zip_named(named(PNG)))), 400, "unsafe_archive"),
    "tar in a zip": (zip_named(named(tar_named(named(PNG)))), 400, "unsafe_archive"),
    "zip in gzip": (gzip.compress(zip_named(named(PNG))), 400, "unsafe_archive"),
    "names that leave a zip": (zip_named({f"../{PHANTOM_NAME}": PNG}), 400, "unsafe_archive"),
    "names that leave a tar": (tar_named({f"/{PHANTOM_NAME}": PNG}), 400, "unsafe_archive"),
    "overlapping entries": (quoted_overlap(), 400, "unsafe_archive"),
    "sparse tar": (tar_entry(PHANTOM_NAME, kind=b"S") + TAR_END, 400, "unsafe_archive"),
    "rare compression": (with_flag(0, 9), 400, "unsafe_archive"),
    "zip bomb": (zip_named(named(bytes(3_000_000))), 413, "archive_too_large"),
    "gzip bomb": (gzip.compress(bytes(3_000_000)), 413, "archive_too_large"),
    "bzip2 bomb": (bz2.compress(bytes(3_000_000)), 413, "archive_too_large"),
    "tar bomb": (tar_named(named(bytes(3_000_000)), "w:gz"), 413, "archive_too_large"),
    "a million folders": (many_directories(1_000_000), 413, "too_many_files"),
    "empty files": (tar_entry(PHANTOM_NAME) * 51 + TAR_END, 413, "too_many_files"),
    "wrong checksum": (damaged_zip(), 422, "unreadable_file"),
    "cut zip": (zip_named(named(PNG))[:-20], 422, "unreadable_file"),
    "cut tar": (tar_named(named(PNG))[:700], 422, "unreadable_file"),
    "cut gzip": (gzip.compress(PNG)[:-9], 422, "unreadable_file"),
    "tar of terabytes": (tar_entry(PHANTOM_NAME, size=2**33 - 1) + TAR_END, 422, "unreadable_file"),
    "cut image": (PNG[:-40], 422, "unreadable_file"),
    "cut TIFF": (tiff([GREY])[:60], 422, "unreadable_file"),
    "image bomb": (picture(np.zeros((1, 5000), bool)), 413, "too_many_voxels"),
    "bomb of pages": (tiff([GREY] * 51), 413, "too_many_files"),
    "1 x 1 image": (picture(GREY[:1, :1]), 422, "image_too_small"),
    "1 x 1 NIfTI": (nifti(HU[:1, :1]), 422, "image_too_small"),
    "16 bits without a window": (picture(GREY.astype(np.uint16)), 422, "unsupported_pixels"),
    "colour": (picture(np.dstack([GREY, GREY, GREY // 2])), 422, "color_image"),
    "images of two sizes": ([PNG, picture(GREY[1:])], 422, "inconsistent_series"),
    "images of two formats": ([PNG, picture(GREY, "BMP")], 422, "inconsistent_series"),
    "two volumes": ([nifti(), nifti()], 422, "inconsistent_series"),
    "header longer than data": (nifti(dim=[3, 2, 3, 5, 1, 1, 1, 1]), 422, "unreadable_file"),
    "header of many voxels": (nifti(dim=[3, *[32767] * 3, 1, 1, 1, 1]), 413, "too_many_voxels"),
    "header of no dimensions": (nifti(dim=[0] * 8), 422, "unreadable_file"),
    "voxels behind the end": (nifti(vox_offset=1e9), 422, "unreadable_file"),
    "voxels before the start": (nifti(vox_offset=-1), 422, "unreadable_file"),
    "half of a pair": (nifti(magic=b"ni1"), 422, "unreadable_file"),
    "several volumes in time": (nifti(np.stack([HU] * 2, -1)), 422, "unsupported_pixels"),
    "complex values": (nifti(HU.astype(np.complex64)), 422, "unsupported_pixels"),
    "NaN": (nifti(np.where(HU > 300, np.nan, FLOATS)), 422, "unsupported_pixels"),
    "infinity": (nifti(np.where(HU > 300, np.inf, FLOATS)), 422, "unsupported_pixels"),
    "NaN in a TIFF": (tiff([np.where(HU > 300, np.nan, FLOATS)[1]]), 422, "unsupported_pixels"),
    "values from 0 to 1": (nifti((FLOATS + 1000) / 1400), 422, "unsupported_pixels"),
    "values of millions": (nifti(FLOATS * 1e5), 422, "unsupported_pixels"),
    "one value": (nifti(np.zeros_like(HU)), 422, "unsupported_pixels"),
    "NaN in the affine": (nifti(srow_x=[np.nan] * 4), 422, "no_geometry"),
    "sheared axes": (nifti(srow_x=[-2, 1, 0, 0]), 422, "no_geometry"),
}


@pytest.fixture
def client(tmp_path: Path, threshold: FakeSegmenter) -> Iterator[TestClient]:
    """A service that takes 50 files and 2 MB of decompressed data."""
    settings = Settings(data_dir=tmp_path, max_files=50, max_decompressed_bytes=2_000_000)
    with TestClient(create_app(settings, lambda _: threshold)) as running:
        yield running


@pytest.mark.parametrize(("files", "status", "code"), ROWS.values(), ids=ROWS)
def test_bad_file(client: TestClient, files: bytes | list[bytes], status: int, code: str) -> None:
    """A problem with a stable code, in words of the service's own, and the next request is well."""
    parts = files if isinstance(files, list) else [files]
    upload = [("files", (PHANTOM_NAME, data)) for data in parts]
    response = client.post("/v1/segment", files=upload)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert "Expected" in problem["detail"]
    assert "Phantom" not in json.dumps(problem)
    assert client.post("/v1/segment", files={"files": PNG}).status_code == 200
