"""NIfTI of every version, type, scaling and place; and headers that lie."""

import gzip
import struct
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from conftest import ORIENTATIONS
from dicom_files import to_zip
from highdicom import Volume

from service.decode import decode
from service.decode.options import DecodeOptions
from service.errors import (
    BadRequest,
    ImageTooSmall,
    InconsistentSeries,
    NoGeometry,
    TooManyVoxels,
    UnreadableFile,
    UnsupportedPixels,
)
from service.phantom_files import nifti_bytes

VALUES = np.arange(-1000, -1000 + 24 * 50, 50, dtype=np.int16).reshape(2, 3, 4)
"""Hounsfield units [i, j, k] from -1000 to 150."""

AFFINE = np.diag([-2.0, -3.0, 4.0, 1.0])


def nifti(array: np.ndarray = VALUES, version: int = 1, **fields: object) -> bytes:
    """A file of the array [i, j, k]; `fields` replace those of its header."""
    image_class = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    data = bytearray(image_class(array, AFFINE, dtype=array.dtype).to_bytes())
    header_class = image_class.header_class
    size = header_class.template_dtype.itemsize
    header = header_class(bytes(data[:size]), check=False)
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + bytes(data[size:])


def as_decoded(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 1, 0)


def codes(data: bytes, options: DecodeOptions) -> list[str]:
    return [notice.code for notice in decode([data], options).notices]


def test_every_wrapping(clean_volume: Volume, options: DecodeOptions) -> None:
    """Plain, gzipped and zipped NIfTI give the same volume."""
    data = nifti_bytes(clean_volume)
    for wrapped in (data, gzip.compress(data), to_zip([data])):
        assert np.array_equal(decode([wrapped], options).volume.array, clean_volume.array)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["i2", "i4", "i8", "f4", "f8"])
def test_signed_types(version: int, order: str, dtype: str, options: DecodeOptions) -> None:
    """Both versions, both byte orders, every signed and floating-point type."""
    image_class = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    header = image_class.header_class(endianness=order)
    header.set_data_dtype(dtype)
    data = image_class(VALUES.astype(order + dtype), AFFINE, header).to_bytes()
    scan = decode([data], options)
    assert np.array_equal(scan.volume.array, as_decoded(VALUES))
    assert scan.volume.spacing == pytest.approx((4, 3, 2))
    assert scan.notices == decode([nifti()], options).notices


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "u4", "u8"])
def test_scaled_types(dtype: str, options: DecodeOptions) -> None:
    """Types that hold no HU by themselves hold them by slope and intercept, exactly."""
    stored = ((VALUES.astype(np.int64) + 1000) // 50).astype(dtype)
    data = nifti(stored, scl_slope=50, scl_inter=-1000)
    assert np.array_equal(decode([data], options).volume.array, as_decoded(VALUES))


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [
        (0, 7, VALUES),
        (np.nan, np.nan, VALUES),
        (1, 0, VALUES),
        (-1, 0, -VALUES),
        (0.5, 0.25, np.rint(VALUES * 0.5 + 0.25)),
        (100, 0, np.clip(VALUES.astype(int) * 100, -1024, 32767)),
    ],
)
def test_scaling(
    slope: float, intercept: float, expected: np.ndarray, options: DecodeOptions
) -> None:
    """A slope of zero or NaN is none; others scale, and what leaves the CT scale is clipped."""
    data = nifti(scl_slope=slope, scl_inter=intercept)
    assert np.array_equal(decode([data], options).volume.array, as_decoded(expected))


