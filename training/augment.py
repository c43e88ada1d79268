"""Random changes of a slice and its labels together."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.config import AugmentConfig


@dataclass(frozen=True)
class Warp:
    """Rotation, zoom and shift about the slice's centre, as OpenCV's 2 x 3 matrix."""

    matrix: NDArray[np.float64]

    @classmethod
    def draw(
        cls, rng: np.random.Generator, shape: tuple[int, int], config: AugmentConfig
    ) -> "Warp":
        rows, columns = shape
        angle = rng.uniform(-config.rotation_deg, config.rotation_deg)
        scale = np.exp(rng.uniform(*np.log(config.scale)))
        matrix = cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), angle, scale)
        matrix[:, 2] += rng.uniform(-config.shift, config.shift, 2) * (columns, rows)
        return cls(matrix)

    def apply(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Warp float32 [rows, columns, channels], linearly; what comes in from outside is 0."""
        rows, columns, channels = image.shape
        warped = cv2.warpAffine(image, self.matrix, (columns, rows), flags=cv2.INTER_LINEAR)
        return warped.reshape(rows, columns, channels)


def change_intensity(
    image: NDArray[np.float32], rng: np.random.Generator, config: AugmentConfig
) -> NDArray[np.float32]:
    """Blur, contrast, brightness, gamma and noise on an image in window units (0 to 1)."""
    if rng.random() < config.blur_probability:
        sigma = rng.uniform(0.3, max(0.3, config.blur_px))
        image = cv2.GaussianBlur(image, (0, 0), sigma).reshape(image.shape)
    image = image ** np.float32(np.exp(rng.uniform(-config.gamma, config.gamma)))
    mean = image.mean()
    factor = 1 + rng.uniform(-config.contrast, config.contrast)
    offset = rng.uniform(-config.brightness, config.brightness)
    image = (image - mean) * factor + mean + offset
    image = image + rng.normal(0, rng.uniform(0, config.noise), image.shape)
    return np.clip(image, 0, 1).astype(np.float32)


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
