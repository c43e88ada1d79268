"""Whether a tumour probability of 0.3 means tumour in 3 of 10 voxels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
BINS = 10

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class ReliabilityBin:
    """Voxels whose probability lies in one tenth; both parts are 0 to 1, None without voxels."""

    voxels: int
    mean_probability: float | None
    tumor_part: float | None


@dataclass(frozen=True)
class Calibration:
    """Reliability of the tumour probability over voxels of the reference's liver (with tumour).

    `expected_error`: mean over voxels of |mean probability - part of tumour| of their bin (Guo et
    al., ICML 2017); None without voxels.
    """

    bins: tuple[ReliabilityBin, ...]
    expected_error: float | None


def count_levels(reference: NDArray[np.uint8], probability: NDArray[np.uint8]) -> Counts:
    """Voxels of the liver by probability, and those of them that are tumour: [2, 256].

    Both arrays have the same shape; labels 0, 1, 2 and probabilities of 0 to 255. Every probability
    is one of 256 levels, so these counts lose nothing and add up over cases.
    """
    liver, tumor = reference >= 1, reference == 2
    return np.stack(
        [np.bincount(probability[mask], minlength=LEVELS) for mask in (liver, tumor)]
    ).astype(np.int64)


def calibration(by_case: Sequence[Counts]) -> Calibration:
    """Over the voxels of all cases, in bins of equal width; a level between two is in the lower."""
    voxels, tumor = np.sum(by_case, axis=0) if by_case else np.zeros((2, LEVELS), np.int64)
    probability = np.arange(LEVELS) / (LEVELS - 1)
    top = LEVELS - 1
    which = np.maximum((BINS * np.arange(LEVELS) + top - 1) // top - 1, 0)  # in exact integers
    bins = []
    for number in range(BINS):
        here = which == number
        count = int(voxels[here].sum())
        mean = float((voxels * probability)[here].sum() / count) if count else None
        part = float(tumor[here].sum() / count) if count else None
        bins.append(ReliabilityBin(count, mean, part))
    return Calibration(tuple(bins), _expected_error(bins))


def _expected_error(bins: Sequence[ReliabilityBin]) -> float | None:
    total = sum(item.voxels for item in bins)
    if not total:
        return None
    apart = [
        item.voxels * abs(item.mean_probability - item.tumor_part)
        for item in bins
        if item.mean_probability is not None and item.tumor_part is not None
    ]
    return sum(apart) / total
