"""All figures of an evaluation, by what they show."""

from collections.abc import Callable, Mapping

from matplotlib.figure import Figure

from service.volume import HounsfieldWindow
from training.data import Case, Dataset
from training.evaluation.results import CaseMetrics, Evaluation
from training.figures.charts import detection_by_size, per_case_dice, reliability
from training.figures.curves import Log, learning_curves
from training.figures.slices import View, side_by_side, telling_view
from training.figures.style import png
from training.prediction import Prediction


def evaluation_pictures(
    evaluation: Evaluation,
    data: Dataset,
    predict: Callable[[Case], Prediction],
    window: HounsfieldWindow,
    logs: Mapping[str, Log],
) -> dict[str, bytes]:
    """PNG files by title. `predict` gives what was evaluated, once more for the cases shown; `logs`
    are those of the runs that learned, by name.
    """
    figures: dict[str, Figure] = {"Dice of every case": per_case_dice(evaluation)}
    if any(case.lesions.reference or case.lesions.predicted for case in evaluation.cases):
        figures["Detection by lesion size"] = detection_by_size(evaluation.cases)
    if evaluation.calibration is not None and evaluation.calibration.expected_error is not None:
        figures["Calibration of the tumour probability"] = reliability(evaluation.calibration)
    by_name = {case.name: case for case in data.cases}
    views = [
        _view(rank, metrics, by_name[metrics.name], predict, window)
        for rank, metrics in telling_cases(evaluation).items()
    ]
    figures["Best, median and worst case"] = side_by_side(
        views, "Cases by Dice of the structure named"
    )
    kept = {name: log for name, log in logs.items() if log}
    if kept:
        figures["Learning curves"] = learning_curves(kept)
    return {title: png(figure) for title, figure in figures.items()}


def telling_cases(evaluation: Evaluation) -> dict[str, CaseMetrics]:
    """Best, median (the worse of two) and worst by tumour Dice among the cases that have tumour; by
    liver Dice where none has. A case is shown once.
    """
    bearing = [case for case in evaluation.cases if case.has_tumor]
    ranked = sorted(bearing or evaluation.cases, key=_score, reverse=True)
    places = {"best": 0, "worst": len(ranked) - 1, "median": len(ranked) // 2}
    chosen: dict[str, CaseMetrics] = {}
    for rank, place in places.items():
        if ranked[place] not in chosen.values():
            chosen[rank] = ranked[place]
    return {rank: chosen[rank] for rank in ("best", "median", "worst") if rank in chosen}


def _score(case: CaseMetrics) -> float:
    return case.tumor.overlap.dice if case.has_tumor else case.liver.overlap.dice


def _view(
    rank: str,
    metrics: CaseMetrics,
    case: Case,
    predict: Callable[[Case], Prediction],
    window: HounsfieldWindow,
) -> View:
    structure = "tumour" if metrics.has_tumor else "liver"
    caption = f"{rank}: {structure} Dice {_score(metrics):.2f}"
    return telling_view(case, predict(case), window, caption)
