"""The tuning chooses what it should where the best choice is known."""

import numpy as np
import pytest
from labelled_cases import make_case, phantom_case, said

from service.inference.contract import NO_LIMITS, LesionLimits, Thresholds
from service.inference.postprocess import components
from service.volume import AIR_HU, LIVER_LABEL, TUMOR_LABEL
from training.data import Case
from training.evaluation.decision import Cleaning, Decision, Space, clean, decide_again
from training.evaluation.evaluate import settled
from training.evaluation.metrics import dice
from training.evaluation.results import Conditions
from training.evaluation.thresholds import LIMITS, LIVER, SMALLEST, TUMOR, Tuning, tune
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
SIZES = len(TUMOR) * len(SMALLEST)
"""Attempts before those that choose the limits."""


def left_out(found: Tuning) -> float | None:
    """What the choice is worth on patients that did not make it."""
    assert found.chosen.decision.chosen is not None
    return found.chosen.decision.chosen.left_out_tumor_dice


@pytest.fixture(scope="module")
def tuning() -> Tuning:
    return tune(lambda: ((case, faint_and_false(case)) for case in CASES), Space(), APART)


def test_threshold_and_smallest_lesion_are_found(tuning: Tuning) -> None:
    """Tumour from 0.4 or less finds the lesions, of which 0.4 is nearest to even odds; 30 mm3 drops
    the speck of 27. No limit does better, so none is set.
    """
    chosen = tuning.chosen
    assert chosen.decision.thresholds.tumor == 0.4
    assert chosen.decision.cleaning == SMALLEST[1]
    assert SMALLEST[1].min_lesion_mm3 == 30
    assert (chosen.tumor_dice, chosen.false_lesions) == (1, 0)
    assert len(tuning.attempts) == SIZES + len(LIMITS)
    assert left_out(tuning) == 1
    assert tuning.chosen.decision.chosen is not None
    assert tuning.chosen.decision.chosen.cases == ("one", "two", "three")


