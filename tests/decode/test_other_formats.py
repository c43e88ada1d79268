"""NIfTI, images and archives, good and bad."""

import contextlib
import gzip
import io
import zipfile
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from dicom_files import to_zip, zip_of
from highdicom import Volume
from PIL import Image

from service.decode import decode
from service.decode.archive import ArchiveLimits
from service.decode.options import DecodeOptions
from service.errors import (
    ArchiveTooLarge,
    BadRequest,
    ColorImage,
    EmptyInput,
    InconsistentSeries,
    NoGeometry,
    TooManyFiles,
    TooManyVoxels,
    UnknownFormat,
    UnreadableFile,
    UnsafeArchive,
    UnsupportedPixels,
)
from service.phantom_files import ct_datasets, nifti_bytes
from service.volume import HounsfieldWindow


def picture(array: np.ndarray, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, image_format, **options)
    return buffer.getvalue()


GREY = np.tile(np.arange(0, 240, 4, dtype=np.uint8), (40, 1))


def test_nifti_in_every_wrapping(clean_volume: Volume, options: DecodeOptions) -> None:
    """Plain, gzipped and zipped NIfTI give the same volume."""
    data = nifti_bytes(clean_volume)
    for wrapped in (data, gzip.compress(data), to_zip([data])):
        assert np.array_equal(decode([wrapped], options).volume.array, clean_volume.array)


def test_nifti_float_and_second_version(clean_volume: Volume, options: DecodeOptions) -> None:
    """NIfTI-2 and floating-point values are rounded to Hounsfield units."""
    affine = np.diag([-2.0, -2.0, 5.0, 1.0])
    array = np.asarray(clean_volume.array).transpose(2, 1, 0)
    image = nibabel.Nifti2Image(array.astype(np.float32) + 0.2, affine)
    assert np.array_equal(decode([image.to_bytes()], options).volume.array, clean_volume.array)


def test_nifti_without_orientation_says_so(clean_volume: Volume, options: DecodeOptions) -> None:
    """Neither sform nor qform: the sides may be exchanged, so the result warns."""
    image = nibabel.Nifti1Image(np.asarray(clean_volume.array).transpose(2, 1, 0), np.eye(4))
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    notices = decode([image.to_bytes()], options).notices
    assert "orientation_unknown" in [notice.code for notice in notices]


@pytest.mark.parametrize(
    ("array", "affine", "error"),
    [
        (np.zeros((4, 4), np.int16), np.eye(4), UnsupportedPixels),
        (np.zeros((4, 4, 4, 2), np.int16), np.eye(4), UnsupportedPixels),
        (np.full((4, 4, 4), np.nan, np.float32), np.eye(4), UnsupportedPixels),
        (np.zeros((4, 4, 4), np.complex64), np.eye(4), UnsupportedPixels),
        (np.zeros((4, 4, 4), np.int16), np.array([[1, 0.5, 0, 0], *np.eye(4)[1:]]), NoGeometry),
        (np.zeros((4, 4, 4), np.int16), np.diag([1.0, 0, 1, 1]), NoGeometry),
    ],
)
def test_bad_nifti(
    array: np.ndarray, affine: np.ndarray, error: type[BadRequest], options: DecodeOptions
) -> None:
    """Wrong dimensions, values and affines are refused by name."""
    image = nibabel.Nifti1Image(array, np.eye(4))
    image.set_sform(affine, code=1)
    with pytest.raises(error):
        decode([image.to_bytes()], options)


@pytest.mark.parametrize("length", [348, 352, 400, 5000])
def test_truncated_nifti(clean_volume: Volume, options: DecodeOptions, length: int) -> None:
    """A NIfTI file cut anywhere is refused."""
    with pytest.raises(UnreadableFile):
        decode([nifti_bytes(clean_volume)[:length]], options)


def test_grey_image_takes_the_model_window(options: DecodeOptions) -> None:
    """Grey 0 and 255 are the window's ends, and the result warns that this was assumed."""
    scan = decode([picture(np.array([[0, 255], [51, 102]], np.uint8))], options)
    assert scan.volume.array.tolist() == [[[-40, 160], [0, 40]]]
    assert [notice.code for notice in scan.notices] == ["window_assumed", "spacing_unknown"]


def test_image_window_and_spacing_of_the_request(options: DecodeOptions) -> None:
    """With a window nothing is assumed; with a spacing areas are known, volumes are not."""
    asked = replace(
        options,
        image_window=HounsfieldWindow(lower_hu=-100, upper_hu=155),
        pixel_spacing_mm=0.7,
    )
    scan = decode([picture(np.array([[0, 255]], np.uint8))], asked)
    assert scan.volume.array.tolist() == [[[-100, 155]]]
    assert [notice.code for notice in scan.notices] == ["thickness_unknown"]
    assert scan.source.pixel_spacing_mm == (0.7, 0.7)


@pytest.mark.parametrize(
    "data",
    [
        picture(GREY, "JPEG", quality=95),
        picture(np.stack([GREY] * 3, axis=-1)),
        picture(np.stack([GREY] * 3, axis=-1), "JPEG"),
        picture(np.stack([GREY] * 3 + [np.full_like(GREY, 255)], axis=-1)),
    ],
    ids=["jpeg", "grey as rgb", "grey as colour jpeg", "grey as rgba"],
)
def test_grey_in_every_wrapping(data: bytes, options: DecodeOptions) -> None:
    """Grey images saved with colour channels are grey images; 2 HU is JPEG's loss."""
    found = decode([data], options).volume.array[0]
    assert np.abs(found - (GREY * (200 / 255) - 40)).max() < 4


