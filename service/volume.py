"""The scan that flows through the service, and helpers on `highdicom.Volume`.

Volumes are [slice, row, column] in the source's own slices, with an LPS affine in millimetres, and
slice 0 is the one nearest to the patient's feet (right side, front) for slices that are closest to
axial (sagittal, coronal).
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Self

import numpy as np
from highdicom import Volume
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator
from pydicom import Dataset

from service.irregular import Irregular
from service.notices import Notice

LIVER_LABEL = 1
TUMOR_LABEL = 2
"""What a label map holds beside 0, the background: liver without lesions, and tumour."""

CANONICAL = "HPL"
"""The model's orientation: slices towards the head, rows towards the back, columns to the left."""

_OPPOSITE = {"H": "F", "F": "H", "P": "A", "A": "P", "L": "R", "R": "L"}

AIR_HU = -1024
"""Lower end of the CT scale as files store it; padding and anything below becomes this."""

SPACING_MM = (0.01, 100.0)
"""Distances between voxels that a CT can have; a header that says otherwise is wrong."""

SourceFormat = Literal["dicom", "nifti", "png", "jpeg", "tiff", "bmp"]

LengthUnit = Literal["meter", "mm", "micron"]
"""As nibabel names those of NIfTI."""

Affine = NDArray[np.float64]

Point = tuple[float, float, float]


class HounsfieldWindow(BaseModel):
    """A range of CT values; what lies outside is clipped to its ends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lower_hu: float
    upper_hu: float

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not self.lower_hu < self.upper_hu:
            raise ValueError("lower_hu must be below upper_hu")
        return self

    @property
    def width_hu(self) -> float:
        return self.upper_hu - self.lower_hu


@dataclass(frozen=True)
class SourceReference:
    """Where a volume came from, and what is known of its size.

    `pixel_spacing_mm` (between rows, between columns) and `slice_spacing_mm` are None where the
    source does not say; the volume's affine then holds 1 mm, which means nothing.
    """

    format: SourceFormat
    pixel_spacing_mm: tuple[float, float] | None
    slice_spacing_mm: float | None
    datasets: tuple[Dataset, ...] = ()
    """DICOM headers in the volume's slice order, without pixel data; empty for other formats."""
    frame_numbers: tuple[int, ...] = ()
    """Of each slice in its multi-frame instance, from 1; empty for single-frame instances."""
    grid: "NiftiGrid | None" = None

    @cached_property
    def sop_instance_uids(self) -> tuple[str, ...]:
        return tuple(str(dataset.SOPInstanceUID) for dataset in self.datasets)

    @property
    def has_patient_coordinates(self) -> bool:
        """Whether positions in millimetres mean a place in the patient."""
        return self.format in ("dicom", "nifti")

    @property
    def voxel_volume_mm3(self) -> float | None:
        if self.pixel_spacing_mm is None or self.slice_spacing_mm is None:
            return None
        return self.pixel_spacing_mm[0] * self.pixel_spacing_mm[1] * self.slice_spacing_mm


@dataclass(frozen=True)
class NiftiGrid:
    """A NIfTI file's own grid, so that a mask can be written on exactly that grid.

    The volume is the file's array [i, j, k] transposed to [k, j, i], with k reversed where
    `reversed_slices`. `affine_ras` is in the file's own `unit`; it means nothing, and each reader
    puts another in its place, where the file is not `placed` by a sform or qform.
    """

    affine_ras: Affine
    unit: LengthUnit
    placed: bool
    reversed_slices: bool
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Scan:
    """A decoded image: int16 Hounsfield units [slice, row, column], and its source.

    Where no right-angled affine says where the slices lie, `irregular` does, and the volume's own
    is only the nearest.
    """

    volume: Volume
    source: SourceReference
    notices: tuple[Notice, ...] = field(default=())
    irregular: Irregular | None = None

    @property
    def sides_are_known(self) -> bool:
        """Whether the source says which side of the image is the patient's right."""
        unknown = any(notice.code == "orientation_unknown" for notice in self.notices)
        return self.source.has_patient_coordinates and not unknown


@dataclass(frozen=True)
class Canonical:
    """A volume turned to `CANONICAL`, and the way back for arrays made from it.

    `axes` are the source's axes in the canonical order, `flips` which of them, in that order, point
    the other way. They are worked out once: of a volume turned by exactly 45 degrees two axes are
    equally near, and asking anew of the turned one may give the other.
    """

    volume: Volume
    source: Volume
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def to_source(self, array: NDArray[np.uint8]) -> Volume:
        """An array on the canonical grid, as a volume on the source's grid."""
        turned = array[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        return self.source.with_array(turned.transpose(np.argsort(self.axes)))


def to_canonical(volume: Volume) -> Canonical:
    """Turn a volume by permuting and flipping axes only; no value is resampled.

    An oblique volume is turned to the nearest of the 48 orientations.
    """
    now = [str(axis.value) for axis in volume.get_closest_patient_orientation()]
    found = [
        next(index for index, end in enumerate(now) if end in (wanted, _OPPOSITE[wanted]))
        for wanted in CANONICAL
    ]
    flips = [now[axis] != wanted for axis, wanted in zip(found, CANONICAL, strict=True)]
    turned = volume
    if found != [0, 1, 2]:  # most axial volumes lie as they should
        turned = turned.permute_spatial_axes(found)
    if any(flips):
        turned = turned.flip_spatial([axis for axis, flip in enumerate(flips) if flip])
    first, second, third = found
    return Canonical(turned, volume, (first, second, third), (flips[0], flips[1], flips[2]))


def is_spacing(values_mm: float | NDArray[np.floating]) -> bool:
    """Whether all are distances that a CT can have between its voxels."""
    values = np.asarray(values_mm)
    return bool(((values >= SPACING_MM[0]) & (values <= SPACING_MM[1])).all())


def points_to_patient_mm(scan: Scan, indices: NDArray[np.float64]) -> NDArray[np.float64]:
    """LPS millimetres [n, 3] of voxel indices [n, 3] (slice, row, column); centres are integers."""
    if scan.irregular is not None:
        return scan.irregular.to_patient_mm(indices)
    return np.asarray(scan.volume.map_indices_to_reference(indices), dtype=np.float64)


def point_to_patient_mm(scan: Scan, point: Point) -> Point | None:
    """LPS millimetres of one voxel index; None for an image that has no patient coordinates."""
    if not scan.source.has_patient_coordinates:
        return None
    x, y, z = points_to_patient_mm(scan, np.array([point]))[0]
    return float(x), float(y), float(z)
