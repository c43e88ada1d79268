"""Choosing thresholds and what lesions are kept by, on predictions of cases that no network saw."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from service.boxes import Box, box_of, everything
from service.inference.contract import LesionLimits, Thresholds
from service.inference.lesion_signs import LesionSigns, ring_px
from service.inference.postprocess import Rules, components, postprocess
from service.volume import AIR_HU, LIVER_LABEL, TUMOR_LABEL
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

LIMITS = tuple(
    LesionLimits(surrounded=surrounded, fluid_hu=fluid_hu, contrast_hu=contrast_hu)
    for surrounded in (0.0, 0.3, 0.4, 0.5, 0.6)
    for fluid_hu in (None, 20.0, 25.0, 30.0, 35.0)
    for contrast_hu in (0.0, 8.0, 12.0, 16.0)
)

SAME_DICE = 0.001
"""Attempts whose mean Dice is this close to the best are told apart by their false lesions."""

ORGAN_FIRST = Rules(small_lesions=False, unlikely_lesions=False)
LESIONS_LAST = Rules(liver_fragments=False, distant_tumor=False, unlikely_lesions=False)
"""One after the other they are all rules but that of the limits; apart, only the second is repeated
for every size.
"""

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
    `chosen` tells what the choice of limits is worth. Thresholds and the smallest lesion, between
    which there is far less to choose, are chosen once, on all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chosen: Attempt
    liver_dice: dict[float, float] = Field(description="mean per case, by the liver's threshold")
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True)
class _Outcome:
    """Of one case: Dice and lesions of tumour for every attempt."""

    case: str
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
    cases with tumour, its threshold and the smallest lesion; then in the same way the limits.

    `predictions` is called three times, so that one case at a time is in memory; `patients` gives
    the patient of each case by name, and `recipe_sha256` tells whose predictions they are. Raises
    ValueError where no case has tumour, and for predictions without probabilities.
    """
    liver_dice = dict(zip(LIVER, _liver_dice(predictions(), space), strict=True))
    liver = max(LIVER, key=lambda threshold: (liver_dice[threshold], -abs(threshold - 0.5)))
    sizes = [
        Decision(thresholds=Thresholds(liver=liver, tumor=tumor), cleaning=cleaning)
        for tumor in TUMOR
        for cleaning in SMALLEST
    ]
    by_size = [_by_size(_Seen.of(case, found, liver, space), patients[case.name])
               for case, found in predictions()]  # fmt: skip
    first = sizes[_best(by_size, sizes)]
    limited = [
        first.model_copy(
            update={"cleaning": first.cleaning.model_copy(update={"lesion_limits": limits})}
        )
        for limits in LIMITS
    ]
    by_limits = [_by_limits(_Seen.of(case, found, liver, space), patients[case.name], first)
                 for case, found in predictions()]  # fmt: skip
    last = _attempts(by_limits, limited)
    best = last[_best(by_limits, limited)]
    choice = Choice(
        cases=tuple(outcome.case for outcome in by_limits),
        recipe_sha256=recipe_sha256,
        left_out_tumor_dice=_left_out(by_limits, limited),
    )
    chosen = best.decision.model_copy(update={"chosen": choice})
    return Tuning(
        chosen=best.model_copy(update={"decision": chosen}),
        liver_dice=liver_dice,
        attempts=(*_attempts(by_size, sizes), *last),
    )


