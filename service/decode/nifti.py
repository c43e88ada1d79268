"""NIfTI to a scan: the header by nibabel, the voxels straight from the file's bytes."""

from dataclasses import dataclass

import nibabel
import numpy as np
from highdicom import Volume
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from service.decode.hounsfield import check_range, rounded
from service.decode.options import DecodeOptions
from service.errors import NoGeometry, TooManyVoxels, UnreadableFile, UnsupportedPixels
from service.notices import Notice
from service.volume import (
    SPACING_MM,
    Affine,
    LengthUnit,
    NiftiGrid,
    Scan,
    SourceReference,
    is_spacing,
)

_UNITS: dict[int, LengthUnit] = {1: "meter", 3: "micron"}
"""By the lower three bits of xyzt_units; everything else is taken as millimetres."""

_MM: dict[LengthUnit, float] = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}

_MOST_DIMENSIONS = 7

_FARTHEST = 1e9
"""Of any number in an affine, whatever its unit."""

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

_SKEW_TOLERANCE = 1e-3
"""Cosine between two axes that still counts as a right angle: rounding of qform's float32."""


@dataclass(frozen=True)
class _Header:
    """What is used of a header, checked.

    `shape` is [i, j, k], `file_shape` as the file has it; stored values times `slope` plus
    `intercept` are the file's values.
    """

    shape: tuple[int, int, int]
    file_shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    offset: int
    slope: float
    intercept: float
    affine_ras: Affine
    unit: LengthUnit
    knows_orientation: bool


def read(data: bytes, options: DecodeOptions) -> Scan:
    """A NIfTI-1 or NIfTI-2 file as Hounsfield units, int16 [slice, row, column].

    Slices lie along the file's third axis, rows along its second, columns along its first; further
    axes have length 1, and a file of two axes is one slice of unknown thickness. The sform places
    the volume, without it the qform. Raises `UnreadableFile`, `TooManyVoxels`, `UnsupportedPixels`
    for values that are no Hounsfield units or no three-dimensional image, and `NoGeometry` for axes
    that are not at right angles.
    """
    header = _header(data, options.max_voxels)
    slice_is_known, affine_lps = _affine(header)
    affine = affine_lps[:, [2, 1, 0, 3]]
    hu = _hounsfield_units(data, header)
    about_range = check_range(hu)
    reversed_slices = _points_down(affine[:3, 0])
    volume = Volume(hu, affine, "PATIENT")
    if reversed_slices:
        volume = volume.flip_spatial(0)
    spacing = volume.spacing
    source = SourceReference(
        format="nifti",
        pixel_spacing_mm=(float(spacing[1]), float(spacing[2])),
        slice_spacing_mm=float(spacing[0]) if slice_is_known else None,
        grid=NiftiGrid(
            affine_ras=header.affine_ras,
            unit=header.unit,
            placed=header.knows_orientation,
            reversed_slices=reversed_slices,
            shape=header.file_shape,
        ),
    )
    return Scan(volume, source, (*_notices(header, slice_is_known), *about_range))


def _header(data: bytes, max_voxels: int) -> _Header:
    is_second = data[4:7] in (b"n+2", b"ni2")
    header_class = nibabel.Nifti2Header if is_second else nibabel.Nifti1Header
    size = header_class.template_dtype.itemsize
    if len(data) < size:
        raise UnreadableFile("Expected a whole NIfTI file, found its header cut.")
    # Unchecked: nibabel's checks mend silently and log; what is used is checked here.
    fields = header_class(data[:size], check=False)
    if bytes(fields["magic"])[:2] == b"ni":
        raise UnreadableFile(
            "Expected a NIfTI file that holds its voxels (.nii), found the header of a .hdr/.img "
            "pair."
        )
    file_shape = _file_shape(fields)
    shape = _shape(file_shape, max_voxels)
    dtype = _dtype(fields)
    offset = _offset(fields, size)
    if offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize > len(data):
        raise UnreadableFile("Expected a whole NIfTI file, found too little image data.")
    slope, intercept = _scaling(fields)
    return _Header(
        shape=shape,
        file_shape=file_shape,
        dtype=dtype,
        offset=offset,
        slope=slope,
        intercept=intercept,
        affine_ras=_affine_ras(fields),
        unit=_UNITS.get(int(fields["xyzt_units"]) % 8, "mm"),
        knows_orientation=int(fields["sform_code"]) > 0 or int(fields["qform_code"]) > 0,
    )


def _file_shape(fields: nibabel.Nifti1Header) -> tuple[int, ...]:
    dimensions = int(fields["dim"][0])
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise UnreadableFile(
            f"Expected 1 to {_MOST_DIMENSIONS} dimensions in the NIfTI header, found {dimensions}."
        )
    shape = tuple(int(length) for length in fields["dim"][1 : dimensions + 1])
    if min(shape) < 1:
        raise UnreadableFile(f"Expected axes of at least one voxel, found {shape}.")
    return shape


