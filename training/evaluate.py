"""Dice of a model on whole cases, slice by slice through its deployed graph."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.table import Table

from service.inference.contract import INPUT_NAME, LIVER, TUMOR
from training.data import LabelledSlice
from training.metrics import dice

Segment = Callable[[NDArray[np.int16]], NDArray[np.uint8]]
"""From int16 HU to labels, both [slices, rows, columns]."""

SLICES_AT_ONCE = 8
"""Bounds the memory of a batch."""


@dataclass(frozen=True)
class CaseDice:
    """Dice of one case. Without tumour in the reference, tumour is 1 or, where some is found, 0."""

    case: str
    liver: float
    tumor: float
    has_tumor: bool


@dataclass(frozen=True)
class Report:
    """Dice of every case, in their order."""

    cases: tuple[CaseDice, ...]

    @property
    def cases_with_tumor(self) -> int:
        return sum(case.has_tumor for case in self.cases)

    @property
    def liver_dice(self) -> float:
        """Mean over all cases; not a number where there are none."""
        return _mean([case.liver for case in self.cases])

    @property
    def tumor_dice(self) -> float:
        """Mean over the cases with tumour; not a number where there are none."""
        return _mean([case.tumor for case in self.cases if case.has_tumor])

    def table(self, title: str) -> Table:
        """The report for a terminal."""
        table = Table("case", "liver", "tumour", title=title)
        for case in self.cases:
            note = "" if case.has_tumor else " (no tumour in the reference)"
            table.add_row(case.case, f"{case.liver:.4f}", f"{case.tumor:.4f}{note}")
        table.add_section()
        count = f" (over {self.cases_with_tumor})"
        table.add_row("mean", f"{self.liver_dice:.4f}", f"{self.tumor_dice:.4f}{count}")
        return table


def evaluate(segment: Segment, cases: Mapping[str, Sequence[LabelledSlice]]) -> Report:
    """Dice of each case over all its slices together; liver is label >= 1, tumour is label 2."""
    return Report(tuple(_case_dice(segment, case, slices) for case, slices in cases.items()))


def onnx_segmenter(path: Path) -> Segment:
    """Labels by an exported model with a context of one slice, on the CPU."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda hu: np.asarray(session.run(["labels"], {INPUT_NAME: hu[..., None]})[0])


def _case_dice(segment: Segment, case: str, slices: Sequence[LabelledSlice]) -> CaseDice:
    reference = np.stack([item.labels() for item in slices])
    prediction = np.concatenate(
        [
            segment(np.stack([item.hu() for item in slices[start : start + SLICES_AT_ONCE]]))
            for start in range(0, len(slices), SLICES_AT_ONCE)
        ]
    )
    return CaseDice(
        case=case,
        liver=dice(reference >= LIVER.label, prediction >= LIVER.label),
        tumor=dice(reference == TUMOR.label, prediction == TUMOR.label),
        has_tumor=bool((reference == TUMOR.label).any()),
    )


def _mean(values: list[float]) -> float:
    return statistics.fmean(values) if values else float("nan")
