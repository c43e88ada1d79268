"""Dice of an exported file on labelled cases, and what the contract says was reached."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from export.runners import Runner
from service.inference.contract import Validation
from service.volume import LIVER_LABEL, TUMOR_LABEL
from training.data import Case, LabelledSlice
from training.evaluation.metrics import Overlap, overlap

Slices = Sequence[tuple[str, Sequence[LabelledSlice]]]
"""Of each case, by name."""

ROUNDING_SLICES = 20
"""Slices of a case on which the precisions are compared: enough for a mean over cases."""


@dataclass(frozen=True)
class CaseDice:
    """Dice of one case; None for tumour where the reference has none."""

    case: str
    liver: float
    tumor: float | None

    @classmethod
    def of(cls, case: str, liver: Overlap, tumor: Overlap) -> "CaseDice":
        return cls(case, liver.dice, tumor.dice if tumor.reference_voxels else None)


@dataclass(frozen=True)
class DiceReport:
    """Dice of several cases, in their order."""

    cases: tuple[CaseDice, ...]

    @property
    def tumor_dices(self) -> list[float]:
        return [case.tumor for case in self.cases if case.tumor is not None]

    @property
    def liver(self) -> float:
        """Mean over all cases, of which there must be some."""
        return statistics.fmean(case.liver for case in self.cases)

    @property
    def tumor(self) -> float | None:
        """Mean over the cases with tumour; None where there are none."""
        return statistics.fmean(self.tumor_dices) if self.tumor_dices else None

    def validation(self, method: str) -> Validation:
        """As a contract writes it. Raises ValueError where no case has tumour."""
        if self.tumor is None:
            raise ValueError("expected cases with tumour to measure on, found none")
        return Validation(
            method=method,
            cases=len(self.cases),
            liver_dice_per_case=round(self.liver, 4),
            tumor_dice_per_case=round(self.tumor, 4),
            cases_with_tumor=len(self.tumor_dices),
            per_case={
                case.case: {
                    "liver": round(case.liver, 4),
                    "tumor": None if case.tumor is None else round(case.tumor, 4),
                }
                for case in self.cases
            },
        )


def measure(runner: Runner, cases: Slices) -> DiceReport:
    """Dice of each case over all of its slices that are given; liver counts tumour in."""
    return DiceReport(tuple(_case_dice(runner, name, slices) for name, slices in cases))


def whole(cases: Iterable[Case]) -> Slices:
    """All slices of each case."""
    return [(case.name, case.slices) for case in cases]


def sampled(cases: Iterable[Case]) -> Slices:
    """At most `ROUNDING_SLICES` of each case that has liver, evenly over its slices with liver."""
    chosen = []
    for case in cases:
        slices = [item for item in case.slices if item.liver_px]
        step = -(-len(slices) // ROUNDING_SLICES)
        if slices:
            chosen.append((case.name, slices[::step]))
    return chosen


def _case_dice(runner: Runner, name: str, slices: Sequence[LabelledSlice]) -> CaseDice:
    reference = np.stack([item.labels() for item in slices])
    found = runner(np.stack([item.hu() for item in slices])).labels
    return CaseDice.of(
        name,
        overlap(reference >= LIVER_LABEL, found >= LIVER_LABEL),
        overlap(reference == TUMOR_LABEL, found == TUMOR_LABEL),
    )