def _shape(file_shape: tuple[int, ...], max_voxels: int) -> tuple[int, int, int]:
    further = [length for length in file_shape[3:] if length != 1]
    if len(file_shape) < 2 or further:
        raise UnsupportedPixels(f"Expected one volume of three dimensions, found {file_shape}.")
    columns, rows, slices = (*file_shape, 1)[:3]
    if columns * rows * slices > max_voxels:
        raise TooManyVoxels(f"Expected at most {max_voxels} voxels, found {file_shape}.")
    return columns, rows, slices


def _dtype(fields: nibabel.Nifti1Header) -> np.dtype[np.generic]:
    try:
        dtype: np.dtype[np.generic] = np.dtype(fields.get_data_dtype())
    except (HeaderDataError, KeyError) as error:
        raise UnsupportedPixels("Expected a data type of NIfTI, found another code.") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise UnsupportedPixels(
            "Expected integer or floating-point values of at most 64 bits, found another kind."
        )
    return dtype


def _offset(fields: nibabel.Nifti1Header, header_bytes: int) -> int:
    """Where the voxels begin: after the header and four bytes that tell of extensions."""
    offset = float(fields["vox_offset"])
    if not header_bytes + 4 <= offset < 2**62:  # false for NaN too
        raise UnreadableFile(f"Expected voxels behind the NIfTI header, found an offset {offset}.")
    return int(offset)


def _scaling(fields: nibabel.Nifti1Header) -> tuple[float, float]:
    """Slope and intercept; a slope of zero, or none, stands for no scaling."""
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0
    if not np.isfinite([slope, intercept]).all():
        raise UnsupportedPixels("Expected a finite scl_slope and scl_inter, found others.")
    return slope, intercept


def _affine_ras(fields: nibabel.Nifti1Header) -> Affine:
    # By the standard everything but a negative number stands for a right-handed qform.
    fields["pixdim"][0] = -1 if fields["pixdim"][0] < 0 else 1
    try:
        with np.errstate(all="ignore"):
            affine = np.asarray(fields.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise NoGeometry("Expected a qform that is a rotation, found another.") from error
    if not np.isfinite(affine).all() or np.abs(affine).max() > _FARTHEST:
        raise NoGeometry("Expected a finite sform or qform, found another.")
    return affine


def _hounsfield_units(data: bytes, header: _Header) -> NDArray[np.int16]:
    """int16 [k, j, i], made slice by slice: scaled values are 64-bit numbers."""
    shape = header.shape[::-1]
    stored = np.frombuffer(
        data, header.dtype, count=int(np.prod(shape, dtype=np.int64)), offset=header.offset
    ).reshape(shape)
    hu = np.empty(shape, dtype=np.int16)
    is_scaled = (header.slope, header.intercept) != (1.0, 0.0)
    for k, plane in enumerate(stored):
        values = plane.astype(plane.dtype.newbyteorder("="), copy=False)
        if is_scaled:
            with np.errstate(over="ignore", invalid="ignore"):  # `rounded` refuses what overflows
                values = values * np.float64(header.slope) + header.intercept
        hu[k] = rounded(values)
    return hu


def _affine(header: _Header) -> tuple[bool, Affine]:
    """Whether the slices' spacing is known, and the affine to LPS millimetres.

    Where it is not, as in a file of two axes, the third is a normal of 1 mm.
    """
    affine = LPS_FROM_RAS @ _in_mm(header)
    across = np.cross(affine[:3, 0], affine[:3, 1])
    length = np.linalg.norm(across)
    is_single = header.shape[2] == 1 and length > 0
    is_known = len(header.file_shape) > 2 and is_spacing(float(np.linalg.norm(affine[:3, 2])))
    if is_single and not is_known:
        turn = -1 if affine[:3, 2] @ across < 0 else 1
        affine[:3, 2] = turn * across / length
        return False, _right_angled(affine)
    return True, _right_angled(affine)


def _in_mm(header: _Header) -> Affine:
    """The affine in millimetres: a file in metres or microns is scaled, if that makes sense of it.

    Many files name a unit that they do not use, so the unit counts only where millimetres cannot be
    right.
    """
    affine, factor = header.affine_ras, _MM[header.unit]
    scaled = np.diag([factor, factor, factor, 1.0]) @ affine
    plausible = [is_spacing(np.linalg.norm(each[:3, :2], axis=0)) for each in (affine, scaled)]
    return scaled if plausible == [False, True] else affine


def _right_angled(affine: Affine) -> Affine:
    """The nearest affine whose axes are at right angles. Raises `NoGeometry` if it is not near."""
    axes = affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not is_spacing(lengths):
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


def _notices(header: _Header, slice_is_known: bool) -> tuple[Notice, ...]:
    notices = []
    if not header.knows_orientation:
        text = "The NIfTI file has neither an sform nor a qform: sides may be exchanged."
        notices.append(Notice("orientation_unknown", text))
    if not slice_is_known:
        text = "The NIfTI slice has no thickness: volumes are null."
        notices.append(Notice("thickness_unknown", text))
    return tuple(notices)
