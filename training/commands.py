"""What the commands of evaluation do, from what the command line says to files."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import track

from service.volume import HounsfieldWindow
from training.config import TrainingConfig
from training.data import Case, Dataset, open_dataset
from training.evaluation.compare import compare, markdown, table, unseen_cases, write_comparison
from training.evaluation.decision import Cleaning, Decision, Space, Spacing
from training.evaluation.evaluate import evaluate, predictions, settled
from training.evaluation.labelled import labelled_once
from training.evaluation.page import number, with_interval
from training.evaluation.predictors import NotAModel, Opened, open_predictor
from training.evaluation.report import write_page, write_values
from training.evaluation.results import BY_SERVICE, Conditions, Evaluation, Subject
from training.evaluation.speed import slices_per_second
from training.evaluation.stack import slice_step
from training.evaluation.thresholds import Tuning, tune
from training.figures.curves import learning_curves
from training.figures.evaluation import evaluation_pictures
from training.figures.samples import augmentation_samples
from training.figures.style import png
from training.files import write_whole
from training.folds import patients_of
from training.prediction import Prediction
from training.run_folder import RunFolder


@dataclass(frozen=True)
class Asked:
    """What an evaluation is asked for beside the model and the data.

    `decision` is a file of `tune`, `rules` are the service's, `flips` shows a network mirrored
    slices, `unseen` leaves out what the model learned from, `assume_spacing` is as `2,0.75,0.75`.
    """

    split: str = "all"
    decision: Path | None = None
    rules: bool = False
    flips: bool = False
    unseen: bool = False
    compat: str = "paper"
    assume_spacing: str | None = None


def evaluate_model(model: str, data: Path, out: Path, prepared: Path, asked: Asked) -> str:
    """Evaluate, write the report, and say the main figures. Raises ValueError for what is wrong."""
    every = open_dataset(data, prepared)
    space = _space(every, asked.assume_spacing)
    opened = open_predictor(model, space, cleaned=asked.rules, flips=asked.flips)
    every.check_window(_window(opened.subject))
    conditions = _conditions(opened, space, asked)
    wanted = every if asked.split == "all" else every.split(asked.split)
    if asked.unseen:
        wanted = wanted.with_cases(unseen_cases(opened, wanted))
    cases = wanted.with_cases(case for case in wanted.cases if opened.can_label(case))
    if not cases.cases:
        raise NotAModel(f"{model}: expected cases to label, found none")
    with labelled_once(out, conditions) as once:
        found = _evaluated(once(opened), cases, conditions, out)
    left = len(wanted.cases) - len(cases.cases)
    return main_figures(found) + (f"\n{left} case(s) without a prediction" if left else "")


def _evaluated(opened: Opened, cases: Dataset, conditions: Conditions, out: Path) -> Evaluation:
    shown = track(cases.cases, description=escape(opened.subject.name))
    found = evaluate(predictions(opened.predict, shown, conditions), opened.subject, conditions)

    def again(case: Case) -> Prediction:
        return settled(opened.predict(case), case, conditions)

    write_values(found, out)  # first, so that no later trouble loses them
    logs = {name: run.logged() for name, run in opened.runs.items()}
    pictures = evaluation_pictures(found, cases, again, _window(opened.subject), logs)
    write_page(found, out, pictures)
    return found


def tune_decision(
    kept: Path, data: Path, out: Path, prepared: Path, assume_spacing: str | None = None
) -> str:
    """Choose a decision, write it to `out` and all attempts beside it, and say what it gains."""
    if out.is_dir():
        raise ValueError(f"{out}: expected a file to write the decision to, found a folder")
    every = open_dataset(data, prepared)
    space = _space(every, assume_spacing)
    opened = open_predictor(str(kept), space)
    if opened.subject.kind != "out_of_fold":
        raise NotAModel(f"{kept.name}: expected a cross-validation's predictions, found a model")
    cases = [case for case in every.cases if opened.can_label(case)]
    if not cases:
        raise NotAModel(f"{kept.name}: expected predictions of these cases, found none")

    def again() -> Iterable[tuple[Case, Prediction]]:
        return ((case, opened.predict(case)) for case in track(cases, description="tuning"))

    config = TrainingConfig.model_validate(opened.subject.configuration)
    patients = patients_of(every.cases, config.same_patient)
    out.parent.mkdir(parents=True, exist_ok=True)
    found = tune(again, space, patients, config.recipe_sha256)
    write_whole(out, found.chosen.decision.model_dump_json(indent=1))
    attempts = out.with_name(f"{out.name.removesuffix('.json')}.attempts.json")
    write_whole(attempts, found.model_dump_json(indent=1))
    return _tuned(found)


def compare_models(
    named: Sequence[str],
    data: Path,
    out: Path,
    prepared: Path,
    exported: Sequence[str] = (),
    decision: Path | None = None,
    assume_spacing: str | None = None,
) -> str:
    """Compare subjects given as NAME=MODEL, write all files, and return the table."""
    asked = Asked(decision=decision, assume_spacing=assume_spacing)
    every = open_dataset(data, prepared)
    space = _space(every, assume_spacing)
    opened = {name: open_predictor(model, space) for name, model in _pairs(named).items()}
    files = _pairs(exported)
    if unknown := sorted(files.keys() - opened.keys()):
        raise ValueError(f"expected exports of {', '.join(opened)}, found {', '.join(unknown)}")
    for one in opened.values():
        every.check_window(_window(one.subject))
    all_conditions = {_conditions(one, space, asked) for one in opened.values()}
    if len(all_conditions) > 1:
        raise ValueError("expected subjects to which the same decision applies, found several")
    speeds = {name: slices_per_second(Path(file)) for name, file in files.items()}
    conditions = all_conditions.pop()
    with labelled_once(out, conditions) as once:
        kept = {name: once(one) for name, one in opened.items()}
        found = compare(kept, every, conditions, speeds)
        write_comparison(found, out)
    return markdown(table(found))


def training_figures(named: Sequence[str], data: Path, out: Path, prepared: Path) -> str:
    """Draw what shows how runs learned; the samples are of the first run's configuration."""
    runs = {name: RunFolder(Path(path)) for name, path in _pairs(named).items()}
    logs = {name: run.logged() for name, run in runs.items()}
    if missing := [name for name, log in logs.items() if not log]:
        raise NotAModel(f"expected runs with a log, found none in {', '.join(missing)}")
    config = next(iter(runs.values())).config()
    pictures = {
        "learning-curves.png": png(learning_curves(logs)),
        "augmentation.png": png(augmentation_samples(open_dataset(data, prepared).slices, config)),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        write_whole(out / name, picture)
    return f"{', '.join(pictures)} in {out}"


def main_figures(found: Evaluation) -> str:
    """The few lines that a terminal shows."""
    lines = [
        ("tumour Dice, cases with tumour", "tumor_bearing", "dice"),
        ("liver Dice", "liver", "dice"),
        ("false lesions per case without tumour", "tumor_free", "false_lesions_per_case"),
        ("lesions found (IoU above 0.5), F1", "detection", "f1"),
    ]
    shown = [
        f"{label}: {with_interval(found.figures[group][name])}, {found.figures[group][name].cases}"
        " case(s)"
        for label, group, name in lines
        if name in found.figures[group]
    ]
    seen = found.seen_in_training
    return "\n".join(shown + ([f"{len(seen)} case(s) are of patients trained on"] if seen else []))


def _tuned(found: Tuning) -> str:
    chosen, decision = found.chosen, found.chosen.decision
    worth = decision.chosen.left_out_tumor_dice if decision.chosen else None
    plain = next(
        one for one in found.attempts
        if one.decision.thresholds.tumor == 0.5 and one.decision.cleaning == Cleaning()
    )  # fmt: skip
    return (
        f"liver {decision.thresholds.liver:g}, tumour {decision.thresholds.tumor:g}, "
        f"{decision.cleaning}: "
        f"tumour Dice {chosen.tumor_dice:.4f}, left out {number(worth)}, "
        f"false lesions {number(chosen.false_lesions, 2)} (0.5 and every lesion: "
        f"{plain.tumor_dice:.4f}, {number(plain.false_lesions, 2)})"
    )


def _conditions(opened: Opened, space: Space, asked: Asked) -> Conditions:
    """Raises ValueError for a decision on what has decided already."""
    decides = opened.subject.kind in ("network", "out_of_fold")
    if asked.decision is not None and not decides:
        raise ValueError(
            "expected a network or kept predictions to decide on; an exported model and a service "
            "have decided by their own contract"
        )
    facts: dict[str, Any] = {
        "compat": asked.compat,
        "slice_step": space.slice_step,
        "assumed_spacing_mm": space.assumed_spacing_mm,
    }
    if asked.decision is not None:
        read = Decision.read(asked.decision)
        return Conditions(**facts, **dict(read))
    if not asked.rules:
        return Conditions(**facts)
    if opened.subject.kind == "service":
        return Conditions(**facts, cleaning=BY_SERVICE)
    return Conditions(**facts, cleaning=opened.cleaning or Cleaning())


def _space(data: Dataset, assume_spacing: str | None) -> Space:
    return Space(slice_step(data.cases), spacing_of(assume_spacing))


def spacing_of(text: str | None) -> Spacing | None:
    """`2,0.75,0.75` as numbers. Raises ValueError for anything else."""
    if text is None:
        return None
    try:
        slice_mm, row_mm, column_mm = (float(part) for part in text.split(","))
    except ValueError:
        slice_mm = row_mm = column_mm = 0.0
    if not all(0 < step_mm < math.inf for step_mm in (slice_mm, row_mm, column_mm)):
        raise ValueError(f"expected a spacing as 2,0.75,0.75 in mm, found {text}")
    return slice_mm, row_mm, column_mm


def _pairs(named: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE by name. Raises ValueError for another form and for a name twice."""
    pairs: dict[str, str] = {}
    for text in named:
        name, equals, value = text.partition("=")
        if not (name and equals and value) or name in pairs:
            raise ValueError(f"expected NAME=PATH with different names, found {text}")
        pairs[name] = value
    return pairs


def _window(subject: Subject) -> HounsfieldWindow:
    """Of the run's configuration, or of the contract."""
    return HounsfieldWindow.model_validate((subject.configuration or {})["window"])
