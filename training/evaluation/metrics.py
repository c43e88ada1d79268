"""Overlap of a prediction with its reference, voxel by voxel, as the LiTS challenge defines it."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Overlap:
    """One structure of one case: sizes in voxels, and what follows from them.

    Absent in reference and prediction: 1 (volume overlap error 0); absent in one only: 0 (error 1).
    Pixel accuracy counts the background too, so it is defined in both cases and needs no such rule.
    `rvd`, the relative volume difference (prediction - reference) / reference, is None without
    reference. Source: Bilic et al., Medical Image Analysis 84, 2023.
    """

    reference_voxels: int
    predicted_voxels: int
    common_voxels: int
    dice: float
    jaccard: float
    voe: float
    pixel_accuracy: float
    precision: float
    recall: float
    rvd: float | None


OVERLAP_METRICS = tuple(item.name for item in fields(Overlap) if not item.name.endswith("_voxels"))


def overlap(reference: Mask, prediction: Mask) -> Overlap:
    """Compare two masks of the same shape. Raises ValueError where the shapes differ."""
    _check_same_shape(reference, prediction)
    expected, found = int(reference.sum()), int(prediction.sum())
    common = int((reference & prediction).sum())
    either = expected + found - common
    absent_in_one = 0.0 if either else 1.0
    jaccard = common / either if either else 1.0
    return Overlap(
        reference_voxels=expected,
        predicted_voxels=found,
        common_voxels=common,
        dice=2 * common / (expected + found) if either else 1.0,
        jaccard=jaccard,
        voe=1 - jaccard,
        pixel_accuracy=1 - (either - common) / reference.size,
        precision=common / found if found else absent_in_one,
        recall=common / expected if expected else absent_in_one,
        rvd=(found - expected) / expected if expected else None,
    )


def dice(reference: Mask, prediction: Mask) -> float:
    """2 x intersection / (reference + prediction); 1 where both are empty."""
    return overlap(reference, prediction).dice


def _check_same_shape(reference: Mask, prediction: Mask) -> None:
    if reference.shape != prediction.shape:
        raise ValueError(f"expected the shape {reference.shape}, found {prediction.shape}")
