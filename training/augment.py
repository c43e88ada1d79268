"""Random changes of a slice and its labels together."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.config import AugmentConfig

_BEND_NODES = 5
"""Nodes a side of the coarse grid that an elastic bend is drawn on."""


@dataclass(frozen=True)
class Warp:
    """Where each pixel of a changed slice comes from: float32 x and y [rows, columns]."""

    from_x: NDArray[np.float32]
    from_y: NDArray[np.float32]

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
        back = cv2.invertAffineTransform(forward).astype(np.float32)
        x = np.arange(columns, dtype=np.float32)[None, :]
        y = np.arange(rows, dtype=np.float32)[:, None]
        if rng.random() < config.flip_left_right:
            x = x[:, ::-1]
        if rng.random() < config.flip_front_back:
            y = y[::-1]
        bend_x, bend_y = _bend(rng, shape, config.elastic)
        return cls(
            back[0, 0] * x + back[0, 1] * y + back[0, 2] + bend_x,
            back[1, 0] * x + back[1, 1] * y + back[1, 2] + bend_y,
        )

    def apply(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Warp float32 [rows, columns, channels], linearly; what comes in from outside is 0."""
        warped = cv2.remap(image, self.from_x, self.from_y, cv2.INTER_LINEAR)
        return np.asarray(warped, dtype=np.float32).reshape(image.shape)


def _bend(
    rng: np.random.Generator, shape: tuple[int, int], most: float
) -> tuple[NDArray[np.float32] | np.float32, NDArray[np.float32] | np.float32]:
    """A smooth shift of each pixel in x and y; its deviation is at most a part of the side."""
    if not most:
        return np.float32(0), np.float32(0)
    rows, columns = shape
    strength = rng.uniform(0, most) * max(shape)
    coarse = rng.normal(0, strength, (2, _BEND_NODES, _BEND_NODES)).astype(np.float32)
    x, y = (cv2.resize(item, (columns, rows), interpolation=cv2.INTER_CUBIC) for item in coarse)
    return x, y


def change_intensity(
    image: NDArray[np.float32], rng: np.random.Generator, config: AugmentConfig
) -> NDArray[np.float32]:
    """Resolution, blur, gamma, contrast, brightness and noise, on window units (0 to 1)."""
    if rng.random() < config.coarse_probability:
        image = _coarser(image, rng.uniform(1, config.coarse))
    if rng.random() < config.blur_probability:
        sigma = rng.uniform(0.3, max(0.3, config.blur_px))
        image = cv2.GaussianBlur(image, (0, 0), sigma).reshape(image.shape)
    image = image ** np.float32(np.exp(rng.uniform(-config.gamma, config.gamma)))
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
    rng: np.random.Generator, classes: NDArray[np.float32], side: int
) -> tuple[slice, slice]:
    """Rows and columns of a square crop, near a random voxel of the rarest structure present.

    `classes`: one-hot [rows, columns, classes], rarer classes last. Where only background is
    present the crop lies anywhere. The chosen voxel is at most a quarter of the side from the
    crop's centre, so that it does not always lie in the middle.
    """
    rows, columns, _ = classes.shape
    for structure in np.moveaxis(classes, -1, 0)[:0:-1]:
        inside = np.argwhere(structure > 0)
        if len(inside):
            centre = inside[rng.integers(len(inside))] + rng.integers(-side // 4, side // 4, 2)
            break
    else:
        centre = rng.integers(0, (rows, columns))
    top, left = np.clip(centre - side // 2, 0, (rows - side, columns - side))
    return slice(top, top + side), slice(left, left + side)
