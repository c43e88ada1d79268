"""Livers and lesions that no patient had: other greys for those that are there, and new lesions.

Three volumes hold most tumour pixels of the training data, so a network sees few kinds of lesions.
Drawn ones can teach as real ones do: Hu et al., CVPR 2023 (there in 3D, here in slices).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from service.volume import LIVER_LABEL, TUMOR_LABEL
from training.config import SyntheticLesionConfig

Image = NDArray[np.float32]
Labels = NDArray[np.uint8]

_EDGE = 0.1
"""How near to the window's ends a mean grey may be moved, in window widths."""


def change_lesion_contrast(
    image: Image, labels: Labels, rng: np.random.Generator, most: float
) -> Image:
    """Move the lesions of a slice away from its liver's grey, or towards and beyond it.

    `image`: window units [rows, columns]; `labels`: [rows, columns]. Unchanged without both.
    """
    liver, tumor = labels == LIVER_LABEL, labels == TUMOR_LABEL
    if not most or not liver.any() or not tumor.any():
        return image
    difference = image[tumor].mean() - image[liver].mean()
    change = np.float32(rng.uniform(-most, most) * difference)
    soft = cv2.GaussianBlur(tumor.astype(np.float32), (0, 0), 1.0)
    return np.asarray(np.clip(image + change * soft, 0, 1), dtype=np.float32)


def shift_organ(image: Image, labels: Labels, rng: np.random.Generator, most: float) -> Image:
    """Make the liver with its lesions darker, as fat does, or brighter, to the window's ends.

    `image`: window units [rows, columns]; `labels`: [rows, columns]. Every other sample stays as it
    is. What is around the organ keeps its grey, so that "bright" or "uniform" is no sign of tumour.
    Where there are lesions, neither they nor the liver leave the window, in which they would be as
    white, or black, as each other.
    """
    organ = labels > 0
    if not most or not organ.any() or rng.random() < 0.5:
        return image
    soft = cv2.GaussianBlur(organ.astype(np.float32), (0, 0), 1.0)
    shift = rng.uniform(-most, most)
    if (labels == TUMOR_LABEL).any():
        greys = [image[labels == label].mean() for label in np.unique(labels[organ])]
        shift = np.clip(shift, min(0, _EDGE - min(greys)), max(0, 1 - _EDGE - max(greys)))
    return np.asarray(np.clip(image + np.float32(shift) * soft, 0, 1), dtype=np.float32)


def draw_lesions(
    image: Image, labels: Labels, rng: np.random.Generator, config: SyntheticLesionConfig
) -> tuple[Image, Labels]:
    """The slice with a few lesions in its liver; both [rows, columns].

    Each is a bent ellipse with a soft edge and a texture of its own, cut off at the organ's edge.
    """
    image, labels = image.copy(), labels.copy()
    organ = labels > 0
    inside = np.argwhere(organ)
    if not len(inside):
        return image, labels
    for _ in range(rng.integers(1, config.most + 1)):
        centre = inside[rng.integers(len(inside))].astype(np.float32)
        radius = float(np.exp(rng.uniform(*np.log(config.radius_px))))
        part = _lesion(rng, image.shape, centre, radius) * organ
        image += part * _grey(rng, image.shape, config)
        labels[part > 0.5] = TUMOR_LABEL
    return np.clip(image, 0, 1).astype(np.float32), labels


def _lesion(
    rng: np.random.Generator, shape: tuple[int, ...], centre: NDArray[np.float32], radius: float
) -> Image:
    """How much of each pixel the lesion covers, 0 to 1."""
    rows, columns = (np.arange(size, dtype=np.float32) for size in shape)
    y, x = rows[:, None] - centre[0], columns[None, :] - centre[1]
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(0.6, 1.0)
    along = (np.cos(angle) * x + np.sin(angle) * y) / radius
    across = (np.cos(angle) * y - np.sin(angle) * x) / (radius * stretch)
    distance = np.sqrt(along**2 + across**2)
    bent = distance + rng.uniform(0, 0.35) * _smooth_noise(rng, shape, max(1.0, radius / 2))
    # Far from the lesion the bend's noise must not make another one.
    bent = np.where(distance > 2, distance, bent)
    edge = rng.uniform(0.5, 2.0) / radius  # pixels from inside to outside, over the radius
    return np.asarray(np.clip((1 - bent) / edge + 0.5, 0, 1), dtype=np.float32)


def _grey(rng: np.random.Generator, shape: tuple[int, ...], config: SyntheticLesionConfig) -> Image:
    """What the lesion adds to the liver's grey, pixel by pixel."""
    sign = 1 if rng.random() < config.bright else -1
    texture = rng.uniform(0, 0.05) * _smooth_noise(rng, shape, rng.uniform(0.7, 3.0))
    return np.asarray(sign * rng.uniform(*config.contrast) + texture, dtype=np.float32)


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma_px: float) -> Image:
    """Noise around 0, of standard deviation 1, without details below `sigma_px`."""
    rows, columns = (max(4, int(size / sigma_px)) for size in shape)
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    fine = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine / max(float(fine.std()), 1e-6), dtype=np.float32)
