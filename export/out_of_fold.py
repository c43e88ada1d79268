"""What a contract says was reached, from the report of an out-of-fold evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from export.measure import CaseDice, DiceReport
from export.trained import NotExportable, Trained
from service.inference.contract import Validation
from training.config import TrainingConfig
from training.evaluation.decision import Cleaning
from training.evaluation.results import Evaluation


def read_report(path: Path, trained: Trained) -> Evaluation:
    """The `evaluation.json` that `training evaluate` wrote of a cross-validation.

    Raises `NotExportable` where it is of anything but out-of-fold predictions, of another recipe
    than the run's, under a decision that was chosen for another one, on other cases than the run's,
    by another definition, or no evaluation at all.
    """
    try:
        report = Evaluation.read(path)
    except ValidationError as error:
        raise NotExportable(
            f"{path.name}: expected an evaluation, found it wrong in {_wrong(error)}"
        ) from None
    _check_kind(report, path)
    _check_recipe(report, path, trained.config)
    _check_choice(report, path)
    _check_data(report, path, trained)
    return report


def _wrong(error: ValidationError) -> str:
    """Names of what is wrong; a rule between several settings has its sentence instead."""
    items = error.errors()
    return ", ".join(sorted({".".join(map(str, one["loc"][:2])) or one["msg"] for one in items}))


def validation_of(report: Evaluation) -> Validation:
    """The report's figures for a contract."""
    dices = DiceReport(
        tuple(
            CaseDice.of(case.name, case.liver.overlap, case.tumor.overlap) for case in report.cases
        )
    )
    return dices.validation(_method(report))


def _check_kind(report: Evaluation, path: Path) -> None:
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


def _check_recipe(report: Evaluation, path: Path, run: TrainingConfig) -> None:
    """A setting that came up after the report was written has its default there."""
    try:
        found = TrainingConfig.model_validate(report.subject.configuration or {})
    except ValidationError as error:
        raise NotExportable(
            f"{path.name}: expected the configuration of a run, found it wrong in {_wrong(error)}"
        ) from None
    if differing := _differing(found.recipe(), run.recipe()):
        raise NotExportable(
            f"{path.name}: expected an evaluation of the run's own recipe, found "
            f"{report.subject.name} with another {', '.join(differing)}"
        )


def _check_choice(report: Evaluation, path: Path) -> None:
    if report.conditions.chosen is not None and not report.chose_its_decision:
        raise NotExportable(
            f"{path.name}: expected thresholds that were chosen on predictions of the run's own "
            "recipe, found another's"
        )


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ, with dots between the levels."""
    names = []
    for name, value in one.items():
        if isinstance(value, dict):
            names += [f"{name}.{inner}" for inner in _differing(value, other[name])]
        elif value != other[name]:
            names.append(name)
    return names


def _check_data(report: Evaluation, path: Path, trained: Trained) -> None:
    found, own = {case.name for case in report.cases}, set(trained.cases)
    missing, too_much = sorted(own - found), sorted(found - own)
    if missing or too_much:
        both = [("without", missing), ("with", too_much)]
        wrong = " and ".join(f"{word} {', '.join(names)}" for word, names in both if names)
        raise NotExportable(
            f"{path.name}: expected an evaluation on just the cases that the run was trained on, "
            f"found one {wrong}"
        )
    if report.data_sha256 != trained.data_sha256:
        raise NotExportable(
            f"{path.name}: expected an evaluation on the data that the run was trained on (sha256 "
            f"{trained.data_sha256}), found the same names with other content "
            f"({report.data_sha256})"
        )


def _method(report: Evaluation) -> str:
    seen, conditions = report.subject.training_slices, report.conditions
    budget = f", each of which saw {seen} training slices" if seen else ""
    cleaned = "without post-processing"
    if isinstance(conditions.cleaning, Cleaning):
        cleaned = f"with the service's post-processing ({conditions.cleaning})"
    if conditions.assumed_spacing_mm is not None:
        spacing = " x ".join(f"{step:g}" for step in conditions.assumed_spacing_mm)
        cleaned += f", for which a spacing of {spacing} mm was assumed"
    if conditions.chosen is not None:
        worth = conditions.chosen.left_out_tumor_dice
        value = "not known" if worth is None else f"{worth:.4f}"
        cleaned += (
            "; thresholds and what lesions are kept by were chosen on the same predictions (mean "
            f"tumour Dice of volumes under the limits that those of other patients choose: {value})"
        )
    return (
        "Out of fold: every volume labelled by a network of the same recipe that never saw its "
        f"patient{budget}; whole volumes, Dice per volume, {cleaned}."
    )
