"""Architectures, or whatever else differs between runs, side by side on the same cases."""

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from training.data import Case, Dataset
from training.evaluation.bootstrap import Estimate, mean_estimate
from training.evaluation.evaluate import evaluate, predictions
from training.evaluation.page import Page, Table, number, with_interval
from training.evaluation.predictors import Opened
from training.evaluation.report import shared_facts, warnings
from training.evaluation.results import Conditions, Evaluation, patients_of
from training.figures.architectures import architectures
from training.figures.style import png
from training.files import write_whole

COLUMNS = (
    ("tumor_bearing", "dice", "tumour Dice, cases with tumour"),
    ("liver", "dice", "liver Dice"),
    ("tumor_bearing", "jaccard", "tumour IoU"),
    ("liver", "jaccard", "liver IoU"),
    ("tumor_free", "false_lesions_per_case", "false lesions per case without tumour"),
    ("detection", "f1", "lesion F1, IoU above 0.5"),
    ("detection_any", "recall", "lesions touched"),
)


class DifferentCases(ValueError):
    """The subjects cannot be compared: they did not label the same cases, or learned beside other
    ones.
    """


class Compared(BaseModel):
    """One subject of a comparison."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    evaluation: Evaluation
    slices_per_second: float | None = Field(description="after export; None without an export")
    tumor_dice_gain: Estimate = Field(
        description="tumour Dice minus that of the first subject, by case: pairs are resampled"
    )


class Comparison(BaseModel):
    """All subjects, in the order asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subjects: tuple[Compared, ...]


def unseen_cases(opened: Opened, data: Dataset) -> tuple[Case, ...]:
    """The cases of a data set that a subject can label and did not learn from.

    Raises `DifferentCases` for a subject that does not tell what it learned from.
    """
    if opened.subject.kind != "out_of_fold" and opened.subject.trained_on is None:
        raise DifferentCases(
            f"{opened.subject.name}: expected a model that tells what it learned from, found none"
        )
    knows = opened.subject.knows
    return tuple(case for case in data.cases if not knows(case.name) and opened.can_label(case))


def compare(
    subjects: Mapping[str, Opened],
    data: Dataset,
    conditions: Conditions,
    speeds: Mapping[str, float],
) -> Comparison:
    """Evaluate every subject on the cases that it did not learn from.

    Raises `DifferentCases` where these differ between subjects or are none, and where two
    cross-validations divided them into other folds.
    """
    cases = {name: unseen_cases(opened, data) for name, opened in subjects.items()}
    _check_same(cases)
    folds = {name: opened.subject.folds for name, opened in subjects.items()}
    _check_folds({name: by_case for name, by_case in folds.items() if by_case})
    evaluations = {
        name: evaluate(
            predictions(opened.predict, cases[name], conditions), opened.subject, conditions
        )
        for name, opened in subjects.items()
    }
    first = next(iter(evaluations.values()))
    return Comparison(
        subjects=tuple(
            Compared(
                name=name,
                evaluation=evaluation,
                slices_per_second=speeds.get(name),
                tumor_dice_gain=_gain(evaluation, first),
            )
            for name, evaluation in evaluations.items()
        )
    )


def _check_same(cases: Mapping[str, Sequence[Case]]) -> None:
    names = {subject: {case.name for case in found} for subject, found in cases.items()}
    first, expected = next(iter(names.items()))
    for subject, found in names.items():
        if not found:
            raise DifferentCases(
                f"{subject}: expected cases that it did not learn from, found none"
            )
        if found != expected:
            only_first, only_other = sorted(expected - found), sorted(found - expected)
            raise DifferentCases(
                f"expected the same cases, found only in {first}: {_listed(only_first)}; "
                f"only in {subject}: {_listed(only_other)}"
            )


def _check_folds(folds: Mapping[str, Mapping[str, int]]) -> None:
    """A case held out beside others was labelled by a network that learned from other cases."""
    divisions = {name: _division(by_case) for name, by_case in folds.items()}
    for name, division in divisions.items():
        first = next(iter(divisions))
        if division != divisions[first]:
            raise DifferentCases(
                f"expected the same folds, found cases divided otherwise in {first} and {name}"
            )


def _division(folds: Mapping[str, int]) -> set[frozenset[str]]:
    cases = defaultdict(set)
    for name, fold in folds.items():
        cases[fold].add(name)
    return {frozenset(names) for names in cases.values()}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _gain(evaluation: Evaluation, first: Evaluation) -> Estimate:
    pairs = [
        (own, other)
        for own, other in zip(evaluation.cases, first.cases, strict=True)
        if own.has_tumor
    ]
    gains = [own.tumor.overlap.dice - other.tumor.overlap.dice for own, other in pairs]
    return mean_estimate(gains, patients_of(own for own, _ in pairs))


def table(comparison: Comparison) -> Table:
    """A row a subject."""
    head = ["name", "parameters, M", "training slices", "slices/s after export"]
    head += [label for _, _, label in COLUMNS]
    head.append(f"tumour Dice minus that of {comparison.subjects[0].name}")
    return Table(
        "Comparison", head, [_row(one) for one in comparison.subjects],
        "Values with 95 % bootstrap intervals over cases. Intervals of single values overlap more "
        "than those of differences: the last column compares case by case.",
    )  # fmt: skip


def _row(one: Compared) -> list[str]:
    subject, figures = one.evaluation.subject, one.evaluation.figures
    budget = subject.training_slices
    return [
        one.name,
        number(subject.parameters / 1e6 if subject.parameters else None, 2),
        f"{budget:,}" if budget else "–",
        number(one.slices_per_second, 1),
        *(with_interval(figures[group][metric]) for group, metric, _ in COLUMNS),
        with_interval(one.tumor_dice_gain),
    ]


def markdown(found: Table) -> str:
    """The table as GitHub and others show it."""
    lines = [found.head, ["---"] * len(found.head), *found.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def comma_separated(comparison: Comparison) -> str:
    """A row a subject; ends of intervals in columns of their own."""
    text = io.StringIO()
    rows = [_csv_row(one) for one in comparison.subjects]
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _csv_row(one: Compared) -> dict[str, object]:
    subject = one.evaluation.subject
    row: dict[str, object] = {
        "name": one.name,
        "parameters": subject.parameters,
        "training_slices": subject.training_slices,
        "slices_per_second": one.slices_per_second,
    }
    values = {f"{g}_{m}": one.evaluation.figures[g][m] for g, m, _ in COLUMNS}
    for name, found in {**values, "tumor_dice_gain": one.tumor_dice_gain}.items():
        row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return row


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Markdown, CSV, JSON, a figure and a page with all of it."""
    out.mkdir(parents=True, exist_ok=True)
    found, first = table(comparison), comparison.subjects[0].evaluation
    write_whole(out / "comparison.md", markdown(found))  # first: a figure may fail
    write_whole(out / "comparison.csv", comma_separated(comparison))
    write_whole(out / "comparison.json", comparison.model_dump_json(indent=1))
    picture = png(architectures({one.name: one.evaluation.figures for one in comparison.subjects}))
    told = dict.fromkeys(
        warning for one in comparison.subjects for warning in warnings(one.evaluation)
    )
    page = Page("Comparison", shared_facts(first), [found], list(told))
    write_whole(out / "comparison.png", picture)
    write_whole(out / "comparison.html", page.html({"Architectures compared": picture}))
