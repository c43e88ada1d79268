"""NIfTI to a scan."""

import nibabel
import numpy as np
from highdicom import Volume
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from service.decode.options import DecodeOptions
from service.errors import NoGeometry, TooManyVoxels, UnreadableFile, UnsupportedPixels
from service.notices import Notice
from service.volume import (
    AIR_HU,
    SPACING_MM,
    Affine,
    NiftiGrid,
    Scan,
    SourceReference,
    is_spacing,
)

_MM = {"meter": 1000.0, "micron": 0.001}

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

_SKEW_TOLERANCE = 1e-3
"""Cosine between two axes that still counts as a right angle: rounding of qform's float32."""


def read(data: bytes, options: DecodeOptions) -> Scan:
    """A NIfTI-1 or NIfTI-2 file as Hounsfield units, int16 [slice, row, column].

    Slices lie along the file's third axis, rows along its second, columns along its first. Raises
    `UnreadableFile`, `TooManyVoxels`, `UnsupportedPixels` for values that are no numbers or no
    three-dimensional image, and `NoGeometry` for axes that are not at right angles.
    """
    image = _open(data)
    shape = tuple(size for axis, size in enumerate(image.shape) if axis < 3 or size != 1)
    if len(shape) != 3 or 0 in shape:
        raise UnsupportedPixels(
            f"Expected three dimensions, found {len(image.shape)}: {image.shape}."
        )
    if np.prod(shape, dtype=np.int64) > options.max_voxels:
        raise TooManyVoxels(f"Expected at most {options.max_voxels} voxels, found {shape}.")
    affine_ras = np.asarray(image.affine, dtype=np.float64)
    hu = _hounsfield_units(image, shape).transpose(2, 1, 0)
    affine = _right_angled(LPS_FROM_RAS @ _in_mm(image))[:, [2, 1, 0, 3]]
    reversed_slices = _points_down(affine[:3, 0])
    volume = Volume(hu, affine, "PATIENT")
    if reversed_slices:
        volume = volume.flip_spatial(0)
    spacing = volume.spacing
    source = SourceReference(
        format="nifti",
        pixel_spacing_mm=(float(spacing[1]), float(spacing[2])),
        slice_spacing_mm=float(spacing[0]),
        grid=NiftiGrid(affine_ras, reversed_slices, tuple(image.shape)),
    )
    return Scan(volume, source, _notices(image, hu))


def _open(data: bytes) -> nibabel.Nifti1Image:
    image_class = nibabel.Nifti2Image if data[4:7] in (b"n+2", b"ni2") else nibabel.Nifti1Image
    try:
        return image_class.from_bytes(data)
    except (ImageFileError, HeaderDataError, OSError, ValueError, KeyError, OverflowError) as error:
        raise UnreadableFile("Expected a whole NIfTI file, found a damaged header.") from error


def _hounsfield_units(image: nibabel.Nifti1Image, shape: tuple[int, ...]) -> NDArray[np.int16]:
    if image.get_data_dtype().kind not in "iuf":
        raise UnsupportedPixels("Expected integer or floating-point values, found another kind.")
    hu = np.empty(shape, dtype=np.int16)
    try:
        for k in range(shape[2]):  # slice by slice: scaled values are 64-bit numbers
            hu[..., k] = _rounded(np.asarray(image.dataobj[:, :, k]).reshape(shape[:2]))
    except (OSError, ValueError, EOFError, OverflowError) as error:
        raise UnreadableFile("Expected a whole NIfTI file, found too little image data.") from error
    return hu


def _rounded(values: NDArray[np.generic]) -> NDArray[np.int16]:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UnsupportedPixels("Expected finite values, found some that are not.")
    clipped = np.clip(values, AIR_HU, np.iinfo(np.int16).max)
    return np.asarray(np.rint(clipped) if values.dtype.kind == "f" else clipped, dtype=np.int16)


def _in_mm(image: nibabel.Nifti1Image) -> Affine:
    """The affine in millimetres: a file in metres or microns is scaled, if that makes sense of it.

    Many files name a unit that they do not use, so the unit counts only where millimetres cannot be
    right.
    """
    affine = np.asarray(image.affine, dtype=np.float64)
    factor = _MM.get(image.header.get_xyzt_units()[0], 1.0)
    scaled = np.diag([factor, factor, factor, 1.0]) @ affine
    plausible = [is_spacing(np.linalg.norm(each[:3, :3], axis=0)) for each in (affine, scaled)]
    return scaled if plausible == [False, True] else affine


def _right_angled(affine: Affine) -> Affine:
    """The nearest affine whose axes are at right angles. Raises `NoGeometry` if it is not near."""
    axes = affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all() or not is_spacing(lengths):
        raise NoGeometry(
            f"Expected voxels of {SPACING_MM[0]} to {SPACING_MM[1]} mm, found an affine of others."
        )
    directions = axes / lengths
    if np.abs(directions.T @ directions - np.eye(3)).max() > _SKEW_TOLERANCE:
        raise NoGeometry("Expected axes at right angles, found a sheared affine.")
    left, _, right = np.linalg.svd(directions)
    squared = affine.copy()
    squared[:3, :3] = (left @ right) * lengths
    return squared


def _points_down(step: NDArray[np.float64]) -> bool:
    return bool(step[np.abs(step).argmax()] < 0)


def _notices(image: nibabel.Nifti1Image, hu: NDArray[np.int16]) -> tuple[Notice, ...]:
    notices = []
    if not (int(image.header["sform_code"]) or int(image.header["qform_code"])):
        text = "The NIfTI file has neither an sform nor a qform: sides may be exchanged."
        notices.append(Notice("orientation_unknown", text))
    if hu.min() > -200 or hu.max() < 0:
        text = f"The values run from {hu.min()} to {hu.max()}; a CT holds air and tissue."
        notices.append(Notice("hu_range_unusual", text))
    return tuple(notices)
