"""Reliability of the tumour probability, by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from training.evaluation.calibration import calibration, count_levels


def test_by_hand() -> None:
    """Four voxels of liver in two bins; background does not count.

    Probabilities of 51 / 255 = 0.2, the end of the second bin, with none of two tumour, and of 1
    with one of two: errors of 0.2 and 0.5.
    """
    reference = np.array([0, 0, 1, 1, 1, 2], dtype=np.uint8)
    probability = np.array([255, 255, 51, 51, 255, 255], dtype=np.uint8)
    found = calibration([count_levels(reference, probability)])
    assert [item.voxels for item in found.bins] == [0, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    assert (found.bins[1].mean_probability, found.bins[1].tumor_part) == (pytest.approx(0.2), 0)
    assert (found.bins[9].mean_probability, found.bins[9].tumor_part) == (1, 0.5)
    assert found.bins[0].mean_probability is None
    assert found.expected_error == pytest.approx((2 * 0.2 + 2 * 0.5) / 4)


def test_curve_is_scikit_learns() -> None:
    """Counts by level and case give the curve that all voxels at once give."""
    rng = np.random.default_rng(0)
    reference = rng.integers(1, 3, (2, 500)).astype(np.uint8)
    probability = rng.integers(0, 256, (2, 500)).astype(np.uint8)
    found = calibration([count_levels(*one) for one in zip(reference, probability, strict=True)])
    part, mean = calibration_curve(
        reference.ravel() == 2, probability.ravel() / 255, n_bins=10, strategy="uniform"
    )
    assert [item.tumor_part for item in found.bins] == pytest.approx(list(part))
    assert [item.mean_probability for item in found.bins] == pytest.approx(list(mean))


def test_no_liver_has_no_error() -> None:
    """Also where there is no case at all."""
    empty = np.zeros(4, dtype=np.uint8)
    assert calibration([count_levels(empty, empty)]).expected_error is None
    assert calibration([]).expected_error is None
