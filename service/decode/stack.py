"""The geometry of a stack of DICOM slices: in order, evenly spaced, along their normal.

PS3.3 C.7.6.2: the affine's column for the column index is the row cosine times PixelSpacing[1], the
one for the row index the column cosine times PixelSpacing[0]. Slices are ordered by the projection
of their position on the normal, never by number or name.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from service.errors import (
    DuplicateSlices,
    GantryTilt,
    InconsistentSeries,
    NoGeometry,
    UnevenSliceSpacing,
)
from service.volume import SPACING_MM, Affine, is_spacing

_ORIENTATION_TOLERANCE = 1e-3
"""Difference of direction cosines within a series: files hold as few as three decimals."""

_SAME_POSITION_MM = 0.01


@dataclass(frozen=True)
class Stack:
    """Slices in volume order; slice 0 is nearest to the feet where the slices are axial.

    `slice_spacing_mm` is None for a single slice of unknown thickness; the affine then holds 1 mm.
    """

    datasets: tuple[Dataset, ...]
    affine: Affine
    pixel_spacing_mm: tuple[float, float]
    slice_spacing_mm: float | None


@dataclass(frozen=True)
class _Plane:
    """One slice's place: `number` is what messages name it by."""

    dataset: Dataset
    number: str
    position_mm: NDArray[np.float64]
    orientation: NDArray[np.float64]
    pixel_spacing_mm: tuple[float, float]


def stack(datasets: Sequence[Dataset]) -> Stack:
    """Order slices of one series and check that they make a volume.

    Raises `NoGeometry`, `InconsistentSeries`, `DuplicateSlices`, `GantryTilt` or
    `UnevenSliceSpacing`, each naming the slices by InstanceNumber.
    """
    planes = [_plane(dataset) for dataset in datasets]
    _check_same_grid(planes)
    row_cosine, column_cosine = _right_angled(planes[0].orientation)
    normal = np.cross(row_cosine, column_cosine)
    if normal[np.abs(normal).argmax()] < 0:
        normal = -normal  # towards the head, the left or the back, whatever the scanner wrote
    planes.sort(key=lambda plane: float(plane.position_mm @ normal))
    spacing_mm = _slice_spacing_mm(planes, normal)
    between_rows, between_columns = planes[0].pixel_spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = normal * (spacing_mm or 1.0)
    affine[:3, 1] = column_cosine * between_rows
    affine[:3, 2] = row_cosine * between_columns
    affine[:3, 3] = planes[0].position_mm
    ordered = tuple(plane.dataset for plane in planes)
    return Stack(ordered, affine, planes[0].pixel_spacing_mm, spacing_mm)


def numbers(dataset: Dataset, keyword: str, count: int) -> NDArray[np.float64] | None:
    """A numeric attribute of `count` finite values, None where it is absent or anything else."""
    try:
        values = np.atleast_1d(np.asarray(dataset.get(keyword), dtype=np.float64))
    except (TypeError, ValueError):
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None


def _plane(dataset: Dataset) -> _Plane:
    spacing = _required(dataset, "PixelSpacing", 2)
    if not is_spacing(spacing):
        raise NoGeometry(
            f"Expected a PixelSpacing of {SPACING_MM[0]} to {SPACING_MM[1]} mm, found another in "
            f"slice {instance_number(dataset)}."
        )
    return _Plane(
        dataset=dataset,
        number=instance_number(dataset),
        position_mm=_required(dataset, "ImagePositionPatient", 3),
        orientation=_required(dataset, "ImageOrientationPatient", 6),
        pixel_spacing_mm=(float(spacing[0]), float(spacing[1])),
    )


def _required(dataset: Dataset, keyword: str, count: int) -> NDArray[np.float64]:
    values = numbers(dataset, keyword, count)
    if values is None:
        raise NoGeometry(
            f"Expected {keyword} in every slice, found none in slice {instance_number(dataset)}."
        )
    return values


