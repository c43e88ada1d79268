"""The network's square grid over a slice's field of view.

The deployed graph does the same in ONNX (`export/signature.py`); a test holds the two together.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=16)
def grid_weights(size: int, side: int, grid: int) -> NDArray[np.float32]:
    """Weights that resample one axis of a slice onto the network's grid, as float32 [grid, size].

    The slice lies centred in a square of `side` pixels (its longer side), which the grid covers
    with pixel centres at half-integers. The kernel is a triangle as wide as the larger of a grid
    step and a pixel: linear interpolation where the grid is finer, antialiased where it is coarser
    (512 to 256 pixels: weights 1/8, 3/8, 3/8, 1/8), the same as Pillow's BILINEAR. What the grid
    covers beyond the slice counts as 0, the lower end of the window: air.
    """
    overlap = _overlap(side, grid)
    weights = overlap / overlap.sum(axis=1, keepdims=True)
    before = _margin(side, grid) + (side - size) // 2
    return _kept(weights[:, before : before + size])


@lru_cache(maxsize=16)
def pixel_weights(size: int, side: int, grid: int) -> NDArray[np.float32]:
    """Weights that resample the grid back onto one axis of a slice, as float32 [size, grid].

    The overlaps of `grid_weights`, those of each pixel 1 in sum.
    """
    before = _margin(side, grid) + (side - size) // 2
    back = _overlap(side, grid)[:, before : before + size].T
    return _kept(back / back.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class GridPart:
    """A part of the grid by those pixels of a slice that it is made of."""

    pixels: tuple[slice, slice]
    weights: tuple[NDArray[np.float32], NDArray[np.float32]] | None
    """Of the pixels' rows and columns for those of the cells; None where they are the same."""

    @classmethod
    def of(cls, shape: tuple[int, int], grid: int, cells: tuple[slice, slice]) -> "GridPart":
        """These rows and columns of the grid, over a slice of `shape`."""
        if shape == (grid, grid):
            return cls(cells, None)
        side = max(shape)
        axes = [
            _under(grid_weights(size, side, grid)[part])
            for size, part in zip(shape, cells, strict=True)
        ]
        (rows, by_row), (columns, by_column) = axes
        return cls((rows, columns), (by_row, by_column))

    @classmethod
    def whole(cls, shape: tuple[int, int], grid: int) -> "GridPart":
        return cls.of(shape, grid, (slice(0, grid), slice(0, grid)))

    def resampled(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """From its pixels, float32 [rows, columns, channels], to its cells, the same way round."""
        if self.weights is None:
            return image
        by_row, by_column = self.weights
        rows_done = np.tensordot(by_row, image, axes=(1, 0))
        both_done = np.tensordot(rows_done, by_column, axes=(1, 1))
        return np.ascontiguousarray(both_done.transpose(0, 2, 1))


def _under(weights: NDArray[np.float32]) -> tuple[slice, NDArray[np.float32]]:
    """The pixels that any of the cells takes from, and the weights of these alone."""
    taken = np.flatnonzero(weights.any(axis=0))
    pixels = slice(int(taken[0]), int(taken[-1]) + 1) if len(taken) else slice(0, 1)
    return pixels, weights[:, pixels]


def to_grid(image: NDArray[np.float32], grid: int) -> NDArray[np.float32]:
    """Resample float32 [rows, columns, channels] onto [grid, grid, channels]."""
    rows, columns, _ = image.shape
    return GridPart.whole((rows, columns), grid).resampled(image)


def to_pixels(scores: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Resample float32 [slices, grid, grid, channels] onto [slices, rows, columns, channels]."""
    grid, side = scores.shape[1], max(rows, columns)
    if rows == columns == grid:
        return scores
    by_row = np.tensordot(scores, pixel_weights(rows, side, grid), axes=(1, 1))
    by_column = np.tensordot(by_row, pixel_weights(columns, side, grid), axes=(1, 1))
    return np.ascontiguousarray(by_column.transpose(0, 2, 3, 1))


def _overlap(side: int, grid: int) -> NDArray[np.float32]:
    """The triangle of each grid cell over the pixels of the square and a margin around it."""
    step, margin = side / grid, _margin(side, grid)
    pixels = np.arange(-margin, side + margin, dtype=np.float32)
    centres = (np.arange(grid, dtype=np.float32) + np.float32(0.5)) * np.float32(step) - 0.5
    distance = np.abs(pixels[None, :] - centres[:, None])
    return np.maximum(0.0, 1.0 - distance / max(step, 1.0)).astype(np.float32)


def _kept(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """As an array that nobody writes to, since the next one who asks gets the same."""
    weights = np.ascontiguousarray(weights, dtype=np.float32)
    weights.flags.writeable = False
    return weights


def _margin(side: int, grid: int) -> int:
    return math.ceil(max(side / grid, 1.0))
