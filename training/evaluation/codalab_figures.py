"""Figures over all cases as the LiTS challenge's own scorer takes them, where it differs."""

from collections.abc import Callable, Mapping, Sequence

from training.evaluation.bootstrap import Estimate, estimate, mean_estimate, ratio, rows_of
from training.evaluation.codalab import UNDEFINED, DetectedLesion, codalab_rvd
from training.evaluation.results import CaseMetrics, patients_of
from training.evaluation.surface import SURFACE_METRICS

DETECTED_ONLY = ("voe", "rvd", *SURFACE_METRICS)
"""What the scorer gives of detected lesions only, and not of a case's tumour."""

Figures = dict[str, Estimate]


def as_scored(groups: Mapping[str, Figures], cases: Sequence[CaseMetrics]) -> dict[str, Figures]:
    """The meant figures by group, with the scorer's in their place and `detected_lesions` beside
    them.
    """
    tumor = {
        group: {name: value for name, value in groups[group].items() if name not in DETECTED_ONLY}
        for group in ("tumor", "tumor_bearing")
    }
    return {
        **groups,
        **tumor,
        "liver": groups["liver"] | _liver(cases),
        "detection": _detection(cases, 0),
        "detection_any": _detection(cases, 1),
        "detected_lesions": _detected_lesions(cases),
    }


def _liver(cases: Sequence[CaseMetrics]) -> Figures:
    """A case with one mask empty counts; without a spacing nothing is in mm."""
    patients, sizes = patients_of(cases), [case.liver.overlap for case in cases]
    rvd = [codalab_rvd(item.reference_voxels, item.predicted_voxels) for item in sizes]
    figures = {"rvd": mean_estimate(rvd, patients)}
    for name in SURFACE_METRICS:
        figures[name] = mean_estimate([_liver_distance(case, name) for case in cases], patients)
    return figures


def _liver_distance(case: CaseMetrics, name: str) -> float | None:
    if case.liver.surface is None and case.spacing_mm is not None:
        return UNDEFINED
    return getattr(case.liver.surface, name, None)


def _detection(cases: Sequence[CaseMetrics], which: int) -> Figures:
    """It divides its one count of found lesions by both, and gives no F1."""
    counts = [case.codalab[which] for case in cases if case.codalab]
    patients = patients_of(case for case in cases if case.codalab)
    rows = rows_of(((one.found, one.reference, one.predicted) for one in counts), columns=3)
    return {
        "precision": estimate(rows[:, [0, 2]], ratio, patients),
        "recall": estimate(rows[:, [0, 1]], ratio, patients),
    }


def _detected_lesions(cases: Sequence[CaseMetrics]) -> Figures:
    """Means over the detected lesions of all cases; cases without one are left out."""

    def mean_over_lesions(value: Callable[[DetectedLesion], float | None]) -> Estimate:
        by_case = [
            (case, [found for one in case.detected or () if (found := value(one)) is not None])
            for case in cases
        ]
        known = [(case, own) for case, own in by_case if own]
        rows = rows_of((sum(own), len(own)) for _, own in known)
        patients = patients_of(case for case, _ in known)
        return estimate(rows, ratio, patients, left_out=len(by_case) - len(rows))

    def distance(name: str) -> Estimate:
        return mean_over_lesions(lambda lesion: getattr(lesion.surface, name, None))

    return {
        "voe": mean_over_lesions(lambda lesion: lesion.voe),
        "rvd": mean_over_lesions(lambda lesion: lesion.rvd),
        **{name: distance(name) for name in SURFACE_METRICS},
    }