def instance_number(dataset: Dataset) -> str:
    """InstanceNumber for messages: digits or a question mark, never other text of the file."""
    text = str(dataset.get("InstanceNumber", ""))
    return text if text.isascii() and text.lstrip("-").isdigit() else "?"


def _check_same_grid(planes: Sequence[_Plane]) -> None:
    first = planes[0]
    for plane in planes[1:]:
        if np.abs(plane.orientation - first.orientation).max() > _ORIENTATION_TOLERANCE:
            raise InconsistentSeries(
                f"Expected one orientation, found another in slice {plane.number} than in slice "
                f"{first.number}."
            )
        if not np.allclose(plane.pixel_spacing_mm, first.pixel_spacing_mm, rtol=1e-3, atol=0):
            raise InconsistentSeries(
                f"Expected one PixelSpacing, found another in slice {plane.number} than in slice "
                f"{first.number}."
            )
        for keyword in ("Rows", "Columns", "FrameOfReferenceUID"):
            if plane.dataset.get(keyword) != first.dataset.get(keyword):
                raise InconsistentSeries(
                    f"Expected one {keyword}, found another in slice {plane.number} than in slice "
                    f"{first.number}."
                )


def _right_angled(
    orientation: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row and column cosines as unit vectors at right angles, free of the file's rounding."""
    row, column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.allclose(lengths, 1, atol=0.01) or abs(row @ column) > 0.01:
        raise NoGeometry("Expected unit direction cosines at right angles, found others.")
    row = row / lengths[0]
    column = column - (column @ row) * row
    return row, column / np.linalg.norm(column)


def _slice_spacing_mm(planes: Sequence[_Plane], normal: NDArray[np.float64]) -> float | None:
    """Distance between the slices along their normal; for one slice its thickness, if given."""
    if len(planes) == 1:
        thickness = numbers(planes[0].dataset, "SliceThickness", 1)
        return float(thickness[0]) if thickness is not None and is_spacing(thickness) else None
    heights = np.array([plane.position_mm @ normal for plane in planes])
    steps = np.diff(heights)
    for index in np.flatnonzero(steps < _SAME_POSITION_MM).tolist():
        raise DuplicateSlices(
            f"Expected one slice at each position, found slices {planes[index].number} and "
            f"{planes[index + 1].number} at the same one."
        )
    _check_tilt(planes, normal)
    _check_even(planes, steps)
    spacing_mm = (heights[-1] - heights[0]) / len(steps)
    if not is_spacing(spacing_mm):
        raise NoGeometry(f"Expected at most {SPACING_MM[1]} mm between slices, found more.")
    return float(spacing_mm)


def _check_tilt(planes: Sequence[_Plane], normal: NDArray[np.float64]) -> None:
    """A drift of less than half a pixel over the whole stack moves nothing that could be seen."""
    offsets = np.array([plane.position_mm - planes[0].position_mm for plane in planes])
    sideways = np.linalg.norm(offsets - np.outer(offsets @ normal, normal), axis=1)
    worst = int(sideways.argmax())
    if sideways[worst] > max(0.1, min(planes[0].pixel_spacing_mm) / 2):
        angle = np.degrees(np.arctan2(sideways[worst], offsets[worst] @ normal))
        raise GantryTilt(
            f"Expected slices stacked along their normal, found slice {planes[worst].number} "
            f"{sideways[worst]:.1f} mm beside it (about {angle:.1f} degrees of tilt)."
        )


def _check_even(planes: Sequence[_Plane], steps: NDArray[np.float64]) -> None:
    usual = float(np.median(steps))
    tolerance = max(0.01 * usual, 0.1)
    for index in np.flatnonzero(np.abs(steps - usual) > tolerance).tolist():
        raise UnevenSliceSpacing(
            f"Expected {usual:.3g} mm between slices, found {steps[index]:.3g} mm between slices "
            f"{planes[index].number} and {planes[index + 1].number}."
        )
