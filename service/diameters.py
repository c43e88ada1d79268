"""A lesion's longest diameter in the axial plane and its short axis, as RECIST 1.1 asks.

Eisenhauer et al., European Journal of Cancer 45, 2009. The outline runs through the middle of the
pixel edges, so a row of n pixels is n pixels long. The short axis is the longest chord of the
outline's convex hull at a right angle to the longest diameter.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from service.volume import Point, Scan, point_to_patient_mm, to_canonical

_DECIMALS = 4
"""Millimetres are compared to this: of equal lengths the first is taken, whatever the rounding."""

_EDGE_MIDDLES = np.array([[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]])


@dataclass(frozen=True)
class Diameter:
    """A length and its two ends.

    `length_px` is given where `length_mm` is not known. Ends are (slice, row, column) on the
    source's grid, and LPS millimetres where the image has patient coordinates.
    """

    length_mm: float | None
    length_px: float | None
    ends_px: tuple[Point, Point]
    ends_mm: tuple[Point, Point] | None


@dataclass(frozen=True)
class AxialDiameters:
    """Both axes, of one piece of the lesion in one axial slice.

    `slice_spacing_mm` is the distance between axial slices, None where it is not known.
    """

    longest: Diameter
    short: Diameter
    slice_spacing_mm: float | None


@dataclass(frozen=True)
class _Caliper:
    """Lengths in millimetres and ends as [2, 2] (row, column) in the slice's pixels."""

    longest_mm: float
    longest_px: NDArray[np.float64]
    short_mm: float
    short_px: NDArray[np.float64]


def axial_diameters(
    scan: Scan, mask: NDArray[np.bool_], offset: NDArray[np.intp]
) -> AxialDiameters:
    """Measure one lesion, given as a crop [slice, row, column] that starts at `offset`."""
    first, end = offset, offset + mask.shape
    box = (slice(first[0], end[0]), slice(first[1], end[1]), slice(first[2], end[2]))
    crop = scan.volume[box].with_array(mask.astype(np.uint8))  # type: ignore[index]  # its hint is for one axis only
    axial = to_canonical(crop).volume
    slice_mm, row_mm, column_mm = (float(value) for value in axial.spacing)
    measured = [
        (index, _measure(piece, np.array([row_mm, column_mm])))
        for index, plane in enumerate(np.asarray(axial.array))
        for piece in _pieces(plane)
    ]
    index, caliper = max(measured, key=lambda item: round(item[1].longest_mm, _DECIMALS))

    def diameter(length_mm: float, ends: NDArray[np.float64]) -> Diameter:
        indices = np.column_stack([[index, index], ends])
        source = crop.map_reference_to_indices(axial.map_indices_to_reference(indices)) + offset
        ends_px = (_point(source[0]), _point(source[1]))
        start, end = (point_to_patient_mm(scan, point) for point in ends_px)
        known = scan.source.pixel_spacing_mm is not None
        return Diameter(
            length_mm=length_mm if known else None,
            length_px=None if known else length_mm,
            ends_px=ends_px,
            ends_mm=None if start is None or end is None else (start, end),
        )

    return AxialDiameters(
        longest=diameter(caliper.longest_mm, caliper.longest_px),
        short=diameter(caliper.short_mm, caliper.short_px),
        slice_spacing_mm=None if scan.source.slice_spacing_mm is None else slice_mm,
    )


def _point(values: NDArray[np.float64]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])


def _pieces(plane: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Outline points [n, 2] (row, column) of each 8-connected piece of one slice."""
    count, pieces = cv2.connectedComponents(plane, connectivity=8)
    inner = cv2.erode(plane, np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8),
                      borderType=cv2.BORDER_CONSTANT, borderValue=0)  # fmt: skip
    outlines = []
    for number in range(1, count):
        boundary = np.argwhere((pieces == number) & (inner == 0))
        outlines.append((boundary[:, None, :] + _EDGE_MIDDLES[None]).reshape(-1, 2))
    return outlines


def _measure(outline: NDArray[np.float64], spacing_mm: NDArray[np.float64]) -> _Caliper:
    points_mm = (outline * spacing_mm).astype(np.float32)
    hull = cv2.convexHull(points_mm).reshape(-1, 2).astype(np.float64)
    between = hull[:, None] - hull[None]
    lengths = np.linalg.norm(between, axis=-1)
    first, second = np.unravel_index(lengths.round(_DECIMALS).argmax(), lengths.shape)
    longest = hull[[first, second]]
    direction = (longest[1] - longest[0]) / lengths[first, second]
    short = _longest_chord(hull, direction)
    return _Caliper(
        longest_mm=float(lengths[first, second]),
        longest_px=longest / spacing_mm,
        short_mm=float(np.linalg.norm(short[1] - short[0])),
        short_px=short / spacing_mm,
    )


def _longest_chord(
    hull: NDArray[np.float64], direction: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The longest chord [2, 2] of a convex polygon at a right angle to a unit direction.

    Its length is a concave function of the place along the direction, linear between vertices, so
    the longest one passes through a vertex.
    """
    across = np.array([-direction[1], direction[0]])
    along, side = hull @ direction, hull @ across
    next_along, next_side = np.roll(along, -1), np.roll(side, -1)
    best, ends = -1.0, np.zeros((2, 2))
    for place in along:
        crossing = (np.minimum(along, next_along) <= place) & (
            place <= np.maximum(along, next_along)
        )
        run = next_along[crossing] - along[crossing]
        share = np.divide(place - along[crossing], run, out=np.zeros_like(run), where=run != 0)
        sides = side[crossing] + share * (next_side[crossing] - side[crossing])
        if sides.max() - sides.min() > best + 10**-_DECIMALS:
            best = float(sides.max() - sides.min())
            ends = place * direction + np.outer([sides.min(), sides.max()], across)
    return ends
