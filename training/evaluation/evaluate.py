"""Every metric of a prediction, case by case and over all of them."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from service.volume import LIVER_LABEL, TUMOR_LABEL
from training.data import Case, Dataset
from training.evaluation.aggregate import aggregate
from training.evaluation.calibration import Counts, calibration, count_levels
from training.evaluation.codalab import codalab_detection, detected_lesions
from training.evaluation.decision import Cleaning, Labels, Space, clean, decide_again
from training.evaluation.lesions import match_lesions
from training.evaluation.metrics import overlap
from training.evaluation.results import (
    CaseMetrics,
    Compat,
    Conditions,
    Evaluation,
    StructureMetrics,
    Subject,
)
from training.evaluation.surface import surface_distances
from training.prediction import Prediction

Predict = Callable[[Case], Prediction]


def predictions(
    predict: Predict, cases: Iterable[Case], conditions: Conditions
) -> Iterator[tuple[Case, Prediction]]:
    """What the conditions make of what is said of each case, one case at a time in memory."""
    for case in cases:
        yield case, settled(predict(case), case, conditions)


def settled(prediction: Prediction, case: Case, conditions: Conditions) -> Prediction:
    """Decided by other thresholds and cleaned where the conditions say so."""
    if conditions.thresholds is not None:
        prediction = decide_again(prediction, conditions.thresholds)
    if not isinstance(conditions.cleaning, Cleaning):
        return prediction
    labels = clean(prediction.labels, case, space_of(conditions), conditions.cleaning)
    return Prediction(labels, prediction.tumor_probability, prediction.organ_probability)


def space_of(conditions: Conditions) -> Space:
    return Space(conditions.slice_step, conditions.assumed_spacing_mm)


def evaluate(
    settled_cases: Iterable[tuple[Case, Prediction]], subject: Subject, conditions: Conditions
) -> Evaluation:
    """Compare each prediction with its case's labels. Raises ValueError where the shapes differ."""
    patients = subject.patients()
    metrics: list[CaseMetrics] = []
    levels: list[Counts] = []
    cases: list[Case] = []
    for case, prediction in settled_cases:
        reference = case.labels()
        if prediction.labels.shape != reference.shape:
            raise ValueError(
                f"{case.name}: expected the shape {reference.shape}, found a prediction of "
                f"{prediction.labels.shape}"
            )
        found = case_metrics(
            case, reference, prediction.labels, space_of(conditions), conditions.compat
        )
        metrics.append(found.model_copy(update={"patient": patients.get(case.name)}))
        levels.append(count_levels(reference, prediction.tumor_probability))
        cases.append(case)
    return Evaluation(
        subject=subject,
        conditions=conditions,
        data_sha256=Dataset(tuple(cases)).sha256,
        cases=tuple(metrics),
        figures=aggregate(metrics, conditions.compat),
        calibration=calibration(levels) if subject.tells_probability else None,
    )


def case_metrics(
    case: Case, reference: Labels, prediction: Labels, space: Space, compat: Compat = "paper"
) -> CaseMetrics:
    """All metrics of one case; both label maps are of its slices, [slices, rows, columns].

    Voxel metrics are over these slices, distances and lesions in the whole volume.
    """
    stack, spacing_mm = space.stack(case), space.spacing_mm(case)

    def structure(label: int) -> StructureMetrics:
        expected, found = reference >= label, prediction >= label
        voxels = overlap(expected, found)
        whole = (stack.fill(expected), stack.fill(found))
        return StructureMetrics(overlap=voxels, surface=surface_distances(*whole, spacing_mm))

    tumor = stack.fill(reference == TUMOR_LABEL), stack.fill(prediction == TUMOR_LABEL)
    scored = compat == "codalab"
    return CaseMetrics(
        name=case.name,
        slices=len(case.slices),
        spacing_mm=spacing_mm,
        spacing_assumed=case.spacing_mm is None and spacing_mm is not None,
        notices=tuple(notice.code for notice in case.notices),
        liver=structure(LIVER_LABEL),
        tumor=structure(TUMOR_LABEL),
        lesions=match_lesions(*tumor, spacing_mm),
        reference_burden=_burden(reference),
        predicted_burden=_burden(prediction),
        codalab=(codalab_detection(*tumor, 0.5), codalab_detection(*tumor, 0.0))
        if scored
        else None,
        detected=detected_lesions(*tumor, spacing_mm) if scored else None,
    )


def _burden(labels: NDArray[np.uint8]) -> float:
    liver = int(np.count_nonzero(labels >= LIVER_LABEL))
    return int(np.count_nonzero(labels == TUMOR_LABEL)) / liver if liver else 0.0
