"""A contract's figures from the report of an evaluation."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_cases import make_case, said

from export.fields import ContractFields
from export.out_of_fold import read_report, validation_of
from export.trained import NotExportable, Trained
from service.inference.contract import NO_LIMITS, LesionLimits, Thresholds
from training.data import Case, Dataset
from training.evaluation.decision import Cleaning
from training.evaluation.evaluate import evaluate
from training.evaluation.results import Conditions, Evaluation, Subject
from training.prediction import Prediction


def labelled(*names: str) -> Iterable[tuple[Case, Prediction]]:
    """Cases with four voxels of tumour, of which two are found, and none wrong: Dice 4 / 6.

    volume-002 has none, and none is found.
    """
    for name in names:
        truth = np.zeros((2, 8, 8), np.uint8)
        truth[:, 2:6, 2:6] = 1
        found = truth.copy()
        if name != "volume-002":
            truth[0, 2, 2:6] = 2
            found[0, 2, 2:4] = 2
        yield make_case(name, truth), said(found)


NAMES = ("volume-001", "volume-002")
LIMITS = LesionLimits(surrounded=0.3, fluid_hu=20)


@pytest.fixture
def trained(trained: Trained) -> Trained:
    """On the very cases of the report."""
    data = Dataset(tuple(case for case, _ in labelled(*NAMES)))
    return replace(trained, cases=NAMES, data_sha256=data.sha256)


def report(trained: Trained, **changes: Any) -> Evaluation:
    subject = {
        "name": "tiny, 5 folds",
        "kind": "out_of_fold",
        "configuration": trained.config.model_dump(mode="json"),
        "training_slices": 8000,
    }
    return evaluate(
        labelled(*changes.get("cases", NAMES)),
        Subject.model_validate(subject | changes.get("subject", {})),
        Conditions.model_validate(changes.get("conditions", {})),
    )


def read(tmp_path: Path, trained: Trained, **changes: Any) -> Evaluation:
    path = tmp_path / "evaluation.json"
    path.write_text(report(trained, **changes).model_dump_json())
    return read_report(path, trained)


def test_the_figures_are_the_reports(tmp_path: Path, trained: Trained) -> None:
    """Tumour over the cases that have any; what was done is said beside it."""
    found = validation_of(read(tmp_path, trained))
    assert (found.liver_dice_per_case, found.tumor_dice_per_case) == (1.0, round(4 / 6, 4))
    assert (found.cases, found.cases_with_tumor) == (2, 1)
    assert found.per_case["volume-002"] == {"liver": 1.0, "tumor": None}
    assert "8000 training slices" in found.method
    assert "without post-processing" in found.method


def test_the_decision_is_the_reports(
    tmp_path: Path, trained: Trained, fields: ContractFields
) -> None:
    """A contract never quotes figures of other thresholds than its own."""
    chosen = Thresholds(liver=0.4, tumor=0.3)
    cleaning = {
        "min_lesion_mm3": 7,
        "min_lesion_px": 3,
        "lesion_limits": {"surrounded": 0.4, "fluid_hu": 25, "contrast_hu": 8},
    }
    conditions = {
        "thresholds": chosen.model_dump(),
        "cleaning": cleaning,
        "assumed_spacing_mm": (2, 0.75, 0.75),
        "chosen": {
            "cases": ["volume-001"],
            "recipe_sha256": trained.config.recipe_sha256,
            "left_out_tumor_dice": 0.25,
        },
    }
    read_back = read(tmp_path, trained, conditions=conditions)
    method = validation_of(read_back).method
    assert (
        "with the service's post-processing (lesions from 7 mm3 (3 voxels where the spacing is not "
        "known), at least 40% of what is around it liver, no fluid (a mean under 25 HU in a "
        "brighter liver), at least 8 HU from the liver around it), for which"
    ) in method
    assert "a spacing of 2 x 0.75 x 0.75 mm was assumed" in method
    assert "chosen on the same predictions" in method
    assert "the limits that those of other patients choose: 0.2500" in method
    decided = fields.decided_as(read_back.conditions)
    assert decided.thresholds == chosen
    assert (decided.min_lesion_mm3, decided.min_lesion_px) == (7, 3)
    assert decided.lesion_limits == LesionLimits(surrounded=0.4, fluid_hu=25, contrast_hu=8)
    assert Cleaning.model_validate(cleaning) == read_back.conditions.cleaning


def test_a_report_without_thresholds_was_decided_at_even_odds(fields: ContractFields) -> None:
    """So the file's thresholds do not come into a contract beside its figures; its smallest lesion
    and its limits do, since the figures are of no post-processing.
    """
    changes = {"thresholds": Thresholds(liver=0.7, tumor=0.2), "lesion_limits": LIMITS}
    typed = fields.model_copy(update=changes)
    decided = typed.decided_as(Conditions())
    assert decided == typed.model_copy(update={"thresholds": Thresholds(liver=0.5, tumor=0.5)})


def test_a_report_without_limits_leaves_none(fields: ContractFields) -> None:
    """The file's would drop lesions that the figures count."""
    typed = fields.model_copy(update={"lesion_limits": LIMITS})
    assert typed.decided_as(Conditions(cleaning=Cleaning())).lesion_limits == NO_LIMITS


