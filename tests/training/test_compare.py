"""Runs side by side on the same cases, and every command of evaluation on phantom files."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from labelled_cases import make_case, phantom_case, said
from typer.testing import CliRunner

from service.phantom import Phantom
from service.phantom_files import nifti_bytes
from training import commands
from training.__main__ import app
from training.commands import spacing_of
from training.data import Case, Dataset
from training.evaluation.compare import DifferentCases, compare, markdown, table, write_comparison
from training.evaluation.labelled import labelled_once
from training.evaluation.predictors import Opened
from training.evaluation.results import BY_SERVICE, Conditions, Evaluation, Subject
from training.prediction import Prediction

DATA = Dataset(tuple(phantom_case(f"case-{seed}", seed) for seed in (7, 8)))


def perfect(case: Case) -> Prediction:
    return said(case.labels())


def blind(case: Case) -> Prediction:
    """Sees the liver and no tumour."""
    return said(np.minimum(case.labels(), 1))


def opened(
    predict: Callable[[Case], Prediction], trained_on: tuple[str, ...] = (), **facts: object
) -> Opened:
    subject = Subject(name="x", kind="network", trained_on=trained_on, **facts)
    return Opened(subject, predict)


def test_table_holds_what_was_measured(tmp_path: Path) -> None:
    """Parameters, budget, speed, metrics with intervals, and the gain over the first."""
    subjects = {
        "blind": opened(blind, parameters=1_500_000, training_slices=8000),
        "perfect": opened(perfect),
    }
    found = compare(subjects, DATA, Conditions(), {"blind": 12.34})
    text = markdown(table(found))
    lines = text.splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| blind | 1.50 | 8,000 | 12.3 | 0.0000 [0.0000, 0.0000] | 1.0000 ")
    assert lines[3].startswith("| perfect | – | – | – | 1.0000 [1.0000, 1.0000] | 1.0000 ")
    assert lines[2].endswith("| 0.0000 [0.0000, 0.0000] |")
    assert lines[3].endswith("| 1.0000 [1.0000, 1.0000] |")
    write_comparison(found, tmp_path)
    assert (tmp_path / "comparison.md").read_text() == text
    rows = list(csv.DictReader((tmp_path / "comparison.csv").read_text().splitlines()))
    assert float(rows[1]["tumor_bearing_dice_low"]) == 1
    assert rows[1]["slices_per_second"] == ""
    assert json.loads((tmp_path / "comparison.json").read_text())["subjects"][0]["name"] == "blind"
    html = (tmp_path / "comparison.html").read_text()
    assert "data:image/png;base64," in html
    assert "Research use only" in html
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_other_cases_are_refused_by_name() -> None:
    """A run is judged by what it did not learn from, and all by the same."""
    subjects = {"one": opened(perfect), "other": opened(perfect, ("case-8",))}
    with pytest.raises(DifferentCases, match=r"only in one: case-8; only in other: none"):
        compare(subjects, DATA, Conditions(), {})
    with pytest.raises(DifferentCases, match=r"all: expected cases that it did not learn from"):
        compare({"all": opened(perfect, ("case-7", "case-8"))}, DATA, Conditions(), {})


def test_other_folds_are_refused() -> None:
    """The same cases, learned beside others: no comparison. The folds' numbers do not matter."""
    one, other = {"case-7": 0, "case-8": 1}, {"case-7": 1, "case-8": 1}
    same = {"case-7": 1, "case-8": 0}
    subjects = {
        name: Opened(Subject(name="x", kind="out_of_fold", folds=folds), perfect)
        for name, folds in (("one", one), ("unknown", None), ("same", same))
    }
    assert len(compare(subjects, DATA, Conditions(), {}).subjects) == 3
    subjects["other"] = Opened(Subject(name="x", kind="out_of_fold", folds=other), perfect)
    with pytest.raises(DifferentCases, match="divided otherwise in one and other"):
        compare(subjects, DATA, Conditions(), {})


def test_a_model_that_tells_nothing_is_not_compared() -> None:
    """All cases may be among those that it learned from."""
    silent = Opened(Subject(name="silent", kind="onnx"), perfect)
    with pytest.raises(DifferentCases, match="silent: expected a model that tells what it learned"):
        compare({"one": opened(perfect), "other": silent}, DATA, Conditions(), {})