@pytest.mark.parametrize("padding", [-32768.0, -3024.0, -1e30])
def test_low_values_are_padding(padding: float, options: DecodeOptions) -> None:
    """What lies far below air is what a program put where there was nothing."""
    values = VALUES.astype(np.float32)
    values[0, 0, 0] = padding
    assert decode([nifti(values)], options).volume.array[0, 0, 0] == -1024


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation(clean_volume: Volume, options: DecodeOptions, orientation: str) -> None:
    """Whatever the axes, the values stand at the same places of the patient."""
    part = clean_volume[10:13, 20:50, 30:70]
    turned = part.to_patient_orientation(orientation)
    scan = decode([nifti_bytes(turned)], options)
    back = scan.volume.to_patient_orientation("HPL")
    assert np.array_equal(back.array, part.array)
    assert back.affine == pytest.approx(part.affine, abs=1e-3)


def test_sform_wins_over_qform(options: DecodeOptions) -> None:
    """Where both are given and disagree, the sform places the volume; else the one there is."""
    image = nibabel.Nifti1Image(VALUES, None)
    other = np.diag([-5.0, -5.0, 5.0, 1.0])
    for sform_code, qform_code, expected in (
        (1, 1, (4, 3, 2)),
        (1, 0, (4, 3, 2)),
        (0, 1, (5, 5, 5)),
    ):
        image.set_sform(AFFINE, code=sform_code)
        image.set_qform(other, code=qform_code)
        assert decode([image.to_bytes()], options).volume.spacing == pytest.approx(expected)


def test_without_orientation(options: DecodeOptions) -> None:
    """Neither sform nor qform: the sides may be exchanged, so the result warns."""
    assert "orientation_unknown" not in codes(nifti(), options)
    assert "orientation_unknown" in codes(nifti(sform_code=0, qform_code=0), options)


@pytest.mark.parametrize(("written", "meant"), [(0, 1), (-2, -1)])
def test_qform_of_an_odd_handedness(options: DecodeOptions, written: float, meant: float) -> None:
    """pixdim[0] is 1 or -1; of anything else only the sign counts, as the standard says."""
    image = nibabel.Nifti1Image(VALUES, None)
    image.set_qform(AFFINE, code=1)
    pixdim = image.header["pixdim"][1:].tolist()
    odd, plain = (
        nifti(sform_code=0, qform_code=1, quatern_d=1, pixdim=[sign, *pixdim])
        for sign in (written, meant)
    )
    expected = decode([plain], options).volume
    assert decode([odd], options).volume.affine == pytest.approx(expected.affine)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3)])
def test_other_units(
    clean_volume: Volume, options: DecodeOptions, unit: str, factor: float
) -> None:
    """A file in metres or microns gives millimetres; one that only says so stays as it is."""
    for scale in (factor, 1.0):
        affine = np.diag([-4.0 * scale, -4.0 * scale, 5.0 * scale, 1.0])
        image = nibabel.Nifti1Image(np.asarray(clean_volume.array).transpose(2, 1, 0), affine)
        image.header.set_xyzt_units(unit)
        spacing = decode([image.to_bytes()], options).volume.spacing
        assert spacing == pytest.approx((5, 4, 4), rel=1e-5)


def test_axes_of_length_one(options: DecodeOptions) -> None:
    """One volume of a series in time is a volume; two axes are a slice of unknown thickness."""
    expected = as_decoded(VALUES)
    assert np.array_equal(decode([nifti(VALUES[..., None])], options).volume.array, expected)
    assert np.array_equal(
        decode([nifti(VALUES[..., None, None, None, None])], options).volume.array, expected
    )
    flat = decode([nifti(VALUES[..., 0])], options)
    assert np.array_equal(flat.volume.array, expected[:1])
    assert flat.source.slice_spacing_mm is None
    assert flat.source.pixel_spacing_mm == pytest.approx((3, 2))
    assert "thickness_unknown" in [notice.code for notice in flat.notices]
    single = decode([nifti(VALUES[..., :1])], options)
    assert single.source.slice_spacing_mm == pytest.approx(4)


