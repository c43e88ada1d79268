"""Dice by case, and the report of an evaluation."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.data import LabelledSlice
from training.evaluate import SLICES_AT_ONCE, evaluate
from training.metrics import dice


def mask(*indices: int) -> NDArray[np.bool_]:
    found = np.zeros(8, dtype=bool)
    found[list(indices)] = True
    return found


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        (mask(1, 2, 3), mask(2, 3, 4, 5, 6), 0.5),
        (mask(1, 2), mask(1, 2), 1.0),
        (mask(1), mask(2), 0.0),
        (mask(), mask(), 1.0),
        (mask(), mask(1), 0.0),
        (mask(1), mask(), 0.0),
    ],
)
def test_dice(reference: NDArray[np.bool_], prediction: NDArray[np.bool_], expected: float) -> None:
    assert dice(reference, prediction) == expected


def test_dice_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="expected the shape"):
        dice(np.zeros((1, 8), dtype=bool), mask())


class FakeSlice(LabelledSlice):
    """Labels by slice number; HU are ten times the label."""

    def labels(self) -> NDArray[np.uint8]:
        labels = np.zeros((4, 4), dtype=np.uint8)
        labels[0], labels[1, : self.tumor_px] = 1, 2
        return labels

    def hu(self) -> NDArray[np.int16]:
        return self.labels().astype(np.int16) * 10


def case(name: str, count: int, tumor_px: int) -> list[LabelledSlice]:
    return [FakeSlice(Path(), name, index, "val", 4 + tumor_px, tumor_px) for index in range(count)]


def test_dice_is_of_a_case_over_all_its_slices() -> None:
    """Liver means liver with tumour; the tumour's mean leaves out cases that have none."""
    batches = []

    def liver_only(hu: NDArray[np.int16]) -> NDArray[np.uint8]:
        batches.append(len(hu))
        return (hu == 10).astype(np.uint8)

    cases = {"with": case("with", SLICES_AT_ONCE + 1, 2), "without": case("without", 2, 0)}
    report = evaluate(liver_only, cases)
    with_tumor, without = report.cases
    assert with_tumor.liver == pytest.approx(2 * 4 / (4 + 6))
    assert (with_tumor.tumor, with_tumor.has_tumor) == (0, True)
    assert (without.liver, without.tumor, without.has_tumor) == (1, 1, False)
    assert report.liver_dice == pytest.approx(0.9)
    assert (report.tumor_dice, report.cases_with_tumor) == (0, 1)
    assert batches == [SLICES_AT_ONCE, 1, 2]
    assert report.table("a title").row_count == 3


def test_no_case_with_tumour_has_no_mean() -> None:
    report = evaluate(lambda hu: (hu // 10).astype(np.uint8), {"a": case("a", 1, 0)})
    assert math.isnan(report.tumor_dice)
    assert report.liver_dice == 1
