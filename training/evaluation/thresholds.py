"""Choosing thresholds and the smallest lesion on predictions of cases that no network had seen."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from service.boxes import Box, box_of, everything
from service.inference.contract import Thresholds
from service.inference.postprocess import Grid, Rules, components, postprocess
from service.volume import LIVER_LABEL, TUMOR_LABEL
from training.data import Case
from training.evaluation.decision import (
    Choice,
    Cleaning,
    Decision,
    Labels,
    Space,
    clean,
    decide_again,
)
from training.evaluation.metrics import dice
from training.prediction import Prediction

LIVER = (0.3, 0.4, 0.5, 0.6, 0.7)
TUMOR = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SMALLEST = tuple(
    Cleaning(min_lesion_mm3=mm3, min_lesion_px=px)
    for mm3, px in ((0, 0), (30, 10), (60, 20), (120, 40), (240, 80))
)
"""The pixels stand for the volume where the spacing is not known; LiTS' median voxel is 0.5 to
3 mm3."""

SAME_DICE = 0.001
"""Attempts whose mean Dice is this close to the best are told apart by their false lesions."""

ORGAN_FIRST = Rules(small_lesions=False)
LESIONS_LAST = Rules(liver_fragments=False, distant_tumor=False)
"""One after the other they are all rules; apart, only the second is repeated for every size."""

Predictions = Callable[[], Iterable[tuple[Case, Prediction]]]
Table = NDArray[np.float64]


class Attempt(BaseModel):
    """One decision and how it did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Decision
    tumor_dice: float = Field(description="mean over cases with tumour")
    false_lesions: float | None = Field(description="per case without tumour; None without one")


