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
class _Outline:
    """The convex outline [n, 2] (row, column) in mm of a piece of a lesion in an axial slice.

    `ends` are the numbers of the two places in it that are farthest apart.
    """

    index: int
    hull_mm: NDArray[np.float64]
    ends: tuple[int, int]
    length_mm: float

    @property
    def longest_mm(self) -> NDArray[np.float64]:
        return self.hull_mm[list(self.ends)]

    def short_mm(self) -> NDArray[np.float64]:
        start, end = self.longest_mm
        return _longest_chord(self.hull_mm, (end - start) / self.length_mm)


def axial_diameters(
    scan: Scan, mask: NDArray[np.bool_], offset: NDArray[np.intp]
) -> AxialDiameters:
    """Measure one lesion, given as a crop [slice, row, column] that starts at `offset`."""
    first, end = offset, offset + mask.shape
    box = (slice(first[0], end[0]), slice(first[1], end[1]), slice(first[2], end[2]))
    crop = scan.volume[box].with_array(mask.astype(np.uint8))  # type: ignore[index]  # its hint is for one axis only
    axial = to_canonical(crop).volume
    slice_mm, row_mm, column_mm = (float(value) for value in axial.spacing)
    spacing_mm = np.array([row_mm, column_mm])
    outlines = [
        _outline(index, piece * spacing_mm)
        for index, plane in enumerate(np.asarray(axial.array))
        for piece in _pieces(plane)
    ]
    outline = max(outlines, key=lambda item: round(item.length_mm, _DECIMALS))

    def diameter(length_mm: float, ends: NDArray[np.float64]) -> Diameter:
        indices = np.column_stack([[outline.index] * 2, ends / spacing_mm])
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

    short = outline.short_mm()
    return AxialDiameters(
        longest=diameter(outline.length_mm, outline.longest_mm),
        short=diameter(float(np.linalg.norm(short[1] - short[0])), short),
        slice_spacing_mm=None if scan.source.slice_spacing_mm is None else slice_mm,
    )


def _point(values: NDArray[np.float64]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])


def _pieces(plane: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Outline points [n, 2] (row, column) of each 8-connected piece of one slice."""
    _, pieces = cv2.connectedComponents(plane, connectivity=8)
    inner = cv2.erode(plane, np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8),
                      borderType=cv2.BORDER_CONSTANT, borderValue=0)  # fmt: skip
    boundary = np.argwhere(plane > inner)
    numbers = pieces[boundary[:, 0], boundary[:, 1]]
    order = np.argsort(numbers, kind="stable")
    by_piece = np.split(boundary[order], np.flatnonzero(np.diff(numbers[order])) + 1)
    return [(points[:, None, :] + _EDGE_MIDDLES[None]).reshape(-1, 2) for points in by_piece]


def _outline(index: int, points_mm: NDArray[np.float64]) -> _Outline:
    hull = cv2.convexHull(points_mm.astype(np.float32)).reshape(-1, 2).astype(np.float64)
    lengths = np.linalg.norm(hull[:, None] - hull[None], axis=-1)
    first, second = np.unravel_index(lengths.round(_DECIMALS).argmax(), lengths.shape)
    return _Outline(index, hull, (int(first), int(second)), float(lengths[first, second]))


def _longest_chord(
    hull: NDArray[np.float64], direction: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The longest chord [2, 2] of a convex polygon at a right angle to a unit direction.

    Its length is a concave function of the place along the direction, linear between vertices, so
    the longest one passes through a vertex.
    """
    across = np.array([-direction[1], direction[0]])
    places, side = hull @ direction, hull @ across
    next_places, next_side = np.roll(places, -1), np.roll(side, -1)
    # [vertex, edge]: where the chord through each vertex crosses each edge of the outline.
    crosses = (np.minimum(places, next_places) <= places[:, None]) & (
        places[:, None] <= np.maximum(places, next_places)
    )
    run = np.broadcast_to(next_places - places, crosses.shape)
    share = np.divide(
        places[:, None] - places, run, out=np.zeros(crosses.shape), where=crosses & (run != 0)
    )
    crossing = side + share * (next_side - side)
    lowest = np.where(crosses, crossing, np.inf).min(axis=1)
    highest = np.where(crosses, crossing, -np.inf).max(axis=1)
    best, chosen = -1.0, 0
    for vertex, length in enumerate((highest - lowest).tolist()):
        if length > best + 10**-_DECIMALS:
            best, chosen = length, vertex
    ends = np.array([lowest[chosen], highest[chosen]])
    return np.asarray(places[chosen] * direction + np.outer(ends, across))