def _attempts(outcomes: Sequence[_Outcome], decisions: Sequence[Decision]) -> tuple[Attempt, ...]:
    dices, lesions = _dices(outcomes), _lesions(outcomes)
    return tuple(
        Attempt(
            decision=decision,
            tumor_dice=float(dices[:, index].mean()),
            false_lesions=float(lesions[:, index].mean()) if len(lesions) else None,
        )
        for index, decision in enumerate(decisions)
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


@dataclass(frozen=True)
class _Seen:
    """A case and its prediction, cut to the rows and columns that hold anything.

    `hu`, `tumor` (the reference) and `found`: [slice, row, column].
    """

    case: Case
    space: Space
    liver: float
    ring_px: tuple[int, int]
    hu: Callable[[], NDArray[np.int16]]
    tumor: NDArray[np.bool_]
    found: Prediction

    @classmethod
    def of(cls, case: Case, prediction: Prediction, liver: float, space: Space) -> "_Seen":
        stack = space.stack(case)
        truth, found = stack.fill(case.labels()), _filled(prediction, stack.fill)
        box = _plane_box(truth, found, liver)
        return cls(
            case,
            space,
            liver,
            ring_px(truth.shape, space.spacing_mm(case)),
            lambda: stack.fill(case.hu(), AIR_HU)[box],
            truth[box] == TUMOR_LABEL,
            _cut(found, box),
        )

    def labels(self, tumor: float) -> Labels:
        """By this threshold, after the rules on organs."""
        decided = decide_again(self.found, Thresholds(liver=self.liver, tumor=tumor)).labels
        return self.ruled(decided, ORGAN_FIRST, Cleaning())

    def ruled(self, labels: Labels, rules: Rules, cleaning: Cleaning) -> Labels:
        return postprocess(labels, cleaning.grid(self.space.spacing_mm(self.case)), rules)[0]

    def outcome(self, patient: str, dices: list[float], lesions: list[int]) -> _Outcome:
        return _Outcome(self.case.name, patient, bool(self.tumor.any()), dices, lesions)


def _by_size(seen: _Seen, patient: str) -> _Outcome:
    """For every threshold and every smallest lesion."""
    dices, lesions = [], []
    for threshold in TUMOR:
        organ_done = seen.labels(threshold)
        for cleaning in SMALLEST:
            done = seen.ruled(organ_done, LESIONS_LAST, cleaning)
            dices.append(dice(seen.tumor, done == TUMOR_LABEL))
            lesions.append(len(components(done == TUMOR_LABEL)[1]) - 1)
    return seen.outcome(patient, dices, lesions)


def _by_limits(seen: _Seen, patient: str, decision: Decision) -> _Outcome:
    """For all limits: a lesion goes or stays as a whole, so that its voxels are counted once."""
    labels = seen.ruled(seen.labels(decision.thresholds.tumor), LESIONS_LAST, decision.cleaning)
    numbers, sizes = components(labels == TUMOR_LABEL)
    signs = LesionSigns.of(numbers, labels, seen.hu(), len(sizes) - 1, seen.ring_px)
    common = np.bincount(numbers[seen.tumor], minlength=len(sizes))
    reference = int(np.count_nonzero(seen.tumor))
    dices, lesions = [], []
    for limits in LIMITS:
        kept = ~signs.unlikely(limits)
        kept[0] = False  # the background
        both = reference + int(sizes[kept].sum())
        dices.append(2 * int(common[kept].sum()) / both if both else 1.0)
        lesions.append(int(kept.sum()))
    return seen.outcome(patient, dices, lesions)


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


def _best(outcomes: Sequence[_Outcome], decisions: Sequence[Decision]) -> int:
    """Number of the decision with the best mean Dice; of those as good that with the fewest
    lesions; of equal ones the threshold nearest to even odds. Raises ValueError where no case has
    tumour.
    """
    dices, lesions = _dices(outcomes), _lesions(outcomes)
    if not len(dices):
        raise ValueError("expected a case with tumour to choose by, found none")
    means = dices.mean(axis=0)
    false = lesions.mean(axis=0) if len(lesions) else np.zeros(len(means))
    as_good: list[int] = np.flatnonzero(means >= means.max() - SAME_DICE).tolist()

    def order(index: int) -> tuple[float, float, float]:
        from_even_odds = abs(decisions[index].thresholds.tumor - 0.5)
        return float(false[index]), -float(means[index]), from_even_odds

    return min(as_good, key=order)


def _left_out(outcomes: Sequence[_Outcome], decisions: Sequence[Decision]) -> float | None:
    """None where the cases with tumour are all of one patient."""
    found = []
    for patient in sorted({outcome.patient for outcome in outcomes if outcome.has_tumor}):
        own = [outcome for outcome in outcomes if outcome.patient == patient]
        others = [outcome for outcome in outcomes if outcome.patient != patient]
        if any(outcome.has_tumor for outcome in others):
            found += list(_dices(own)[:, _best(others, decisions)])
    return float(np.mean(found)) if found else None


def _dices(outcomes: Sequence[_Outcome]) -> Table:
    """Tumour Dice of the cases with tumour, [cases, attempts]."""
    return np.array([outcome.tumor_dice for outcome in outcomes if outcome.has_tumor])


def _lesions(outcomes: Sequence[_Outcome]) -> Table:
    """Lesions found in the cases without tumour, [cases, attempts]."""
    return np.array([outcome.lesions for outcome in outcomes if not outcome.has_tumor])