class Tuning(BaseModel):
    """All attempts, the chosen one, and what the choice is worth on patients that did not make it.

    The chosen attempt's Dice is a little too good, since it was chosen for it: its decision's
    `chosen` tells what the choice is worth. The liver's threshold is chosen once, on all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chosen: Attempt
    liver_dice: dict[float, float] = Field(description="mean per case, by the liver's threshold")
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True)
class _Outcome:
    """Of one case: Dice and lesions of tumour for every attempt."""

    patient: str
    has_tumor: bool
    tumor_dice: list[float]
    lesions: list[int]


def tune(
    predictions: Predictions,
    space: Space,
    patients: Mapping[str, str],
    recipe_sha256: str | None = None,
) -> Tuning:
    """First the liver's threshold by the liver's Dice per case; then, by the mean tumour Dice over
    cases with tumour, its threshold and the smallest lesion.

    `predictions` is called twice, so that one case at a time is in memory; `patients` gives the
    patient of each case by name, and `recipe_sha256` tells whose predictions they are. Raises
    ValueError where no case has tumour, and for predictions without probabilities.
    """
    liver_dice = dict(zip(LIVER, _liver_dice(predictions(), space), strict=True))
    liver = max(LIVER, key=lambda threshold: (liver_dice[threshold], -abs(threshold - 0.5)))
    decisions = [
        Decision(thresholds=Thresholds(liver=liver, tumor=tumor), cleaning=cleaning)
        for tumor in TUMOR
        for cleaning in SMALLEST
    ]
    named = [(case.name, _outcome(case, found, liver, space, patients[case.name]))
             for case, found in predictions()]  # fmt: skip
    outcomes = [outcome for _, outcome in named]
    dices, lesions = _dices(outcomes), _lesions(outcomes)
    if not len(dices):
        raise ValueError("expected a case with tumour to choose by, found none")
    attempts = tuple(
        Attempt(
            decision=decision,
            tumor_dice=float(dices[:, index].mean()),
            false_lesions=float(lesions[:, index].mean()) if len(lesions) else None,
        )
        for index, decision in enumerate(decisions)
    )
    best = attempts[_best(dices, lesions)]
    names = tuple(name for name, _ in named)
    choice = Choice(
        cases=names, recipe_sha256=recipe_sha256, left_out_tumor_dice=_left_out(outcomes)
    )
    chosen = best.decision.model_copy(update={"chosen": choice})
    return Tuning(
        chosen=best.model_copy(update={"decision": chosen}),
        liver_dice=liver_dice,
        attempts=attempts,
    )


def _liver_dice(predictions: Iterable[tuple[Case, Prediction]], space: Space) -> list[float]:
    """Mean Dice per case by threshold."""
    by_case = [
        [_liver_of(prediction, case, space, threshold) for threshold in LIVER]
        for case, prediction in predictions
    ]
    return [float(value) for value in np.mean(by_case, axis=0)]


def _liver_of(prediction: Prediction, case: Case, space: Space, threshold: float) -> float:
    decided = decide_again(prediction, Thresholds(liver=threshold))
    found = clean(decided.labels, case, space, Cleaning())
    return dice(case.labels() >= LIVER_LABEL, found >= LIVER_LABEL)


def _outcome(
    case: Case, prediction: Prediction, liver: float, space: Space, patient: str
) -> _Outcome:
    stack = space.stack(case)
    truth, found = stack.fill(case.labels()), _filled(prediction, stack.fill)
    box = _plane_box(truth, found, liver)
    tumor, found = truth[box] == TUMOR_LABEL, _cut(found, box)
    dices, lesions = [], []
    for threshold in TUMOR:
        labels = decide_again(found, Thresholds(liver=liver, tumor=threshold)).labels
        organ_done = _ruled(labels, ORGAN_FIRST, Cleaning(), space.spacing_mm(case))
        for cleaning in SMALLEST:
            done = _ruled(organ_done, LESIONS_LAST, cleaning, space.spacing_mm(case))
            dices.append(dice(tumor, done == TUMOR_LABEL))
            lesions.append(len(components(done == TUMOR_LABEL)[1]) - 1)
    return _Outcome(patient, bool(tumor.any()), dices, lesions)


def _filled(
    prediction: Prediction, fill: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> Prediction:
    organ = prediction.organ_probability
    return Prediction(
        fill(prediction.labels),
        fill(prediction.tumor_probability),
        None if organ is None else fill(organ),
    )


def _plane_box(truth: Labels, found: Prediction, liver: float) -> Box:
    """All slices, and the rows and columns that hold anything: the rest costs time only."""
    if found.organ_probability is None:
        return everything(truth)
    held = box_of((truth > 0) | (found.organ_probability >= int(255 * liver)))
    return everything(truth) if held is None else (slice(0, len(truth)), held[1], held[2])


def _cut(found: Prediction, box: Box) -> Prediction:
    organ = found.organ_probability
    return Prediction(
        found.labels[box], found.tumor_probability[box], None if organ is None else organ[box]
    )


def _ruled(
    labels: Labels, rules: Rules, cleaning: Cleaning, spacing_mm: tuple[float, float, float] | None
) -> Labels:
    grid = Grid(spacing_mm, cleaning.min_lesion_mm3, cleaning.min_lesion_px)
    return postprocess(labels, grid, rules)[0]


def _best(dices: Table, lesions: Table) -> int:
    """Number of the attempt with the best mean Dice; of those as good that with the fewest lesions;
    of equal ones the threshold nearest to even odds.
    """
    means = dices.mean(axis=0)
    false = lesions.mean(axis=0) if len(lesions) else np.zeros(len(means))
    as_good: list[int] = np.flatnonzero(means >= means.max() - SAME_DICE).tolist()
    return min(as_good, key=lambda index: (false[index], -means[index], _from_even_odds(index)))


def _from_even_odds(attempt: int) -> float:
    """How far the tumour's threshold of an attempt of this number is from 0.5."""
    return abs(TUMOR[attempt // len(SMALLEST)] - 0.5)


def _left_out(outcomes: Sequence[_Outcome]) -> float | None:
    """None where the cases with tumour are all of one patient."""
    found = []
    for patient in sorted({outcome.patient for outcome in outcomes if outcome.has_tumor}):
        own = [outcome for outcome in outcomes if outcome.patient == patient]
        others = [outcome for outcome in outcomes if outcome.patient != patient]
        if any(outcome.has_tumor for outcome in others):
            found += list(_dices(own)[:, _best(_dices(others), _lesions(others))])
    return float(np.mean(found)) if found else None


def _dices(outcomes: Sequence[_Outcome]) -> Table:
    """Tumour Dice of the cases with tumour, [cases, attempts]."""
    return np.array([outcome.tumor_dice for outcome in outcomes if outcome.has_tumor])


def _lesions(outcomes: Sequence[_Outcome]) -> Table:
    """Lesions found in the cases without tumour, [cases, attempts]."""
    return np.array([outcome.lesions for outcome in outcomes if not outcome.has_tumor])
