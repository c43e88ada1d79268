"""The geometry of a stack of DICOM slices: in order, evenly spaced, along their normal.

PS3.3 C.7.6.2: the affine's column for the column index is the row cosine times PixelSpacing[1], the
one for the row index the column cosine times PixelSpacing[0]. Slices are ordered by the projection
of their position on the normal, never by number or name.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.decode.headers import Slice, numbers, text
from service.errors import (
    BadRequest,
    DuplicateSlices,
    GantryTilt,
    InconsistentSeries,
    NoGeometry,
    UnevenSliceSpacing,
)
from service.irregular import Irregular
from service.volume import SPACING_MM, Affine, is_spacing

_ORIENTATION_TOLERANCE = 1e-3
"""Difference of direction cosines within a series: files hold as few as three decimals."""

_SAME_POSITION_MM = 0.01

_FARTHEST_MM = 1e6
"""From the origin, which lies in or near the patient."""

_MOST_ODD = 2
"""Images of another kind that may be left out: a series' one or two scouts, its dose screen."""

_ENOUGH = 5
"""Slices that agree with each other, from which a single other one is the odd one out."""

_FAR_STEPS, _FAR_MM = 5, 25.0
"""An image at the end of a stack that is farther from it than both is none of its slices."""

_WIDEST_GAP_MM = 50.0
_STEEPEST_TILT_DEGREES = 45.0
"""What `resample` still takes: beyond it nothing can be said of what lies between slices."""


@dataclass(frozen=True)
class Odd:
    """An image that was left out of the stack, and what a refusal would have said."""

    slice: Slice
    reason: BadRequest


@dataclass(frozen=True)
class Stack:
    """Slices in volume order; slice 0 is nearest to the feet where the slices are axial.

    `slice_spacing_mm` is None for a single slice of unknown thickness; the affine then holds 1 mm.
    `irregular` says where the slices lie if no right-angled affine can; `irregularity` in words.
    """

    slices: tuple[Slice, ...]
    affine: Affine
    pixel_spacing_mm: tuple[float, float]
    slice_spacing_mm: float | None
    odd: tuple[Odd, ...] = ()
    irregular: Irregular | None = None
    irregularity: str = ""


@dataclass(frozen=True)
class _Plane:
    """One slice's place: `number` is what messages name it by."""

    slice: Slice
    position_mm: NDArray[np.float64]
    orientation: NDArray[np.float64]
    pixel_spacing_mm: tuple[float, float]

    @property
    def number(self) -> str:
        return self.slice.number


def stack(slices: Sequence[Slice], resample: bool = False) -> Stack:
    """Order slices of one series and check that they make a volume.

    One image that differs from at least `_ENOUGH` slices that agree is left out; `resample` lets a
    tilted or unevenly spaced stack of axial slices pass. Raises `NoGeometry`, `InconsistentSeries`,
    `DuplicateSlices`, `GantryTilt` or `UnevenSliceSpacing`, each naming the slices by
    InstanceNumber.
    """
    planes, odd = _consistent(slices)
    row_cosine, column_cosine = _right_angled(planes[0].orientation)
    normal = np.cross(row_cosine, column_cosine)
    if normal[np.abs(normal).argmax()] < 0:
        normal = -normal  # towards the head, the left or the back, whatever the scanner wrote
    planes.sort(key=lambda plane: float(plane.position_mm @ normal))
    planes, far = _without_far(planes, normal)
    try:
        spacing_mm, irregularity = _slice_spacing_mm(planes, normal, resample)
    except UnevenSliceSpacing as error:
        if odd:  # it is missing where it was: not a stranger, but a damaged slice
            raise odd[0].reason from error
        raise
    between_rows, between_columns = planes[0].pixel_spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = normal * (spacing_mm or 1.0)
    affine[:3, 1] = column_cosine * between_rows
    affine[:3, 2] = row_cosine * between_columns
    affine[:3, 3] = planes[0].position_mm
    positions = np.array([plane.position_mm for plane in planes])
    return Stack(
        slices=tuple(plane.slice for plane in planes),
        affine=affine,
        pixel_spacing_mm=planes[0].pixel_spacing_mm,
        slice_spacing_mm=spacing_mm,
        odd=(*odd, *far),
        irregular=Irregular(positions, affine) if irregularity else None,
        irregularity=irregularity,
    )


