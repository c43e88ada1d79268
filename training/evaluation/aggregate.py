"""From the metrics of single cases to figures over all of them, with intervals."""

from collections.abc import Callable, Sequence

from training.evaluation.bootstrap import (
    Estimate,
    Rows,
    estimate,
    largest,
    mean,
    mean_estimate,
    ratio,
    root_mean_square,
    rows_of,
)
from training.evaluation.codalab_figures import as_scored
from training.evaluation.lesions import FOUND_IOU, detection
from training.evaluation.metrics import OVERLAP_METRICS
from training.evaluation.results import CaseMetrics, Compat, StructureMetrics, patients_of
from training.evaluation.surface import SURFACE_METRICS

Figures = dict[str, Estimate]


def aggregate(cases: Sequence[CaseMetrics], compat: Compat) -> dict[str, Figures]:
    """Figures by group: `liver`, `tumor` (all cases), `tumor_bearing` (cases that have any),
    `tumor_free`, `detection` (IoU above 0.5), `detection_any` (above 0), `burden`; the scorer's
    `detected_lesions` too, where `compat` asks for it.
    """
    bearing = [case for case in cases if case.has_tumor]
    free = [case for case in cases if not case.has_tumor]
    false_lesions = [len(case.lesions.predicted) for case in free]
    groups = {
        "liver": _structure(cases, lambda case: case.liver),
        "tumor": _structure(cases, lambda case: case.tumor),
        "tumor_bearing": _structure(bearing, lambda case: case.tumor),
        "tumor_free": {"false_lesions_per_case": mean_estimate(false_lesions, patients_of(free))},
        "detection": _detection(cases, FOUND_IOU),
        "detection_any": _detection(cases, 0.0),
        "burden": _burden(cases),
    }
    return as_scored(groups, cases) if compat == "codalab" else groups


def _structure(
    cases: Sequence[CaseMetrics], of: Callable[[CaseMetrics], StructureMetrics]
) -> Figures:
    patients, found = patients_of(cases), [of(case) for case in cases]
    overlaps = [item.overlap for item in found]
    figures = {
        name: mean_estimate([getattr(item, name) for item in overlaps], patients)
        for name in OVERLAP_METRICS
    }
    figures["dice_global"] = estimate(
        rows_of(
            (2 * item.common_voxels, item.reference_voxels + item.predicted_voxels)
            for item in overlaps
        ),
        ratio,
        patients,
    )
    for name in SURFACE_METRICS:
        figures[name] = mean_estimate(
            [getattr(item.surface, name, None) for item in found], patients
        )
    return figures


def _detection(cases: Sequence[CaseMetrics], iou_above: float) -> Figures:
    patients = patients_of(cases)
    rows = rows_of((_counts(case, iou_above) for case in cases), columns=4)
    found = [[one.dice for one in case.lesions.reference if one.iou > iou_above] for case in cases]
    return {
        "precision": estimate(rows[:, 2:], ratio, patients),
        "recall": estimate(rows[:, :2], ratio, patients),
        "f1": estimate(rows, _f1, patients),
        "lesion_dice": estimate(rows_of((sum(own), len(own)) for own in found), ratio, patients),
    }


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
    patients = patients_of(cases)
    errors = rows_of(((case.burden_error,) for case in cases), columns=1)
    return {
        "rmse": estimate(errors, root_mean_square, patients),
        "mean_error": estimate(errors, mean, patients),
        "largest_error": largest([abs(case.burden_error) for case in cases]),
    }
