"""Random changes of a slice and its labels together."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from training.config import AugmentConfig

_BEND_NODES = 5
"""Nodes a side of the coarse grid that an elastic bend is drawn on."""

_TRIES = 16
"""Voxels of which the first that a warp leaves in view is taken."""


@dataclass(frozen=True)
class Warp:
    """Where each pixel of a changed slice comes from: an affine map and a smooth bend.

    `back`: float64 [2, 3], from x, y and 1 of the changed slice to x and y of the slice itself;
    `bend`: what is added to these, float32 [2, nodes, nodes] on a coarse grid.
    """

    shape: tuple[int, int]
    back: NDArray[np.float64]
    bend: NDArray[np.float32]

    @classmethod
    def draw(
        cls, rng: np.random.Generator, shape: tuple[int, int], config: AugmentConfig
    ) -> "Warp":
        """Rotation, zoom, shift and flips about the slice's centre, and an elastic bend."""
        rows, columns = shape
        centre = ((columns - 1) / 2, (rows - 1) / 2)
        angle = rng.uniform(-config.rotation_deg, config.rotation_deg)
        scale = np.exp(rng.uniform(*np.log(config.scale)))
        forward = cv2.getRotationMatrix2D(centre, angle, scale)
        forward[:, 2] += rng.uniform(-config.shift, config.shift, 2) * (columns, rows)
        flip = np.eye(3)
        if rng.random() < config.flip_left_right:
            flip[0] = (-1, 0, columns - 1)
        if rng.random() < config.flip_front_back:
            flip[1] = (0, -1, rows - 1)
        strength = rng.uniform(0, config.elastic) * max(shape)
        bend = rng.normal(0, strength, (2, _BEND_NODES, _BEND_NODES)).astype(np.float32)
        return cls(shape, cv2.invertAffineTransform(forward) @ flip, bend)

    def apply(
        self, image: NDArray[np.float32], part: tuple[slice, slice] = (slice(None), slice(None))
    ) -> NDArray[np.float32]:
        """Warp float32 [rows, columns, channels], linearly; what comes in from outside is 0.

        Of the changed slice only the rows and columns of `part` are made.
        """
        along, down = (np.arange(size, dtype=np.float32) for size in self.shape[::-1])
        (rows, columns), (from_x, from_y) = part, self.back.astype(np.float32)
        x, y = along[columns][None, :], down[rows][:, None]
        by_row, by_column = (
            _bend_weights(size)[one] for size, one in zip(self.shape, part, strict=True)
        )
        bend_x, bend_y = (by_row @ nodes @ by_column.T for nodes in self.bend)
        warped = cv2.remap(
            image,
            from_x[0] * x + from_x[1] * y + from_x[2] + bend_x,
            from_y[0] * x + from_y[1] * y + from_y[2] + bend_y,
            cv2.INTER_LINEAR,
        )
        return np.asarray(warped, dtype=np.float32).reshape(*warped.shape[:2], image.shape[-1])

    def moved(self, points: NDArray[np.integer]) -> NDArray[np.float64]:
        """Where points (row, column) of the slice come to lie, [points, 2], but for the bend."""
        forward = cv2.invertAffineTransform(self.back)
        xy = points[:, ::-1] @ forward[:, :2].T + forward[:, 2]
        return np.asarray(xy[:, ::-1])


@lru_cache(maxsize=8)
def _bend_weights(size: int) -> NDArray[np.float32]:
    """Weights that bring one axis of the coarse grid onto so many pixels, [size, nodes]."""
    nodes = np.eye(_BEND_NODES, dtype=np.float32)
    weights = cv2.resize(nodes, (_BEND_NODES, size), interpolation=cv2.INTER_CUBIC)
    weights.flags.writeable = False
    return np.asarray(weights, dtype=np.float32)


def change_intensity(
    image: NDArray[np.float32], rng: np.random.Generator, config: AugmentConfig
) -> NDArray[np.float32]:
    """Resolution, blur, gamma, contrast, brightness and noise, on window units (0 to 1)."""
    if rng.random() < config.coarse_probability:
        image = _coarser(image, rng.uniform(1, config.coarse))
    if rng.random() < config.blur_probability:
        sigma = rng.uniform(0.3, max(0.3, config.blur_px))
        image = cv2.GaussianBlur(image, (0, 0), sigma).reshape(image.shape)
    image = cv2.pow(image, np.exp(rng.uniform(-config.gamma, config.gamma))).reshape(image.shape)
    mean = image.mean()
    factor = np.float32(1 + rng.uniform(-config.contrast, config.contrast))
    offset = np.float32(rng.uniform(-config.brightness, config.brightness))
    image = (image - mean) * factor + mean + offset
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image = image + noise * np.float32(rng.uniform(0, config.noise))
    return np.clip(image, 0, 1).astype(np.float32)


def _coarser(image: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """As a scan with pixels `factor` times as large would show it."""
    rows, columns, _ = image.shape
    size = (max(2, round(columns / factor)), max(2, round(rows / factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    back = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.asarray(back, dtype=np.float32).reshape(image.shape)


def draw_crop(
    rng: np.random.Generator, labels: NDArray[np.uint8], warp: Warp, grid: int, side: int
) -> tuple[slice, slice]:
    """Rows and columns of a square crop of the grid, near a random voxel of the rarest structure
    that a slice shows, where the warp brings it.

    `labels`: [rows, columns] of the slice as it is, rarer structures with higher numbers. Where
    only background is present, or no voxel of a few stays in view, the crop lies anywhere. The
    chosen voxel is at most a quarter of the crop's side from its centre, so that it does not always
    lie in the middle.
    """
    centre = rng.integers(0, grid, 2)
    rarest = labels.max()
    if rarest:
        inside = np.flatnonzero(labels == rarest)
        some = inside[rng.integers(len(inside), size=_TRIES)]
        moved = warp.moved(np.stack(np.unravel_index(some, labels.shape), axis=-1))
        shape = np.array(labels.shape)
        in_view = moved[((moved >= -0.5) & (moved < shape - 0.5)).all(axis=-1)]
        if len(in_view):
            on_grid = (in_view[0] + 0.5 - shape / 2) * (grid / max(labels.shape)) + grid / 2
            centre = on_grid.astype(int) + rng.integers(-side // 4, side // 4, 2)
    top, left = (int(first) for first in np.clip(centre - side // 2, 0, grid - side))
    return slice(top, top + side), slice(left, left + side)