def _plane(item: Slice) -> _Plane:
    spacing = _required(item, "PixelSpacing", 2)
    if not is_spacing(spacing):
        raise NoGeometry(
            f"Expected a PixelSpacing of {SPACING_MM[0]} to {SPACING_MM[1]} mm, found another in "
            f"slice {item.number}."
        )
    return _Plane(
        slice=item,
        position_mm=_required(item, "ImagePositionPatient", 3),
        orientation=_required(item, "ImageOrientationPatient", 6),
        pixel_spacing_mm=(float(spacing[0]), float(spacing[1])),
    )


def _required(item: Slice, keyword: str, count: int) -> NDArray[np.float64]:
    values = numbers(item.header, keyword, count)
    if values is None:
        raise NoGeometry(f"Expected {keyword} in every slice, found none in slice {item.number}.")
    if np.abs(values).max() > _FARTHEST_MM:
        raise NoGeometry(
            f"Expected {keyword} of at most {_FARTHEST_MM:g}, found more in slice {item.number}."
        )
    return values


def _consistent(slices: Sequence[Slice]) -> tuple[list[_Plane], list[Odd]]:
    """The slices that agree in orientation, spacing and size, and the odd ones beside them."""
    planes, odd = [], []
    for item in slices:
        try:
            planes.append(_plane(item))
        except NoGeometry as error:
            odd.append(Odd(item, error))
    if not planes or len(odd) > _MOST_ODD:
        raise odd[0].reason
    groups = _groups(planes)
    main, *others = sorted(groups, key=len, reverse=True)
    odd += [Odd(group[0].slice, _difference(main[0], group[0]) or NoGeometry()) for group in others]
    several = any(len(group) > 1 for group in others)
    if odd and (several or len(main) < _ENOUGH or len(odd) > _MOST_ODD):
        raise odd[0].reason
    for plane in main[1:]:
        _check_frame_of_reference(main[0], plane)
    return main, odd


def _groups(planes: Sequence[_Plane]) -> list[list[_Plane]]:
    """Planes by what they agree in. Raises `InconsistentSeries` for more than can be left out."""
    groups = [[planes[0]]]
    for plane in planes[1:]:
        group = next((group for group in groups if _difference(group[0], plane) is None), None)
        if group is not None:
            group.append(plane)
        elif len(groups) <= _MOST_ODD:
            groups.append([plane])
        else:
            raise _difference(groups[0][0], plane) or NoGeometry()
    return groups


def _difference(first: _Plane, plane: _Plane) -> InconsistentSeries | None:
    """Why two planes cannot belong to one volume; None where they can."""
    if np.abs(plane.orientation - first.orientation).max() > _ORIENTATION_TOLERANCE:
        return _differs("orientation", first, plane)
    if not np.allclose(plane.pixel_spacing_mm, first.pixel_spacing_mm, rtol=1e-3, atol=0):
        return _differs("PixelSpacing", first, plane)
    for keyword in ("Rows", "Columns"):
        if text(plane.slice.header, keyword) != text(first.slice.header, keyword):
            return _differs(keyword, first, plane)
    return None


def _check_frame_of_reference(first: _Plane, plane: _Plane) -> None:
    """Positions in different frames of reference cannot be compared: no slice is the odd one."""
    keyword = "FrameOfReferenceUID"
    if text(plane.slice.header, keyword) != text(first.slice.header, keyword):
        raise _differs(keyword, first, plane)


