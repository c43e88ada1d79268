"""The tuning chooses what it should where the best choice is known."""

import numpy as np
import pytest
from labelled_cases import make_case, said

from service.inference.contract import Thresholds
from training.data import Case
from training.evaluation.decision import Decision, Space, decide_again
from training.evaluation.thresholds import LIVER, SMALLEST, TUMOR, Tuning, tune
from training.prediction import Prediction

LOW, HIGH = 0.45, 0.65
"""Given probability of true lesions, and of a false speck of 27 voxels of 1 mm3."""


def labelled(name: str, tumor: bool) -> Case:
    labels = np.zeros((10, 24, 24), dtype=np.uint8)
    labels[2:8, 4:20, 4:20] = 1
    if tumor:
        labels[3:7, 6:12, 6:12] = 2
    return make_case(name, labels, spacing_mm=(1, 1, 1))


def faint_and_false(case: Case) -> Prediction:
    """Lesions are given less than even odds, and a speck more than even."""
    truth = case.labels()
    tumor = np.where(truth == 2, LOW, 0.0)
    tumor[3:6, 15:18, 15:18] = HIGH
    scaled = [np.rint(255 * values).astype(np.uint8) for values in (tumor, truth >= 1)]
    return Prediction(truth, scaled[0], scaled[1])


CASES = (labelled("one", True), labelled("two", True), labelled("three", False))
APART = {case.name: case.name for case in CASES}


def left_out(found: Tuning) -> float | None:
    """What the choice is worth on patients that did not make it."""
    assert found.chosen.decision.chosen is not None
    return found.chosen.decision.chosen.left_out_tumor_dice


@pytest.fixture(scope="module")
def tuning() -> Tuning:
    return tune(lambda: ((case, faint_and_false(case)) for case in CASES), Space(), APART)


def test_threshold_and_smallest_lesion_are_found(tuning: Tuning) -> None:
    """Tumour from 0.4 or less finds the lesions, of which 0.4 is nearest to even odds; 30 mm3 drops
    the speck of 27.
    """
    chosen = tuning.chosen
    assert chosen.decision.thresholds.tumor == 0.4
    assert chosen.decision.cleaning.min_lesion_mm3 == 30
    assert (chosen.tumor_dice, chosen.false_lesions) == (1, 0)
    assert len(tuning.attempts) == len(TUMOR) * len(SMALLEST)
    assert left_out(tuning) == 1
    assert tuning.chosen.decision.chosen is not None
    assert tuning.chosen.decision.chosen.cases == ("one", "two", "three")


def test_every_attempt_is_measured(tuning: Tuning) -> None:
    """Low and no smallest size: lesion and speck; high: speck only; higher: nothing."""
    found = {
        (one.decision.thresholds.tumor, one.decision.cleaning.min_lesion_mm3): one
        for one in tuning.attempts
    }
    both = found[0.3, 0]
    assert both.tumor_dice == pytest.approx(2 * 144 / (144 + 144 + 27))
    assert both.false_lesions == 1
    assert (found[0.6, 0].tumor_dice, found[0.6, 0].false_lesions) == (0, 1)
    assert (found[0.8, 0].tumor_dice, found[0.8, 0].false_lesions) == (0, 0)
    # A lesion of 144 mm3 goes too where the smallest is 240.
    assert found[0.3, 240].tumor_dice == 0


def test_liver_threshold_is_chosen_by_the_liver(tuning: Tuning) -> None:
    """All thresholds give the same liver here: the middle one is taken."""
    assert tuning.liver_dice == dict.fromkeys(LIVER, 1.0)
    assert tuning.chosen.decision.thresholds.liver == 0.5


def test_left_out_dice_is_not_chosen_by_its_own_case() -> None:
    """Two cases that need opposite thresholds: each is judged by the other's choice, and fails."""

    def opposite(case: Case) -> Prediction:
        truth = case.labels()
        inside, outside = (0.9, 0.65) if case.name == "one" else (0.45, 0.25)
        tumor = np.where(truth == 2, inside, np.where(truth == 1, outside, 0.0))
        scaled = [np.rint(255 * values).astype(np.uint8) for values in (tumor, truth >= 1)]
        return Prediction(truth, scaled[0], scaled[1])

    found = tune(lambda: ((case, opposite(case)) for case in CASES[:2]), Space(), APART)
    worth = left_out(found)
    assert worth is not None
    assert worth < found.chosen.tumor_dice
    together = {"one": "same", "two": "same"}
    found = tune(lambda: ((case, opposite(case)) for case in CASES[:2]), Space(), together)
    assert left_out(found) is None


def test_deciding_again_is_deciding_differently() -> None:
    """Kept bytes decide as the probabilities they stand for."""
    again = decide_again(faint_and_false(CASES[0]), Thresholds(tumor=0.4))
    assert ((again.labels == 2) == (faint_and_false(CASES[0]).tumor_probability > 0)).all()


def test_without_tumour_there_is_nothing_to_choose_by() -> None:
    """False lesions alone would choose to find nothing."""
    with pytest.raises(ValueError, match="expected a case with tumour"):
        tune(lambda: ((case, said(case.labels())) for case in CASES[2:]), Space(), APART)


def test_decision_reads_back(tuning: Tuning, tmp_path: object) -> None:
    """What `tune` writes is what `evaluate` reads."""
    text = tuning.chosen.decision.model_dump_json()
    assert Decision.model_validate_json(text) == tuning.chosen.decision
