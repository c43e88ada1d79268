"""An evaluation as files: JSON with everything, CSV with a row a case, and a page to read."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from training.evaluation.aggregate import aggregate
from training.evaluation.bootstrap import Estimate
from training.evaluation.decision import Cleaning
from training.evaluation.lesions import FOUND_IOU, detection
from training.evaluation.metrics import OVERLAP_METRICS
from training.evaluation.page import Page, Table, number, with_interval
from training.evaluation.results import (
    CaseMetrics,
    Conditions,
    Evaluation,
    StructureMetrics,
    patients_of,
)
from training.evaluation.surface import SURFACE_METRICS
from training.files import write_whole

JSON_NAME, CSV_NAME, HTML_NAME = "evaluation.json", "cases.csv", "report.html"
FIGURES_NAME = "figures"

METRIC_NAMES = {
    "dice": "Dice",
    "dice_global": "Dice, all voxels pooled",
    "jaccard": "Jaccard (IoU)",
    "voe": "volume overlap error",
    "pixel_accuracy": "pixel accuracy",
    "precision": "precision",
    "recall": "recall",
    "rvd": "relative volume difference",
    "assd_mm": "ASSD, mm",
    "mssd_mm": "MSSD, mm",
    "rmsd_mm": "RMSD, mm",
    "f1": "F1",
    "lesion_dice": "Dice of found lesions",
    "false_lesions_per_case": "false lesions per case",
    "rmse": "root mean square error",
    "mean_error": "mean error (prediction - reference)",
    "largest_error": "largest absolute error",
}

GROUP_TITLES = {
    "tumor_bearing": "Tumour, cases that have any in the reference",
    "tumor_free": "Cases without tumour in the reference",
    "liver": "Liver with tumour, all cases",
    "tumor": "Tumour, all cases (1 where there is none and none was found)",
    "detection": f"Lesions found at IoU above {FOUND_IOU:g}",
    "detection_any": "Lesions found at IoU above 0",
    "detected_lesions": "Lesions that the challenge's scorer takes for detected",
    "burden": "Tumour burden (tumour / liver with tumour)",
}


FEW_PATIENTS = 20
"""Below this, the percentiles of a bootstrap hold the true mean in clearly fewer than 95 of 100."""


def write_values(evaluation: Evaluation, out: Path) -> None:
    """All figures as JSON and, a row a case, as CSV."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / JSON_NAME, evaluation.model_dump_json(indent=1))
    write_whole(out / CSV_NAME, cases_csv(evaluation))


def write_page(evaluation: Evaluation, out: Path, pictures: Mapping[str, bytes]) -> None:
    """The page with its PNG figures, named by what they show; they are files too."""
    folder = out / FIGURES_NAME
    folder.mkdir(parents=True, exist_ok=True)
    for title, picture in pictures.items():
        name = title.lower().replace(" ", "-").replace(",", "")
        write_whole(folder / f"{name}.png", picture)
    write_whole(out / HTML_NAME, page(evaluation).html(pictures))


