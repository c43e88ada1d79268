"""Hepatic veins that are darker than the liver around them, as before contrast medium reaches them.

Few training volumes show them, so a network takes each for a lesion. They are drawn into slices and
stay liver: what is long and dark is a vessel.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from service.volume import LIVER_LABEL
from training.config import SyntheticVeinConfig

Image = NDArray[np.float32]
Point = NDArray[np.float64]

_TAPER = 0.4
"""Width of a vein at its far end, as a part of that where the veins meet."""

_SHORTEST = 5
"""Length of a vein, in its widths: what is rounder than that could be a lesion."""

_SUBPIXEL_BITS = 4


def draw_veins(
    image: Image, labels: NDArray[np.uint8], rng: np.random.Generator, config: SyntheticVeinConfig
) -> Image:
    """The slice with a few dark veins in its liver, which run out from one point; labels stay.

    `image`: window units [rows, columns]; `labels`: [rows, columns]. Lesions lie over them.
    Unchanged without liver, and where it is too small for one.
    """
    liver = labels == LIVER_LABEL
    inside = np.argwhere(liver).astype(np.float64)
    if not len(inside):
        return image
    meeting = inside[rng.integers(len(inside))]
    width = float(np.exp(rng.uniform(*np.log(config.width_px))))
    covered = np.zeros(image.shape, dtype=np.uint8)
    for _ in range(rng.integers(1, config.most + 1)):
        end = inside[rng.integers(len(inside))]
        if np.linalg.norm(end - meeting) >= _SHORTEST * width:
            _draw(covered, _bow(meeting, end, rng), width)
    soft = cv2.GaussianBlur(covered.astype(np.float32) / 255, (0, 0), rng.uniform(0.4, 1.2))
    darker = np.float32(rng.uniform(*config.contrast)) * soft * liver
    return np.asarray(np.clip(image - darker, 0, 1), dtype=np.float32)


def _bow(start: Point, end: Point, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points (row, column) of a quadratic Bézier curve, at most a pixel apart, [points, 2]."""
    reach = end - start
    aside = np.array([-reach[1], reach[0]]) * rng.uniform(-0.3, 0.3)
    middle = start + reach / 2 + aside
    part = np.linspace(0, 1, 2 + int(2 * np.linalg.norm(reach)))[:, None]
    return (1 - part) ** 2 * start + 2 * part * (1 - part) * middle + part**2 * end


def _draw(covered: NDArray[np.uint8], points: NDArray[np.float64], width: float) -> None:
    one = 1 << _SUBPIXEL_BITS
    radii = np.linspace(width / 2, _TAPER * width / 2, len(points))
    for (row, column), radius in zip(points, radii, strict=True):
        centre = (round(column * one), round(row * one))
        cv2.circle(covered, centre, round(radius * one), 255, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