def test_gain_is_by_case() -> None:
    """Cases that differ widely leave the difference of two subjects certain."""

    def partly(case: Case) -> Prediction:
        return blind(case) if case.name == "case-7" else perfect(case)

    found = compare({"a": opened(partly), "b": opened(partly)}, DATA, Conditions(), {})
    own = found.subjects[1].evaluation.figures["tumor_bearing"]["dice"]
    assert (own.low, own.high) == (0, 1)
    gain = found.subjects[1].tumor_dice_gain
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)


@pytest.mark.parametrize(
    "text", ["2,0.75", "2,0.75,x", "0,1,1", "2,-1,1", "1,nan,1", "1,1,inf", ""]
)
def test_spacing_is_three_lengths(text: str) -> None:
    """Anything else would measure nonsense."""
    with pytest.raises(ValueError, match=r"expected a spacing as 2,0\.75,0\.75"):
        spacing_of(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two LiTS-like volumes, and a cross-validation's predictions: right but for one lesion."""
    folder = tmp_path_factory.mktemp("phantoms")
    (folder / "data").mkdir()
    for number in (1, 2):
        hu, labels = Phantom.draw(number, 2).sample(24, 64, number)
        (folder / "data" / f"volume-{number}.nii").write_bytes(nifti_bytes(hu))
        (folder / "data" / f"segmentation-{number}.nii").write_bytes(nifti_bytes(labels))
        truth = np.asarray(labels.array)
        case = make_case(f"volume-{number}", truth)
        said(case.labels()).save(folder / "oof" / "predictions" / f"{case.name}.npz")
    run = folder / "oof" / "fold-0"
    run.mkdir()
    window = {"lower_hu": -40, "upper_hu": 160}
    (run / "config.json").write_text(json.dumps({"name": "tiny", "window": window, "grid": 64}))
    (run / "log.csv").write_text("epoch,loss,seconds\n0,1.0,2\n1,0.5,2\n")
    return folder


def run(folder: Path, *arguments: str) -> str:
    """What a command says; it must succeed."""
    where = ["--data", str(folder / "data"), "--prepared", str(folder / "prepared")]
    answer = CliRunner().invoke(app, [*arguments, *where])
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_tune_then_evaluate(folder: Path) -> None:
    """The decision that one command writes is what the other applies, and the report says so."""
    decision, out = str(folder / "decision.json"), folder / "evaluated"
    assert "tumour Dice 1.0000" in run(folder, "tune", str(folder / "oof"), "--out", decision)
    assert (folder / "decision.attempts.json").exists()
    said_of_it = run(
        folder, "evaluate", str(folder / "oof"), "--out", str(out), "--decision", decision
    )
    assert "tumour Dice, cases with tumour: 1.0000 [1.0000, 1.0000], 2 case(s)" in said_of_it
    found = Evaluation.read(out / "evaluation.json")
    assert found.conditions.thresholds is not None
    assert found.chose_the_decision == ("volume-1", "volume-2")
    assert "chosen on 2 of the 2 cases" in (out / "report.html").read_text()
    assert [case.name for case in found.cases] == ["volume-1", "volume-2"]
    assert {path.name for path in out.iterdir()} == {
        "evaluation.json", "cases.csv", "report.html", "figures",
    }  # fmt: skip
    assert len(list((out / "figures").glob("*.png"))) == 5


def test_an_interrupted_evaluation_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was labelled before the stop is not labelled again, and does not stay."""
    labelled: list[str] = []

    def predict(case: Case) -> Prediction:
        labelled.append(case.name)
        if labelled == ["volume-1", "volume-2"]:
            raise KeyboardInterrupt
        return perfect(case)

    window = {"lower_hu": -40, "upper_hu": 160}
    network = opened(predict, configuration={"name": "x", "window": window})
    monkeypatch.setattr(commands, "open_predictor", lambda *_, **__: network)
    where = ["--data", str(folder / "data"), "--prepared", str(folder / "prepared")]
    evaluate = ["evaluate", "x", *where, "--out", str(tmp_path / "out")]
    stopped = CliRunner().invoke(app, evaluate)
    assert stopped.exit_code == 130
    assert "stopped; the same command goes on after the last labelled case" in stopped.output
    assert CliRunner().invoke(app, evaluate).exit_code == 0
    assert labelled == ["volume-1", "volume-2", "volume-2"]
    found = Evaluation.read(tmp_path / "out" / "evaluation.json")
    assert found.figures["tumor"]["dice"].value == 1
    assert not list((tmp_path / "out").glob("*.partial"))


def test_other_conditions_label_anew(tmp_path: Path) -> None:
    """A service labels otherwise with its rules, or at another spacing."""
    labelled: list[str] = []

    def predict(case: Case) -> Prediction:
        labelled.append(case.name)
        return perfect(case)

    service = Opened(Subject(name="x", kind="service"), predict)
    plain, cleaned = Conditions(), Conditions(cleaning=BY_SERVICE)
    with labelled_once(tmp_path, plain) as first, labelled_once(tmp_path, plain) as again:
        for once in (first, again):
            once(service).predict(DATA.cases[0])
        assert labelled == ["case-7"]
        with labelled_once(tmp_path, cleaned) as other:
            other(service).predict(DATA.cases[0])
    assert labelled == ["case-7", "case-7"]


def test_a_file_in_the_place_of_the_folder_is_told_first(folder: Path, tmp_path: Path) -> None:
    """Before hours of labelling, not after."""
    (tmp_path / "file").write_text("")
    where = ["--data", str(folder / "data"), "--prepared", str(folder / "prepared")]
    oof = str(folder / "oof")
    for arguments, message in (
        (["evaluate", oof, "--out", str(tmp_path / "file")], "file: File exists"),
        (["tune", oof, "--out", str(tmp_path)], "expected a file to write the decision to"),
    ):
        answer = CliRunner().invoke(app, [*arguments, *where])
        assert answer.exit_code == 1
        assert message in " ".join(answer.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_names_with_brackets_are_no_markup(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run may be called anything."""
    window = {"lower_hu": -40, "upper_hu": 160}
    subject = Subject(
        name="unet [/v2]", kind="network", configuration={"name": "x", "window": window}
    )
    monkeypatch.setattr(commands, "open_predictor", lambda *_, **__: Opened(subject, perfect))
    run(folder, "evaluate", "x", "--out", str(tmp_path / "out"))
    assert "unet [/v2]" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("name", ["volume-7", "Volume-007", "volume-007"])
def test_a_case_is_known_by_its_name(name: str) -> None:
    """In the layout of another data set too; another number is another case."""
    learned = Subject(name="x", kind="network", trained_on=("volume-007",))
    assert learned.knows(name)
    assert not learned.knows("volume-70")
    assert not learned.knows("volume-17")


def test_compare_and_figures(folder: Path) -> None:
    """A table and the curves from the folders of runs."""
    out, oof = folder / "compared", str(folder / "oof")
    assert "| one |" in run(folder, "compare", f"one={oof}", f"two={oof}", "--out", str(out))
    assert (out / "comparison.html").exists()
    drawn = folder / "drawn"
    run(folder, "figures", f"one={folder / 'oof' / 'fold-0'}", "--out", str(drawn))
    assert {path.name for path in drawn.iterdir()} == {"learning-curves.png", "augmentation.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "gone.onnx"], "expected an exported model, found no file gone.onnx"),
        (["evaluate", "{oof}", "--compat", "other"], "compat"),
        (["evaluate", "{oof}", "--flips"], "expected a network to show mirrored slices to"),
        (["evaluate", "{oof}", "--split", "val"], "no case of split val"),
        (["compare", "{oof}"], "expected NAME=PATH"),
        (["compare", "a={oof}", "--exported", "b=x.onnx"], "expected exports of a, found b"),
        (["figures", "a=gone"], "expected runs with a log, found none in a"),
        (["tune", "gone"], "expected model.keras and config.json of a finished run"),
    ],
)
def test_mistakes_end_in_a_sentence(folder: Path, arguments: list[str], message: str) -> None:
    """Naming what was expected; no traceback, and nothing is written."""
    out = folder / "nothing"
    filled = [text.replace("{oof}", str(folder / "oof")) for text in arguments]
    where = ["--data", str(folder / "data"), "--prepared", str(folder / "prepared")]
    answer = CliRunner().invoke(app, [*filled, *where, "--out", str(out)])
    assert answer.exit_code == 1
    assert message in " ".join(answer.output.split())
    assert not out.exists()