def test_every_attempt_is_measured(tuning: Tuning) -> None:
    """Low and no smallest size: lesion and speck; high: speck only; higher: nothing."""
    found = {
        (one.decision.thresholds.tumor, one.decision.cleaning.min_lesion_mm3): one
        for one in tuning.attempts[:SIZES]
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


def scene(
    name: str, true: dict[str, int], false: dict[str, int] | None = None
) -> tuple[Case, Prediction]:
    """A liver of 100 HU, and what is sure of it, of true lesions and of false ones.

    Lesions are named by their place, with their Hounsfield units. All are larger than the true one
    in the liver, of 4 x 6 x 6 voxels of 1 mm3, so that no smallest size tells them apart.
    """
    labels = np.zeros((10, 48, 48), dtype=np.uint8)
    labels[2:8, 4:28, 4:36] = LIVER_LABEL
    hu = np.where(labels == LIVER_LABEL, 100, -100).astype(np.int16)
    for place, value in true.items():
        labels[PLACES[place]], hu[PLACES[place]] = TUMOR_LABEL, value
    found = labels.copy()
    for place, value in (false or {}).items():
        found[PLACES[place]], hu[PLACES[place]] = TUMOR_LABEL, value
    return make_case(name, labels, hu, spacing_mm=(1, 1, 1)), said(found)


PLACES = {
    "inside": (slice(3, 7), slice(8, 14), slice(8, 14)),
    "inside too": (slice(3, 7), slice(12, 20), slice(22, 30)),
    # It touches the liver with half of one side.
    "outside": (slice(3, 7), slice(28, 36), slice(32, 40)),
}
INSIDE, LARGE = 4 * 6 * 6, 4 * 8 * 8
"""Voxels of the first, and of each of the others."""


@pytest.mark.parametrize(
    ("place", "hu", "limits", "becomes"),
    [
        ("outside", 60, LesionLimits(surrounded=0.3), 0),
        ("inside too", 10, LesionLimits(fluid_hu=20), LIVER_LABEL),
        ("inside too", 95, LesionLimits(contrast_hu=8), LIVER_LABEL),
    ],
)
def test_limits_drop_what_only_looks_like_a_lesion(
    place: str, hu: int, limits: LesionLimits, becomes: int
) -> None:
    """What is hardly surrounded by liver, fluid, or no different from it: the least limit that
    drops it is chosen, and the true lesion of 60 HU stays as it is.
    """
    cases = [
        scene("one", {"inside": 60}, {place: hu}),
        scene("two", {"inside": 60}),
        scene("none", {}, {place: hu}),
    ]
    found = tune(lambda: cases, Space(), {case.name: case.name for case, _ in cases})
    before = found.attempts[SIZES]
    assert before.decision.cleaning.lesion_limits == NO_LIMITS
    assert before.tumor_dice == pytest.approx((2 * INSIDE / (2 * INSIDE + LARGE) + 1) / 2)
    assert before.false_lesions == 1
    chosen = found.chosen
    assert chosen.decision.cleaning == Cleaning(lesion_limits=limits)
    assert (chosen.tumor_dice, chosen.false_lesions) == (1, 0)
    for case, prediction in cases:
        expected = prediction.labels.copy()
        expected[PLACES[place]] = becomes if case.name != "two" else expected[PLACES[place]]
        cleaned = clean(prediction.labels, case, Space(), chosen.decision.cleaning)
        assert np.array_equal(cleaned, expected)


def test_left_out_dice_is_not_chosen_by_its_own_case() -> None:
    """Two cases that need opposite limits: each is judged by what the other would choose.

    One's false lesion lies where the other has a true one. By the second nothing is limited, and
    the first keeps its false lesion; by the first such lesions go, and the second loses its own.
    Together nothing is limited.
    """
    cases = [
        scene("one", {"inside": 60}, {"outside": 60}),
        scene("two", {"outside": 60}),
    ]
    found = tune(lambda: cases, Space(), APART)
    with_false = 2 * INSIDE / (2 * INSIDE + LARGE)
    assert found.chosen.decision.cleaning == Cleaning()
    assert found.chosen.tumor_dice == pytest.approx((with_false + 1) / 2)
    assert left_out(found) == pytest.approx((with_false + 0) / 2)
    found = tune(lambda: cases, Space(), {"one": "same", "two": "same"})
    assert left_out(found) is None


def test_left_out_dice_is_by_patient() -> None:
    """Scans of one patient do not choose for each other; one without tumour is not judged."""
    scans = ("one", "one later", "one last")
    cases = [
        *(scene(name, {"inside": 60}, {"outside": 60}) for name in scans),
        scene("two", {"outside": 60}),
        scene("none", {}, {"outside": 60}),
    ]
    patients = {**dict.fromkeys(scans, "A"), "two": "B", "none": "C"}
    found = tune(lambda: cases, Space(), patients)
    with_false = 2 * INSIDE / (2 * INSIDE + LARGE)
    assert found.chosen.decision.cleaning == Cleaning(lesion_limits=LesionLimits(surrounded=0.3))
    assert found.chosen.tumor_dice == pytest.approx((1 + 1 + 1 + 0) / 4)
    # Without A nothing would be limited; without B it would.
    assert left_out(found) == pytest.approx((3 * with_false + 0) / 4)


def doubtful(name: str, seed: int, lesions: int, known: bool) -> tuple[Case, Prediction]:
    """A phantom with slices left out, and surer false lesions of all kinds: in it, at its edge and
    far from it.

    They are large, so that neither a threshold nor a smallest size is rid of them.
    """
    rng = np.random.default_rng(seed)
    whole = phantom_case(name, seed, lesions)
    around = ((0, 0), (20, 10), (30, 106))  # 200 columns, a hundredth of which are two
    truth = np.pad(whole.labels()[NUMBERS], around)
    hu = np.pad(whole.hu()[NUMBERS], around, constant_values=AIR_HU)
    organ = np.where(truth >= LIVER_LABEL, 0.9, 0.1)
    tumor = np.where(truth == TUMOR_LABEL, 0.65, 0.05)
    for middle in rng.permutation(np.argwhere(truth == LIVER_LABEL))[:15]:
        lesion = tuple(slice(place - 2, place + 3) for place in middle)
        organ[lesion], tumor[lesion] = 0.9, rng.uniform(0.65, 0.9)
        hu[lesion] = rng.integers(0, 110)
    far = (slice(5, 12), slice(2, 14), slice(110, 150))  # too large for a fragment
    organ[far] = tumor[far] = 0.9
    scaled = [np.rint(255 * values).astype(np.uint8) for values in (tumor, organ)]
    spacing_mm = (3.0, 1.3, 1.0) if known else None  # a ring of 3 rows and 4 columns
    case = make_case(name, truth, hu, [2 * number for number in NUMBERS], spacing_mm)
    return case, Prediction(truth, scaled[0], scaled[1])


NUMBERS = [number for number in range(36) if number not in (12, 17, 18)]


@pytest.mark.parametrize("known", [True, False])
def test_attempts_are_what_the_rules_give(known: bool) -> None:
    """Limits are counted by lesion, not applied: the service's own rules with the same decision
    give the same Dice and false lesions, also where slices are left out and where the spacing is
    not known.
    """
    cases = [
        doubtful(name, seed, lesions, known)
        for name, seed, lesions in (("one", 7, 3), ("two", 8, 3), ("none", 9, 0))
    ]
    patients = {case.name: case.name for case, _ in cases}
    found = tune(lambda: cases, Space(slice_step=2), patients)
    limited = found.attempts[SIZES:]
    assert [one.decision.cleaning.lesion_limits for one in limited] == list(LIMITS)
    assert len({one.tumor_dice for one in limited}) > 20
    assert len({one.false_lesions for one in limited}) > 5
    for attempt in (*found.attempts[:SIZES:6], *limited[::7], found.chosen):
        decision = attempt.decision
        conditions = Conditions(
            thresholds=decision.thresholds, cleaning=decision.cleaning, slice_step=2
        )
        tumors = [settled(one, case, conditions).labels == TUMOR_LABEL for case, one in cases]
        truths = [case.labels() == TUMOR_LABEL for case, _ in cases]
        dices = [dice(truth, tumor) for truth, tumor in zip(truths[:2], tumors[:2], strict=True)]
        assert attempt.tumor_dice == pytest.approx(np.mean(dices))
        healthy = np.zeros((36, *tumors[2].shape[1:]), dtype=bool)
        healthy[NUMBERS] = tumors[2]
        assert attempt.false_lesions == len(components(healthy)[1]) - 1


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