@pytest.mark.parametrize("recipe", [None, "0" * 64])
def test_a_decision_that_another_recipe_chose_is_refused(
    tmp_path: Path, trained: Trained, recipe: str | None
) -> None:
    """What it would be worth here, nobody measured."""
    chosen = {"cases": NAMES, "recipe_sha256": recipe, "left_out_tumor_dice": 0.25}
    with pytest.raises(NotExportable, match="chosen on predictions of the run's own recipe"):
        read(tmp_path, trained, conditions={"thresholds": {}, "chosen": chosen})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subject": {"kind": "network"}}, "out-of-fold predictions, found one of tiny, 5 folds"),
        (
            {"subject": {"configuration": None}},
            "configuration of a run, found it wrong in name, window",
        ),
        ({"conditions": {"compat": "codalab"}}, "the paper's definitions, found codalab"),
    ],
)
def test_a_report_of_something_else_is_refused(
    tmp_path: Path, trained: Trained, changes: dict[str, Any], message: str
) -> None:
    """Of seen cases, of an unknown network, by the official scorer's definitions."""
    with pytest.raises(NotExportable, match=message):
        read(tmp_path, trained, **changes)


def changed(trained: Trained, **settings: Any) -> dict[str, Any]:
    """The configuration of a report, `network__filters` for those within a group."""
    config = trained.config.model_dump(mode="json")
    for name, value in settings.items():
        *groups, last = name.split("__")
        inner = config
        for group in groups:
            inner = inner[group]
        inner[last] = value
    return {"configuration": config}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"grid": 128}, "grid"),
        ({"network__filters": [8, 4, 4]}, r"network\.filters"),
        ({"epochs": 7, "augment__synthetic_lesions__most": 9},
         r"augment\.synthetic_lesions\.most, epochs"),
        ({"same_patient": [["volume-001", "volume-002"]]}, "same_patient"),
    ],
)  # fmt: skip
def test_a_report_of_another_recipe_is_refused(
    tmp_path: Path, trained: Trained, settings: dict[str, Any], named: str
) -> None:
    """The message names every setting that differs, and no other."""
    with pytest.raises(NotExportable, match=rf"tiny, 5 folds with another {named}$"):
        read(tmp_path, trained, subject=changed(trained, **settings))


def test_what_makes_no_other_recipe_may_differ(tmp_path: Path, trained: Trained) -> None:
    """Name, seed and looks at held-out cases, and a setting that the report does not know yet."""
    subject = changed(trained, name="other", seed=5, validation__every_epochs=2)
    del subject["configuration"]["neighbours"], subject["configuration"]["augment"]["elastic"]
    assert len(read(tmp_path, trained, subject=subject).cases) == 2


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"network__architecture": "vgg"}, r"network\.architecture"),
        ({"later": 1}, "later"),
        ({"network__context": 2}, "network.context must be odd"),
    ],
)
def test_a_configuration_that_is_none_is_refused(
    tmp_path: Path, trained: Trained, settings: dict[str, Any], wrong: str
) -> None:
    """Of an unknown network, with an unknown setting, against a rule between several."""
    whole, path = report(trained), tmp_path / "evaluation.json"
    broken = whole.subject.model_copy(update=changed(trained, **settings))
    path.write_text(whole.model_copy(update={"subject": broken}).model_dump_json())
    with pytest.raises(NotExportable, match=f"configuration of a run, found it wrong in .*{wrong}"):
        read_report(path, trained)


@pytest.mark.parametrize(
    ("cases", "wrong"),
    [
        (NAMES[:1], "without volume-002"),
        ((*NAMES, "volume-003", "volume-004"), "with volume-003, volume-004"),
        (("volume-001", "volume-003"), "without volume-002 and with volume-003"),
    ],
)
def test_a_report_on_other_cases_is_refused(
    tmp_path: Path, trained: Trained, cases: tuple[str, ...], wrong: str
) -> None:
    """Some of the folds, or cases that the run never learned from."""
    with pytest.raises(NotExportable, match=f"just the cases .* found one {wrong}$"):
        read(tmp_path, trained, cases=cases)


def test_a_report_on_other_data_of_the_same_names_is_refused(
    tmp_path: Path, trained: Trained
) -> None:
    with pytest.raises(NotExportable, match="the same names with other content"):
        read(tmp_path, replace(trained, data_sha256="1" * 64))


def test_what_is_no_report_is_refused(tmp_path: Path, trained: Trained) -> None:
    """The message names what is missing."""
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"cases": []}))
    with pytest.raises(NotExportable, match=r"found it wrong in .*conditions.*subject"):
        read_report(path, trained)
    path.write_text("no json")
    with pytest.raises(NotExportable, match=r"evaluation\.json: expected an evaluation"):
        read_report(path, trained)