def test_bad_images(options: DecodeOptions) -> None:
    """Colour, 16 bits, too many pixels and a cut file are refused by name."""
    color = np.zeros((8, 8, 3), np.uint8)
    color[2:4, :, 0] = 200
    with pytest.raises(ColorImage):
        decode([picture(color)], options)
    with pytest.raises(UnsupportedPixels):
        decode([picture(np.zeros((8, 8), np.uint16))], options)
    with pytest.raises(TooManyVoxels):
        decode([picture(GREY)], replace(options, max_voxels=GREY.size - 1))
    with pytest.raises(UnreadableFile):
        decode([picture(GREY)[:60]], options)
    with pytest.raises(InconsistentSeries):
        decode([picture(GREY), picture(GREY)], options)


def test_empty_and_unknown(options: DecodeOptions) -> None:
    """Nothing, an empty zip and a text have answers of their own."""
    for nothing in ([], [b""], [to_zip([])], [to_zip([b""])]):
        with pytest.raises(EmptyInput):
            decode(nothing, options)
    with pytest.raises(UnknownFormat):
        decode([b"Dear colleague, please find enclosed"], options)


def test_archive_limits(clean_volume: Volume, options: DecodeOptions) -> None:
    """Files and decompressed bytes are counted over the whole request, on what really comes out."""
    archive = zip_of(ct_datasets(clean_volume[:5]))
    with pytest.raises(TooManyFiles):
        decode([archive], replace(options, archive=ArchiveLimits(4, 1 << 30)))
    with pytest.raises(ArchiveTooLarge):
        decode([archive], replace(options, archive=ArchiveLimits(10, 50_000)))
    bomb = gzip.compress(bytes(20_000_000))
    assert len(bomb) < 30_000
    with pytest.raises(ArchiveTooLarge):
        decode([bomb], replace(options, archive=ArchiveLimits(10, 10_000_000)))


def test_zip_that_lies_about_its_size(options: DecodeOptions) -> None:
    """A header that declares few bytes does not let many through."""
    data = bytearray(to_zip([bytes(20_000_000)]))
    honest = (20_000_000).to_bytes(4, "little")
    while (at := data.find(honest)) >= 0:
        data[at : at + 4] = (10).to_bytes(4, "little")
    with pytest.raises(BadRequest):
        decode([bytes(data)], replace(options, archive=ArchiveLimits(10, 10_000_000)))


@pytest.mark.parametrize("name", ["../slice.dcm", "/etc/slice", "a/../../b", "..\\b", "C:/b"])
def test_names_that_leave_the_archive(options: DecodeOptions, name: str) -> None:
    """Nothing is ever written, yet such an archive is refused."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, picture(GREY))
    with pytest.raises(UnsafeArchive):
        decode([buffer.getvalue()], options)


def test_damaged_archives(clean_volume: Volume, options: DecodeOptions) -> None:
    """A zip or gzip cut or changed anywhere is refused."""
    archive = zip_of(ct_datasets(clean_volume[:2]))
    changed = bytearray(archive)
    changed[len(archive) // 3] ^= 0xFF
    for data in (archive[:200], archive[:-30], bytes(changed), gzip.compress(b"x" * 999)[:20]):
        with pytest.raises(BadRequest):
            decode([data], options)


def test_compressed_nifti_inside_a_zip(clean_volume: Volume, options: DecodeOptions) -> None:
    """A .nii.gz in a zip is opened; an archive in an archive is refused in words."""
    packed = gzip.compress(nifti_bytes(clean_volume))
    scan = decode([to_zip([packed])], options)
    assert np.array_equal(scan.volume.array, clean_volume.array)
    with pytest.raises(UnreadableFile, match="another archive"):
        decode([to_zip([to_zip([b"x"])])], options)
    with pytest.raises(UnreadableFile, match="archive inside"):
        decode([gzip.compress(to_zip([b"x"]))], options)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_damaged_archive_of_other_methods(options: DecodeOptions, method: int) -> None:
    """Whatever compresses a zip, damage to it is a refusal."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a", picture(GREY) * 20)
    for place in range(32, 70, 3):
        data = bytearray(buffer.getvalue())
        data[place] ^= 0xFF
        with contextlib.suppress(BadRequest):  # some bytes do not matter; none may do worse
            decode([bytes(data)], options)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3)])
def test_nifti_in_other_units(
    clean_volume: Volume, options: DecodeOptions, unit: str, factor: float
) -> None:
    """A file in metres or microns gives millimetres; one that only says so stays as it is."""
    for scale in (factor, 1.0):
        affine = np.diag([-4.0 * scale, -4.0 * scale, 5.0 * scale, 1.0])
        image = nibabel.Nifti1Image(np.asarray(clean_volume.array).transpose(2, 1, 0), affine)
        image.header.set_xyzt_units(unit)
        spacing = decode([image.to_bytes()], options).volume.spacing
        assert spacing == pytest.approx((5, 4, 4), rel=1e-5)
