"""Boxes around what a mask holds: labels fill a small part of a CT, and the rest costs time."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Box = tuple[slice, slice, slice]
"""A part of an array [slice, row, column]; every bound is given and lies inside the array."""


def box_of(mask: NDArray[Any]) -> Box | None:
    """The smallest box that holds everything of [slice, row, column] that is not 0, if any is."""
    in_plane = np.asarray(mask.any(axis=0))
    if not in_plane.any():
        return None
    return _span(mask.any(axis=(1, 2))), _span(in_plane.any(axis=1)), _span(in_plane.any(axis=0))


def grown(box: Box, voxels: tuple[int, int, int], shape: tuple[int, ...]) -> Box:
    """The box with a margin of `voxels` on both sides of each axis, inside an array of `shape`."""
    first, second, third = (
        slice(max(0, axis.start - margin), min(length, axis.stop + margin))
        for axis, margin, length in zip(box, voxels, shape, strict=True)
    )
    return first, second, third


def within(outer: Box, inner: Box) -> Box:
    """A box of what `outer` cuts out of an array, as a box of that array."""
    first, second, third = (
        slice(cut.start + axis.start, cut.start + axis.stop)
        for cut, axis in zip(outer, inner, strict=True)
    )
    return first, second, third


def everything(array: NDArray[Any]) -> Box:
    """The box that is the whole array."""
    first, second, third = (slice(0, length) for length in array.shape)
    return first, second, third


def size_of(box: Box) -> int:
    """Voxels inside the box."""
    return math.prod(axis.stop - axis.start for axis in box)


def _span(hit: ArrayLike) -> slice:
    places = np.flatnonzero(hit)
    return slice(int(places[0]), int(places[-1]) + 1)