def _differs(what: str, first: _Plane, plane: _Plane) -> InconsistentSeries:
    return InconsistentSeries(
        f"Expected one {what}, found another in slice {plane.number} than in slice {first.number}."
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


def _without_far(
    planes: list[_Plane], normal: NDArray[np.float64]
) -> tuple[list[_Plane], list[Odd]]:
    """Leave out one image far below or above all others, such as one that watched the contrast."""
    if len(planes) <= _ENOUGH:
        return planes, []
    steps = np.diff([plane.position_mm @ normal for plane in planes])
    far_mm = max(_FAR_MM, _FAR_STEPS * float(np.median(steps)))
    ends = {0: steps[0], len(planes) - 1: steps[-1]}
    far = [index for index, step in ends.items() if step > far_mm]
    if len(far) != 1:
        return planes, []
    plane = planes[far[0]]
    reason = UnevenSliceSpacing(
        f"Expected slices beside each other, found slice {plane.number} {ends[far[0]]:.3g} mm off."
    )
    return [other for other in planes if other is not plane], [Odd(plane.slice, reason)]


def _slice_spacing_mm(
    planes: Sequence[_Plane], normal: NDArray[np.float64], resample: bool
) -> tuple[float | None, str]:
    """Mean distance between the slices along their normal, and what is irregular about them.

    For a single slice it is its thickness, if given.
    """
    if len(planes) == 1:
        thickness = numbers(planes[0].slice.header, "SliceThickness", 1)
        known = thickness is not None and is_spacing(thickness)
        return float(thickness[0]) if thickness is not None and known else None, ""
    heights = np.array([plane.position_mm @ normal for plane in planes])
    steps = np.diff(heights)
    for index in np.flatnonzero(steps < _SAME_POSITION_MM).tolist():
        raise DuplicateSlices(
            f"Expected one slice at each position, found slices {planes[index].number} and "
            f"{planes[index + 1].number} at the same one. Send one of them only, and phases "
            "one at a time."
        )
    problem = _tilt(planes, normal) or _unevenness(planes, steps)
    if problem is not None:
        limit = _limit(planes, normal, steps)
        if limit or not resample:
            hint = limit or "With resample=true it would be taken."
            raise type(problem)(f"{problem} {hint}")
    spacing_mm = float((heights[-1] - heights[0]) / len(steps))
    if not is_spacing(spacing_mm):
        raise NoGeometry(f"Expected at most {SPACING_MM[1]} mm between slices, found more.")
    return spacing_mm, "" if problem is None else str(problem)


def _tilt(planes: Sequence[_Plane], normal: NDArray[np.float64]) -> GantryTilt | None:
    """A drift of less than half a pixel over the whole stack moves nothing that could be seen."""
    offsets = np.array([plane.position_mm - planes[0].position_mm for plane in planes])
    sideways = np.linalg.norm(offsets - np.outer(offsets @ normal, normal), axis=1)
    worst = int(sideways.argmax())
    if sideways[worst] <= max(0.1, min(planes[0].pixel_spacing_mm) / 2):
        return None
    angle = np.degrees(np.arctan2(sideways[worst], offsets[worst] @ normal))
    return GantryTilt(
        f"Expected slices stacked along their normal, found slice {planes[worst].number} "
        f"{sideways[worst]:.1f} mm beside it (about {angle:.1f} degrees of tilt)."
    )


def _unevenness(planes: Sequence[_Plane], steps: NDArray[np.float64]) -> UnevenSliceSpacing | None:
    usual = float(np.median(steps))
    tolerance = max(0.01 * usual, 0.1)
    for index in np.flatnonzero(np.abs(steps - usual) > tolerance).tolist():
        return UnevenSliceSpacing(
            f"Expected {usual:.3g} mm between slices, found {steps[index]:.3g} mm between slices "
            f"{planes[index].number} and {planes[index + 1].number}."
        )
    return None


def _limit(
    planes: Sequence[_Plane], normal: NDArray[np.float64], steps: NDArray[np.float64]
) -> str:
    """Why `resample` would not take the stack; empty where it would.

    Diameters are measured in axial planes, so these have to be the slices themselves.
    """
    if np.abs(normal).argmax() != 2:
        return "resample=true takes axial slices only."
    if steps.max() > _WIDEST_GAP_MM:
        return f"resample=true takes gaps of at most {_WIDEST_GAP_MM:g} mm."
    offsets = np.diff([plane.position_mm for plane in planes], axis=0)
    sideways = np.linalg.norm(offsets - np.outer(steps, normal), axis=1)
    if np.degrees(np.arctan2(sideways, steps)).max() > _STEEPEST_TILT_DEGREES:
        return f"resample=true takes at most {_STEEPEST_TILT_DEGREES:g} degrees of tilt."
    return ""