def cases_csv(evaluation: Evaluation) -> str:
    """A row a case; empty where a metric is not defined."""
    rows = [case_row(case) for case in evaluation.cases]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["case"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def case_row(case: CaseMetrics) -> dict[str, object]:
    """All that is measured of one case, by column."""
    row: dict[str, object] = {"case": case.name, "slices": case.slices}
    for name, found in (("liver", case.liver), ("tumor", case.tumor)):
        row |= {f"{name}_{key}": value for key, value in _values(found).items()}
    counts = detection([case.lesions])
    any_counts = detection([case.lesions], 0.0)
    return row | {
        "lesions": counts.reference,
        "lesions_found": counts.found,
        "lesions_touched": any_counts.found,
        "predicted_lesions": counts.predicted,
        "predicted_lesions_right": counts.right,
        "predicted_lesions_touching": any_counts.right,
        "reference_burden": case.reference_burden,
        "predicted_burden": case.predicted_burden,
    }


def _values(found: StructureMetrics) -> dict[str, object]:
    values: dict[str, object] = dict(vars(found.overlap))
    return values | {
        name: None if found.surface is None else getattr(found.surface, name)
        for name in SURFACE_METRICS
    }


def page(evaluation: Evaluation) -> Page:
    """The evaluation to read."""
    subject = evaluation.subject
    return Page(
        title=f"Evaluation: {subject.name}",
        facts=facts(evaluation),
        tables=[*_figure_tables(evaluation), *_fold_table(evaluation), _case_table(evaluation)],
        warnings=warnings(evaluation),
        configuration=json.dumps(subject.configuration, indent=1) if subject.configuration else "",
    )


def facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What was evaluated, and how."""
    subject = evaluation.subject
    budget = subject.training_slices
    return [
        ("evaluated", f"{subject.name} ({subject.kind.replace('_', ' ')})"),
        ("SHA-256 of the model", subject.sha256 or "not known"),
        ("parameters", f"{subject.parameters:,}" if subject.parameters else "not known"),
        ("training slices seen", f"{budget:,}" if budget else "not known"),
        *shared_facts(evaluation),
    ]


def shared_facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What is the same for all subjects that are compared."""
    with_tumor = sum(case.has_tumor for case in evaluation.cases)
    return [
        ("cases", f"{len(evaluation.cases)}, {with_tumor} of them with tumour"),
        ("SHA-256 of the data", evaluation.data_sha256),
        ("intervals", f"95 %, percentile bootstrap over {_who_is_resampled(evaluation)}"),
        *_condition_facts(evaluation.conditions),
    ]


def _who_is_resampled(evaluation: Evaluation) -> str:
    patients = len(set(patients_of(evaluation.cases)))
    if patients < len(evaluation.cases):
        return f"{patients} patients"
    return "cases" if evaluation.subject.config else "cases, each taken for another patient"


def _condition_facts(conditions: Conditions) -> list[tuple[str, str]]:
    own, cleaning = conditions.thresholds, conditions.cleaning
    thresholds = (
        "the model's own"
        if own is None
        else f"liver {own.liver:g}, tumour {own.tumor:g} of the liver's probability"
    )
    rules = "none" if cleaning is None else str(cleaning)
    if isinstance(cleaning, Cleaning):
        rules = f"the service's: {cleaning}"
    spacing = conditions.assumed_spacing_mm
    step = conditions.slice_step
    return [
        ("slices", "every one" if step == 1 else f"1 of {step}, as their numbers tell"),
        ("thresholds", thresholds),
        ("rules after the model", rules),
        ("spacing", f"{_mm(spacing)} assumed where not known" if spacing else "of the data"),
        ("definitions", "as meant by the paper" if conditions.compat == "paper" else "codalab"),
    ]


def _mm(spacing: tuple[float, float, float]) -> str:
    return " x ".join(f"{value:g}" for value in spacing) + " mm (slice, row, column)"


def warnings(evaluation: Evaluation) -> list[str]:
    """What must not be overlooked."""
    found = []
    if evaluation.subject.kind != "out_of_fold" and evaluation.subject.trained_on is None:
        found.append(
            "The model does not tell what it learned from: some of these cases may be among it."
        )
    if seen := evaluation.seen_in_training:
        found.append(
            f"{len(seen)} of the {len(evaluation.cases)} cases were trained on, or others of their "
            f"patients were: their figures say nothing of new cases ({', '.join(seen)})."
        )
    if chose := evaluation.chose_the_decision:
        found.append(
            f"Thresholds and what lesions are kept by were chosen on {len(chose)} of the "
            f"{len(evaluation.cases)} cases, so the figures are a little too good. "
            f"{_worth_of_the_choice(evaluation)}"
        )
    bearing = set(patients_of(case for case in evaluation.cases if case.has_tumor))
    if 1 < len(bearing) < FEW_PATIENTS:
        found.append(
            f"The intervals of tumours are over {len(bearing)} patients: over so few, they are too "
            "narrow."
        )
    if evaluation.conditions.compat == "codalab":
        found.append(
            "The counts of found lesions, what is said of detected ones, and the liver's RVD and "
            "distances are those of the challenge's own scorer, with its defects, for comparison "
            "with published tables only. All else is the paper's."
        )
    assumed = sum(case.spacing_assumed for case in evaluation.cases)
    if assumed and evaluation.conditions.assumed_spacing_mm:
        found.append(
            f"The spacing {_mm(evaluation.conditions.assumed_spacing_mm)} was assumed for "
            f"{assumed} of the {len(evaluation.cases)} cases, since the data do not tell it: their "
            "distances and volumes in mm are guesses."
        )
    if any(case.spacing_mm is None for case in evaluation.cases):
        found.append("Where the spacing is not known, nothing is given in mm.")
    for code in sorted({code for case in evaluation.cases for code in case.notices}):
        names = ", ".join(case.name for case in evaluation.cases if code in case.notices)
        found.append(f"{code}: {names} (`training check` says what it means).")
    return found


def _worth_of_the_choice(evaluation: Evaluation) -> str:
    choice = evaluation.conditions.chosen
    if choice is None or not evaluation.chose_its_decision:
        return "Predictions of another recipe chose them: what they are worth here is not known."
    return (
        "The mean tumour Dice of cases under the limits that other patients' would choose: "
        f"{number(choice.left_out_tumor_dice)}."
    )


def _figure_tables(evaluation: Evaluation) -> list[Table]:
    tables = []
    for group, title in GROUP_TITLES.items():
        figures = evaluation.figures.get(group, {})
        rows = [
            [
                METRIC_NAMES[name],
                with_interval(found),
                _spread(found),
                str(found.cases),
                str(found.left_out or ""),
            ]
            for name, found in figures.items()
            if found.cases + found.left_out
        ]
        if rows:
            head = (
                "metric",
                "value [95 % interval]",
                "standard deviation",
                "cases",
                "not defined",
            )
            tables.append(Table(title, head, rows))
    return tables


def _spread(found: Estimate) -> str:
    return "" if found.deviation is None else number(found.deviation)


def _fold_table(evaluation: Evaluation) -> list[Table]:
    """Means of each fold; none where the folds are not known."""
    folds = evaluation.subject.folds or {}
    groups: dict[int, list[CaseMetrics]] = defaultdict(list)
    for case in evaluation.cases:
        if case.name in folds:
            groups[folds[case.name]].append(case)
    if not groups:
        return []
    rows = []
    for fold, cases in sorted(groups.items()):
        found = aggregate(cases, evaluation.conditions.compat)
        means = [
            found[group][name].value
            for group, name in (("tumor_bearing", "dice"), ("liver", "dice"),
                                ("tumor_free", "false_lesions_per_case"))
        ]  # fmt: skip
        rows.append([str(fold), str(len(cases)), *(number(value) for value in means)])
    head = ("fold", "cases", "tumour Dice, cases with tumour", "liver Dice",
            "false lesions per case without tumour")  # fmt: skip
    return [Table("By fold", head, rows)]


def _case_table(evaluation: Evaluation) -> Table:
    metrics = [*OVERLAP_METRICS[:1], "precision", "recall", "rvd", *SURFACE_METRICS[:2]]
    head = ["case", *(f"liver {METRIC_NAMES[name]}" for name in ("dice", "assd_mm"))]
    head += [f"tumour {METRIC_NAMES[name]}" for name in metrics]
    head += ["lesions", "found", "touched", "predicted", "touch none"]
    rows = []
    for case in evaluation.cases:
        liver, tumor, row = _values(case.liver), _values(case.tumor), case_row(case)
        false = int(str(row["predicted_lesions"])) - int(str(row["predicted_lesions_touching"]))
        rows.append(
            [case.name, *(_shown(liver[name]) for name in ("dice", "assd_mm"))]
            + [_shown(tumor[name]) for name in metrics]
            + [str(row[name]) for name in ("lesions", "lesions_found", "lesions_touched")]
            + [str(row["predicted_lesions"]), str(false)]
        )
    note = "All metrics are in the CSV and JSON files beside this one."
    if evaluation.conditions.compat == "codalab":
        note += " By case, and in the CSV, all are the paper's; the scorer's own are above."
    return Table("Cases", head, rows, note)


def _shown(value: object) -> str:
    return number(value if isinstance(value, float | int) else None, 3)
