"""A contract's figures from the report of an evaluation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_cases import make_case, said

from export.fields import LIVER_TUMOR, ContractFields
from export.out_of_fold import read_report, validation_of
from export.trained import NotExportable, Trained
from service.inference.contract import Thresholds
from training.evaluation.decision import Cleaning
from training.evaluation.evaluate import evaluate
from training.evaluation.results import Conditions, Evaluation, Subject


def report(trained: Trained, **changes: Any) -> Evaluation:
    """Two cases, one without tumour in which some is found."""
    truth = np.zeros((2, 8, 8), np.uint8)
    truth[:, 2:6, 2:6] = 1
    with_tumor, found = truth.copy(), truth.copy()
    with_tumor[0, 2, 2:6] = 2
    found[0, 2, 2:4] = 2  # two of four, and none wrong: Dice 4 / 6
    cases = ((make_case("volume-001", with_tumor), said(found)),
             (make_case("volume-002", truth), said(found)))  # fmt: skip
    subject = {
        "name": "tiny, 5 folds",
        "kind": "out_of_fold",
        "configuration": trained.config.model_dump(mode="json"),
        "training_slices": 8000,
    }
    return evaluate(
        cases,
        Subject.model_validate(subject | changes.get("subject", {})),
        Conditions.model_validate(changes.get("conditions", {})),
    )


def read(tmp_path: Path, trained: Trained, **changes: Any) -> Evaluation:
    path = tmp_path / "evaluation.json"
    path.write_text(report(trained, **changes).model_dump_json())
    return read_report(path, trained.config)


def test_the_figures_are_the_reports(tmp_path: Path, trained: Trained) -> None:
    """Tumour over the cases that have any; what was done is said beside it."""
    found = validation_of(read(tmp_path, trained))
    assert (found.liver_dice_per_case, found.tumor_dice_per_case) == (1.0, round(4 / 6, 4))
    assert (found.cases, found.cases_with_tumor) == (2, 1)
    assert found.per_case["volume-002"] == {"liver": 1.0, "tumor": None}
    assert "8000 training slices" in found.method
    assert "without post-processing" in found.method


def test_the_decision_is_the_reports(tmp_path: Path, trained: Trained) -> None:
    """A contract never quotes figures of other thresholds than its own."""
    chosen, cleaning = Thresholds(liver=0.4, tumor=0.3), {"min_lesion_mm3": 7, "min_lesion_px": 3}
    conditions = {
        "thresholds": chosen.model_dump(),
        "cleaning": cleaning,
        "assumed_spacing_mm": (2, 0.75, 0.75),
    }
    read_back = read(tmp_path, trained, conditions=conditions)
    method = validation_of(read_back).method
    assert "lesions from 7 mm3, or 3 pixels" in method
    assert "a spacing of 2 x 0.75 x 0.75 mm was assumed" in method
    fields = ContractFields.read(LIVER_TUMOR)
    decided = fields.decided_as(read_back.conditions)
    assert decided.thresholds == chosen
    assert (decided.min_lesion_mm3, decided.min_lesion_px) == (7, 3)
    assert Cleaning.model_validate(cleaning) == read_back.conditions.cleaning
    assert fields.decided_as(Conditions()) == fields


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subject": {"kind": "network"}}, "out-of-fold predictions, found one of tiny, 5 folds"),
        ({"subject": {"configuration": None}}, "expected an evaluation of unet"),
        ({"conditions": {"compat": "codalab"}}, "the paper's definitions, found codalab"),
    ],
)
def test_a_report_of_something_else_is_refused(
    tmp_path: Path, trained: Trained, changes: dict[str, Any], message: str
) -> None:
    """Of seen cases, of an unknown network, by the official scorer's definitions."""
    with pytest.raises(NotExportable, match=message):
        read(tmp_path, trained, **changes)


def test_a_report_of_another_network_is_refused(tmp_path: Path, trained: Trained) -> None:
    """Also where only the grid differs."""
    other = trained.config.model_copy(update={"grid": 128}).model_dump(mode="json")
    with pytest.raises(NotExportable, match="on a grid of 64, found one of tiny, 5 folds"):
        read(tmp_path, trained, subject={"configuration": other})


def test_what_is_no_report_is_refused(tmp_path: Path, trained: Trained) -> None:
    """The message names what is missing."""
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"cases": []}))
    with pytest.raises(NotExportable, match=r"found it wrong in .*conditions.*subject"):
        read_report(path, trained.config)
    path.write_text("no json")
    with pytest.raises(NotExportable, match=r"evaluation\.json: expected an evaluation"):
        read_report(path, trained.config)
