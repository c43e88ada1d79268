"""The network's square grid over a slice's field of view.

The deployed graph does the same in ONNX (`export/signature.py`); a test holds the two together.
"""

import math

import numpy as np
from numpy.typing import NDArray


def grid_weights(size: int, side: int, grid: int) -> NDArray[np.float32]:
    """Weights that resample one axis of a slice onto the network's grid, as float32 [grid, size].

    The slice lies centred in a square of `side` pixels (its longer side), which the grid covers
    with pixel centres at half-integers. The kernel is a triangle as wide as the larger of a grid
    step and a pixel: linear interpolation where the grid is finer, antialiased where it is coarser
    (512 to 256 pixels: weights 1/8, 3/8, 3/8, 1/8), the same as Pillow's BILINEAR. What the grid
    covers beyond the slice counts as 0, the lower end of the window: air.
    """
    step = side / grid
    radius = max(step, 1.0)
    margin = math.ceil(radius)
    pixels = np.arange(-margin, side + margin, dtype=np.float32)
    centres = (np.arange(grid, dtype=np.float32) + np.float32(0.5)) * np.float32(step) - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(pixels[None, :] - centres[:, None]) / radius)
    weights /= weights.sum(axis=1, keepdims=True)
    before = margin + (side - size) // 2
    return weights[:, before : before + size].astype(np.float32)


def to_grid(image: NDArray[np.float32], grid: int) -> NDArray[np.float32]:
    """Resample float32 [rows, columns, channels] onto [grid, grid, channels]."""
    rows, columns, _ = image.shape
    side = max(rows, columns)
    by_row = np.tensordot(grid_weights(rows, side, grid), image, axes=(1, 0))
    by_column = np.tensordot(by_row, grid_weights(columns, side, grid), axes=(1, 1))
    return np.ascontiguousarray(by_column.transpose(0, 2, 1))