def test_one_slice_without_thickness(options: DecodeOptions) -> None:
    """A third axis of no length is that of a slice whose thickness nobody knows."""
    flat = nifti(VALUES[..., :1], srow_z=[0, 0, 0, 7])
    scan = decode([flat], options)
    assert scan.source.slice_spacing_mm is None
    assert np.linalg.det(scan.volume.affine[:3, :3]) != 0
    with pytest.raises(NoGeometry):
        decode([nifti(srow_z=[0, 0, 0, 7])], options)


def test_values_that_hardly_are_hounsfield_units(options: DecodeOptions) -> None:
    """Grey values, or raw ones without air, are answered with a warning."""
    for values in (VALUES + 1000, VALUES - 200, (VALUES + 1000).astype(np.uint16)):
        assert "hu_range_unusual" in codes(nifti(values), options)
    assert "hu_range_unusual" not in codes(nifti(), options)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(VALUES.shape, np.int16),
        np.full(VALUES.shape, -1000, np.int16),
        (VALUES > -500).astype(np.uint8) * 2,
        np.linspace(0, 1, VALUES.size).reshape(VALUES.shape),
        np.linspace(-3, 3, VALUES.size, dtype=np.float32).reshape(VALUES.shape),
        VALUES * 1e5,
        VALUES.astype("<f4").view(">f4").astype("f4"),
    ],
    ids=["zeros", "air", "label map", "scaled to 0..1", "unit variance", "millions",
         "wrong byte order"],
)  # fmt: skip
def test_values_that_cannot_be_hounsfield_units(values: np.ndarray, options: DecodeOptions) -> None:
    """No tissues could be told apart in them, or they are beyond any: refused."""
    with pytest.raises(UnsupportedPixels, match="Hounsfield units"):
        decode([nifti(values)], options)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value: float, options: DecodeOptions) -> None:
    """A single voxel that is no number refuses the file."""
    values = VALUES.astype(np.float32)
    values[1, 1, 1] = value
    with pytest.raises(UnsupportedPixels, match="finite"):
        decode([nifti(values)], options)
    with pytest.raises(UnsupportedPixels, match=r"finite|Hounsfield"):
        decode([nifti(np.full(VALUES.shape, 3e38, np.float32), scl_slope=3e38)], options)


