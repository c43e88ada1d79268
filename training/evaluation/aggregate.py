"""From the metrics of single cases to figures over all of them, with intervals."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields

import numpy as np

from training.evaluation.bootstrap import (
    Estimate,
    Rows,
    estimate,
    largest,
    mean,
    mean_estimate,
    ratio,
    root_mean_square,
)
from training.evaluation.codalab import UNDEFINED, codalab_rvd
from training.evaluation.lesions import FOUND_IOU, detection
from training.evaluation.metrics import Overlap
from training.evaluation.results import CaseMetrics, Compat, StructureMetrics
from training.evaluation.surface import SurfaceDistances

OVERLAP_METRICS = tuple(item.name for item in fields(Overlap) if not item.name.endswith("_voxels"))
SURFACE_METRICS = tuple(item.name for item in fields(SurfaceDistances))

Figures = dict[str, Estimate]


def aggregate(cases: Sequence[CaseMetrics], compat: Compat) -> dict[str, Figures]:
    """Figures by group: `liver`, `tumor` (all cases), `tumor_bearing` (cases that have any),
    `tumor_free`, `detection` (IoU above 0.5), `detection_any` (above 0), `burden`.
    """
    bearing = [case for case in cases if case.has_tumor]
    free = [case for case in cases if not case.has_tumor]
    false_lesions: list[float | None] = [len(case.lesions.predicted) for case in free]
    return {
        "liver": _structure(cases, lambda case: case.liver, compat),
        "tumor": _structure(cases, lambda case: case.tumor, compat),
        "tumor_bearing": _structure(bearing, lambda case: case.tumor, compat),
        "tumor_free": {"false_lesions_per_case": mean_estimate(false_lesions)},
        "detection": _detection(cases, FOUND_IOU, compat),
        "detection_any": _detection(cases, 0.0, compat),
        "burden": _burden(cases),
    }


def _structure(
    cases: Sequence[CaseMetrics],
    of: Callable[[CaseMetrics], StructureMetrics],
    compat: Compat,
) -> Figures:
    overlaps = [of(case).overlap for case in cases]
    figures = {
        name: mean_estimate([getattr(item, name) for item in overlaps]) for name in OVERLAP_METRICS
    }
    figures["dice_global"] = estimate(
        _rows(
            (2 * item.common_voxels, item.reference_voxels + item.predicted_voxels)
            for item in overlaps
        ),
        ratio,
    )
    for name in SURFACE_METRICS:
        figures[name] = mean_estimate([_distance(case, of(case), name, compat) for case in cases])
    if compat == "codalab":
        figures["rvd"] = mean_estimate(
            [codalab_rvd(item.reference_voxels, item.predicted_voxels) for item in overlaps]
        )
    return figures


def _distance(
    case: CaseMetrics, found: StructureMetrics, name: str, compat: Compat
) -> float | None:
    """The official scorer counts a case with one mask empty; without spacing nothing is in mm."""
    if found.surface is not None:
        value: float = getattr(found.surface, name)
        return value
    return UNDEFINED if compat == "codalab" and case.spacing_mm is not None else None


def _detection(cases: Sequence[CaseMetrics], iou_above: float, compat: Compat) -> Figures:
    counts = [_counts(case, iou_above) for case in cases]
    if compat == "codalab":
        index = 0 if iou_above else 1
        pairs = [case.codalab[index] for case in cases if case.codalab]
        # It divides its one count of found lesions by both, and gives no F1.
        counts = [(item.found, item.reference, item.found, item.predicted) for item in pairs]
    rows = _rows(counts, columns=4)
    names: dict[str, Callable[[Rows], float]] = {
        "precision": lambda own: ratio(own[:, 2:]),
        "recall": lambda own: ratio(own[:, :2]),
    }
    if compat == "paper":
        names["f1"] = _f1
    figures = {name: estimate(rows, statistic) for name, statistic in names.items()}
    found = [[one.dice for one in case.lesions.reference if one.iou > iou_above] for case in cases]
    figures["lesion_dice"] = estimate(_rows((sum(own), len(own)) for own in found), ratio)
    return figures


def _counts(case: CaseMetrics, iou_above: float) -> tuple[int, int, int, int]:
    """Found and reference lesions, right and all predicted ones."""
    one = detection([case.lesions], iou_above)
    return one.found, one.reference, one.right, one.predicted


def _f1(rows: Rows) -> float:
    found, reference, right, predicted = rows.sum(axis=0)
    if not reference and not predicted:
        return float("nan")
    precision = right / predicted if predicted else 0.0
    recall = found / reference if reference else 0.0
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _burden(cases: Sequence[CaseMetrics]) -> Figures:
    errors = _rows((case.burden_error,) for case in cases)
    return {
        "rmse": estimate(errors, root_mean_square),
        "mean_error": estimate(errors, mean),
        "largest_error": estimate(np.abs(errors), largest),
    }


def _rows(values: Iterable[tuple[float, ...]], columns: int = 2) -> Rows:
    found = list(values)
    return np.array(found, dtype=np.float64).reshape(len(found), -1 if found else columns)
