"""Stacks of slices that no right-angled affine describes: tilted, or unevenly spaced.

Their own slices stay the grid of record. A regular grid over them is what the model and the rules
in three dimensions see; its labels go back to the slices.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_SAME_SHARE = 0.01
"""A slice of the regular grid that is so near to a source slice, in steps, is that slice."""

_EVEN_SHARE, _EVEN_MM = 0.01, 0.1
"""Steps that differ by less than the larger count as equal."""


@dataclass(frozen=True, eq=False)
class Irregular:
    """Where the slices of an irregular stack lie.

    `positions_mm` [slice, 3] are the LPS millimetres of each slice's first pixel. `affine` is the
    right-angled one that is nearest: its axes and pixel spacing are the slices' own, its distance
    between slices is the mean along the normal.
    """

    positions_mm: NDArray[np.float64]
    affine: NDArray[np.float64]

    @cached_property
    def heights_mm(self) -> NDArray[np.float64]:
        """Along the normal, from the first slice, rising."""
        heights = (self.positions_mm - self.positions_mm[0]) @ self._directions[:, 0]
        return np.asarray(heights, dtype=np.float64)

    @cached_property
    def thickness_mm(self) -> NDArray[np.float64]:
        """Of each slice, half of the way to both neighbours; an end reaches as far outwards."""
        steps = np.diff(self.heights_mm)
        return (np.append(steps, steps[-1]) + np.insert(steps, 0, steps[0])) / 2

    @cached_property
    def sheared_affine(self) -> NDArray[np.float64] | None:
        """The affine of an evenly spaced, evenly tilted stack, None for any other."""
        last = len(self.positions_mm) - 1
        step = (self.positions_mm[-1] - self.positions_mm[0]) / last
        line = self.positions_mm[0] + np.arange(last + 1)[:, None] * step
        off_mm = np.abs((self.positions_mm - line) @ self._directions)
        tolerance_mm = np.array([_EVEN_MM, *self._pixel_spacing_mm / 2])
        if (off_mm > tolerance_mm).any():
            return None
        affine = self.affine.copy()
        affine[:3, 0] = step
        return affine

    def to_patient_mm(self, indices: NDArray[np.float64]) -> NDArray[np.float64]:
        """LPS millimetres [n, 3] of voxel indices [n, 3] (slice, row, column)."""
        numbers = np.arange(len(self.positions_mm))
        starts = [np.interp(indices[:, 0], numbers, axis) for axis in self.positions_mm.T]
        return np.stack(starts, axis=-1) + indices[:, 1:] @ self.affine[:3, 1:3].T

    def grid(self, size: tuple[int, int]) -> "RegularGrid":
        """The regular grid over slices of `size` (rows, columns)."""
        offsets_mm = (self.positions_mm - self.positions_mm[0]) @ self._directions[:, 1:]
        # Whole pixels: the model sees the scanner's own values, and labels return one to one.
        shifts = np.rint(offsets_mm / self._pixel_spacing_mm).astype(np.intp)
        first, last = shifts.min(axis=0), shifts.max(axis=0)
        heights = _even_heights(self.heights_mm)
        affine = self.affine.copy()
        affine[:3, 0] = self._directions[:, 0] * (heights[1] - heights[0])
        affine[:3, 3] = self.positions_mm[0] + affine[:3, 1:3] @ first
        rows, columns = np.asarray(size) + last - first
        return RegularGrid(
            affine=affine,
            shape=(len(heights), int(rows), int(columns)),
            heights_mm=heights,
            source_heights_mm=self.heights_mm,
            source_size=size,
            shifts_px=shifts - first,
        )

    @cached_property
    def _directions(self) -> NDArray[np.float64]:
        """Unit vectors in columns: along slices, rows and columns."""
        axes = self.affine[:3, :3]
        return np.asarray(axes / np.linalg.norm(axes, axis=0))

    @cached_property
    def _pixel_spacing_mm(self) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(self.affine[:3, 1:3], axis=0), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class RegularGrid:
    """An evenly spaced, right-angled grid [slice, row, column] that holds all of a source's slices.

    `heights_mm` and `source_heights_mm` are those of its own and of the source's slices;
    `shifts_px` [source slice, 2] is where on it each source slice's first pixel lies (row, column).
    """

    affine: NDArray[np.float64]
    shape: tuple[int, int, int]
    heights_mm: NDArray[np.float64]
    source_heights_mm: NDArray[np.float64]
    source_size: tuple[int, int]
    shifts_px: NDArray[np.intp]

    def interpolate(self, hu: NDArray[np.int16], outside: int) -> NDArray[np.int16]:
        """The source's slices [slice, row, column] on this grid, linear between neighbours."""
        regular = np.full(self.shape, outside, dtype=np.int16)
        for target, (lower, share) in zip(regular, self._neighbours(), strict=True):
            self._window(target, lower)[:] = hu[lower]
            if share > 0:
                upper = np.full(target.shape, outside, dtype=np.int16)
                self._window(upper, lower + 1)[:] = hu[lower + 1]
                mixed = target * np.float32(1 - share) + upper * np.float32(share)
                target[:] = np.rint(mixed)
        return regular

    def spread(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The source's labels on this grid: each slice takes those of the nearest one."""
        nearest = _nearest(self.heights_mm, self.source_heights_mm)
        regular = np.zeros(self.shape, dtype=np.uint8)
        for target, source in zip(regular, nearest, strict=True):
            self._window(target, source)[:] = labels[source]
        return regular

    def to_source(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels on this grid to the source's slices: each takes those of the nearest one."""
        nearest = _nearest(self.source_heights_mm, self.heights_mm)
        slices = [self._window(labels[index], source) for source, index in enumerate(nearest)]
        return np.stack(slices)

    def _window(self, plane: NDArray[np.generic], source: int) -> NDArray[np.generic]:
        """The part of one of this grid's slices that a source slice covers."""
        (top, left), (rows, columns) = self.shifts_px[source], self.source_size
        return plane[top : top + rows, left : left + columns]

    def _neighbours(self) -> list[tuple[int, float]]:
        """For each slice the source slice below, and the share of the one above it."""
        heights = self.source_heights_mm
        above = np.clip(np.searchsorted(heights, self.heights_mm), 1, len(heights) - 1)
        below = above - 1
        shares = (self.heights_mm - heights[below]) / (heights[above] - heights[below])
        whole = shares > 1 - _SAME_SHARE
        shares = np.where(whole | (shares < _SAME_SHARE), 0.0, shares)
        return list(zip((below + whole).tolist(), shares.tolist(), strict=True))


def _even_heights(heights_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evenly spaced heights from the first to the last slice.

    They are as near to each other as the nearest slices, so that missing slices are filled in and
    all others kept, yet at most twice as many as there are slices, unless there is a gap.
    """
    steps = np.diff(heights_mm)
    nearest = steps.min()
    usual = steps[steps <= nearest + max(_EVEN_SHARE * nearest, _EVEN_MM)].mean()
    step = max(float(usual), float(np.median(steps)) / 2)
    return np.linspace(0.0, heights_mm[-1], round(float(heights_mm[-1]) / step) + 1)


def _nearest(heights_mm: NDArray[np.float64], among_mm: NDArray[np.float64]) -> list[int]:
    """For each height the index of the nearest one among others, which rise."""
    middles = (among_mm[1:] + among_mm[:-1]) / 2
    found: list[int] = np.searchsorted(middles, heights_mm).tolist()
    return found