RGB = np.zeros((2, 3, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (nifti(np.stack([VALUES] * 2, axis=-1)), UnsupportedPixels),
        (nifti(VALUES.reshape(24, 1, 1)[:, 0, 0]), UnsupportedPixels),
        (nifti(VALUES.astype(np.complex64)), UnsupportedPixels),
        (nifti(RGB), UnsupportedPixels),
        (nifti(datatype=1536), UnsupportedPixels),
        (nifti(datatype=1), UnsupportedPixels),
        (nifti(datatype=9999), UnsupportedPixels),
        (nifti(scl_slope=np.inf), UnsupportedPixels),
        (nifti(scl_slope=1, scl_inter=np.nan), UnsupportedPixels),
        (nifti(dim=[0, 2, 3, 4, 1, 1, 1, 1]), UnreadableFile),
        (nifti(dim=[8, 2, 3, 4, 1, 1, 1, 1]), UnreadableFile),
        (nifti(dim=[3, 2, -3, 4, 1, 1, 1, 1]), UnreadableFile),
        (nifti(dim=[3, 2, 0, 4, 1, 1, 1, 1]), UnreadableFile),
        (nifti(dim=[3, 2, 3, 5, 1, 1, 1, 1]), UnreadableFile),
        (nifti(dim=[3, 300, 300, 290, 1, 1, 1, 1]), UnreadableFile),
        (nifti(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]), TooManyVoxels),
        (nifti(version=2, dim=[3, 2**62, 2**62, 2**62, 1, 1, 1, 1]), TooManyVoxels),
        (nifti(datatype=64), UnreadableFile),
        (nifti(vox_offset=1e30), UnreadableFile),
        (nifti(vox_offset=353), UnreadableFile),
        (nifti(vox_offset=-352), UnreadableFile),
        (nifti(vox_offset=0), UnreadableFile),
        (nifti(vox_offset=348), UnreadableFile),
        (nifti(vox_offset=np.nan), UnreadableFile),
        (nifti(vox_offset=np.inf), UnreadableFile),
        (nifti(version=2, vox_offset=2**62), UnreadableFile),
        (nifti(version=2, vox_offset=-544), UnreadableFile),
        (nifti(magic=b"ni1"), UnreadableFile),
        (nifti(version=2, magic=b"ni2"), UnreadableFile),
        (nifti(srow_x=[np.nan, 0, 0, 0]), NoGeometry),
        (nifti(srow_x=[-2, 0, 0, np.inf]), NoGeometry),
        (nifti(srow_x=[-1e30, 0, 0, 0]), NoGeometry),
        (nifti(srow_x=[0, 0, 0, 0]), NoGeometry),
        (nifti(srow_x=[-2, 1, 0, 0]), NoGeometry),
        (nifti(sform_code=0, qform_code=1, quatern_b=2), NoGeometry),
        (nifti(sform_code=0, qform_code=1, quatern_b=3e38), NoGeometry),
        (nifti(sform_code=0, qform_code=1, quatern_b=np.nan), NoGeometry),
        (nifti(sform_code=0, qform_code=1, pixdim=[1, -2, 3, 4, 0, 0, 0, 0]), NoGeometry),
        (nifti(sform_code=0, qform_code=0, pixdim=[1, 3e38, 3, 4, 0, 0, 0, 0]), NoGeometry),
        (nifti(VALUES[:1, :1]), ImageTooSmall),
        (nifti(VALUES[:, :1, 0]), ImageTooSmall),
    ],
)
def test_bad_headers(data: bytes, error: type[BadRequest], options: DecodeOptions) -> None:
    """Each field that lies has its refusal; nothing is allocated on its word."""
    with pytest.raises(error):
        decode([data], options)


def test_negative_voxel_sizes_beside_an_sform(options: DecodeOptions) -> None:
    """With an sform nothing is read from pixdim, nor is an unknown unit or intent."""
    data = nifti(pixdim=[7, -2, np.nan, 0, 0, 0, 0, 0], xyzt_units=255, intent_code=-5)
    assert np.array_equal(decode([data], options).volume.array, as_decoded(VALUES))


def test_extensions_are_skipped(options: DecodeOptions) -> None:
    """Extensions, which may hold a patient's DICOM header, are not read, whatever they claim."""
    plain = nifti()
    for size in (16, 0, -1, 2**31 - 1):
        extension = struct.pack("<ii", size, 2) + b"Phantom^Petra"
        data = nifti(vox_offset=352 + len(extension))
        data = data[:348] + b"\1\0\0\0" + extension + plain[352:]
        assert np.array_equal(decode([data], options).volume.array, as_decoded(VALUES))


@pytest.mark.parametrize("length", [347, 348, 352, 400, 5000])
def test_truncated(clean_volume: Volume, options: DecodeOptions, length: int) -> None:
    """A NIfTI file cut anywhere is refused."""
    with pytest.raises(UnreadableFile):
        decode([nifti_bytes(clean_volume)[:length]], options)


def test_several_files(options: DecodeOptions) -> None:
    """Two volumes in one request are two requests."""
    with pytest.raises(InconsistentSeries, match="2 NIFTI"):
        decode([nifti(), nifti()], options)


def test_voxels_and_sides_are_bounded(options: DecodeOptions) -> None:
    """The file's voxels, and the sides of the slices that the model will see."""
    with pytest.raises(TooManyVoxels):
        decode([nifti()], replace(options, max_voxels=VALUES.size - 1))
    long_side = np.tile(VALUES, (1, 1500, 1))
    with pytest.raises(TooManyVoxels, match="a side"):
        decode([nifti(long_side)], options)
