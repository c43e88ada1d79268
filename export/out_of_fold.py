"""What a contract says was reached, from the report of an out-of-fold evaluation."""

from pathlib import Path

from pydantic import ValidationError

from export.measure import CaseDice, DiceReport
from export.trained import NotExportable
from service.inference.contract import Validation
from training.config import TrainingConfig
from training.evaluation.decision import Cleaning
from training.evaluation.results import Evaluation


def read_report(path: Path, run: TrainingConfig) -> Evaluation:
    """The `evaluation.json` that `training evaluate` wrote of a cross-validation.

    Raises `NotExportable` where it is of anything but out-of-fold predictions, of another network
    than the run's, by another definition, or no evaluation at all.
    """
    try:
        report = Evaluation.read(path)
    except ValidationError as error:
        wrong = ", ".join(sorted({".".join(map(str, item["loc"][:2])) for item in error.errors()}))
        raise NotExportable(
            f"{path.name}: expected an evaluation, found it wrong in {wrong}"
        ) from None
    _check(report, path, run)
    return report


def validation_of(report: Evaluation) -> Validation:
    """The report's figures for a contract."""
    dices = DiceReport(
        tuple(
            CaseDice(
                case=case.name,
                liver=case.liver.overlap.dice,
                tumor=case.tumor.overlap.dice if case.has_tumor else None,
            )
            for case in report.cases
        )
    )
    return dices.validation(_method(report))


def _check(report: Evaluation, path: Path, run: TrainingConfig) -> None:
    subject, conditions = report.subject, report.conditions
    if subject.kind != "out_of_fold":
        raise NotExportable(
            f"{path.name}: expected an evaluation of out-of-fold predictions, found one of "
            f"{subject.name} ({subject.kind})"
        )
    if conditions.compat != "paper":
        raise NotExportable(
            f"{path.name}: expected the paper's definitions, found {conditions.compat}"
        )
    recipe = subject.configuration or {}
    own = run.model_dump(mode="json")
    if any(recipe.get(key) != own[key] for key in ("network", "grid", "window")):
        raise NotExportable(
            f"{path.name}: expected an evaluation of {run.network.architecture} "
            f"{run.network.filters} on a grid of {run.grid}, found one of {subject.name}"
        )


def _method(report: Evaluation) -> str:
    seen, conditions = report.subject.training_slices, report.conditions
    budget = f", each of which saw {seen} training slices" if seen else ""
    cleaned = "without post-processing"
    if isinstance(conditions.cleaning, Cleaning):
        cleaned = (
            "with the service's post-processing (lesions from "
            f"{conditions.cleaning.min_lesion_mm3:g} mm3, or {conditions.cleaning.min_lesion_px} "
            "pixels without spacing)"
        )
    if conditions.assumed_spacing_mm is not None:
        spacing = " x ".join(f"{step:g}" for step in conditions.assumed_spacing_mm)
        cleaned += f", for which a spacing of {spacing} mm was assumed"
    return (
        "Out of fold: every volume labelled by a network of the same recipe that never saw its "
        f"patient{budget}; whole volumes, Dice per volume, {cleaned}."
    )
