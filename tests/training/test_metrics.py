"""Overlap by hand, and what holds where a structure is absent."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.evaluation.metrics import Overlap, dice, overlap


def mask(*indices: int) -> NDArray[np.bool_]:
    found = np.zeros(8, dtype=bool)
    found[list(indices)] = True
    return found


def test_overlap_by_hand() -> None:
    """Three voxels against five, two of them common, of eight."""
    found = overlap(mask(1, 2, 3), mask(2, 3, 4, 5, 6))
    assert found == Overlap(
        reference_voxels=3,
        predicted_voxels=5,
        common_voxels=2,
        dice=4 / 8,
        jaccard=2 / 6,
        voe=1 - 2 / 6,
        pixel_accuracy=4 / 8,  # right: 2 and 3, and the background 0 and 7
        precision=2 / 5,
        recall=2 / 3,
        rvd=2 / 3,
    )


def test_absent_in_both_is_right() -> None:
    """Nothing to find and nothing found; a relative difference needs a reference."""
    found = overlap(mask(), mask())
    assert (found.dice, found.jaccard, found.precision, found.recall) == (1, 1, 1, 1)
    assert (found.voe, found.pixel_accuracy) == (0, 1)
    assert found.rvd is None


@pytest.mark.parametrize(("reference", "prediction", "rvd"), [((), (1, 2), None), ((1, 2), (), -1)])
def test_absent_in_one_is_wrong(
    reference: tuple[int, ...], prediction: tuple[int, ...], rvd: float | None
) -> None:
    """Also where there is nothing to divide by; the background is still right."""
    found = overlap(mask(*reference), mask(*prediction))
    assert (found.dice, found.jaccard, found.precision, found.recall) == (0, 0, 0, 0)
    assert (found.voe, found.pixel_accuracy, found.rvd) == (1, 6 / 8, rvd)


def test_apart_is_zero() -> None:
    """Both there, nothing common: 0 by the formula, no rule needed."""
    found = overlap(mask(1), mask(2))
    assert (found.dice, found.precision, found.recall, found.rvd) == (0, 0, 0, 0)


def test_relative_difference_is_signed() -> None:
    """Less than the reference is negative."""
    assert overlap(mask(1, 2, 3, 4), mask(1)).rvd == -3 / 4


def test_other_shapes_are_refused() -> None:
    """A broadcast would compare what does not belong together."""
    with pytest.raises(ValueError, match=r"expected the shape \(1, 8\), found \(8,\)"):
        dice(np.zeros((1, 8), dtype=bool), mask())
