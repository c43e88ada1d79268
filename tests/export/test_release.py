"""The whole export of a run, with a tiny network in place of the run's."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import keras
import onnx
import pytest
from conftest import ROOT
from labelled_cases import said
from onnx import ModelProto

from export import folder as folder_module
from export import release as release_module
from export.__main__ import main
from export.fields import ContractFields
from export.measure import measure, sampled, whole
from export.onnx_graph import contract_of
from export.parity import Difference, ParityError, check_self_test
from export.record import DiceRecord, ExportRecord
from export.release import release
from export.runners import onnx_runner
from export.trained import NotExportable, Trained
from service.inference.contract import LesionLimits, ModelContract, Thresholds
from service.inference.session import ModelSession
from training.config import TrainingConfig
from training.data import Dataset, LabelledSlice
from training.evaluation.decision import Cleaning
from training.evaluation.evaluate import evaluate
from training.evaluation.results import Conditions, Evaluation, Subject

FILES = {"card.md", "contract.json", "export.json"} | {
    f"model.{precision}.onnx{end}"
    for precision in ("float32", "float16", "int8")
    for end in ("", ".sha256")
}


@pytest.fixture(scope="module")
def run(network: keras.Model, config: TrainingConfig, data: Dataset) -> Trained:
    own = data.split("train")
    names = tuple(case.name for case in own.cases)
    return Trained(network, config, names, names, len(own.slices), own.sha256, 2400)


@pytest.fixture(scope="module")
def out(
    run: Trained, data: Dataset, fields: ContractFields, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An export, measured on the one case that the run did not learn from."""
    path = tmp_path_factory.mktemp("exports") / "new" / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release_module, "read_run", lambda model: run)
        release(Path("run"), lambda: data, fields, path)
    return path


def test_the_folder_is_whole_and_alone(out: Path) -> None:
    assert {path.name for path in out.iterdir()} == FILES
    assert [path.name for path in out.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_every_file_says_what_it_is_and_is_served(out: Path, run: Trained, precision: str) -> None:
    """Its contract, its own self-test, and the service's checks at start."""
    path = out / f"model.{precision}.onnx"
    contract = contract_of(onnx.load(path))
    assert (contract.precision, contract.grid) == (precision, 64)
    assert contract.window == run.config.window
    assert contract.architecture == "U-Net, stages 8-8-4"
    assert contract.training_data.volumes == ("volume-001", "volume-002")
    assert (contract.training_data.cases, contract.training_data.slices) == (2, 6)
    found = check_self_test(onnx_runner(onnx.load(path)), contract.self_test)
    assert found == contract.self_test
    assert ModelSession.open(path, "cpu").contract == contract


def test_without_a_report_the_int8_file_is_measured_on_unseen_cases(
    out: Path, data: Dataset
) -> None:
    contract = ModelContract.model_validate_json((out / "contract.json").read_text())
    assert contract == contract_of(onnx.load(out / "model.int8.onnx"))
    runner = onnx_runner(onnx.load(out / "model.int8.onnx"))
    found = measure(runner, whole(data.only(["volume-003"]).cases))
    assert contract.validation == found.validation(release_module.HELD_OUT)


def test_the_record_holds_what_was_measured(out: Path, network: keras.Model) -> None:
    text = (out / "export.json").read_text()
    record = ExportRecord.model_validate_json(text)
    assert record.network.parameters == network.count_params()
    assert record.keras_and_float32.largest_probability_difference <= 1e-3
    assert record.rounding.held_out
    assert (record.rounding.cases, record.rounding.slices) == (1, 3)
    assert record.slices_per_second.int8 > 0
    assert record.int8_and_gpu.accepted
    for file in record.files:
        assert file.bytes == (out / file.name).stat().st_size
    card = (out / "card.md").read_text()
    contract = json.loads((out / "contract.json").read_text())
    assert f"{contract['validation']['liver_dice_per_case']:.4f}" in card
    assert "Research use only" in card


def test_the_card_tells_of_the_runs_own_data(out: Path) -> None:
    """Its name from the contract's file, its counts and what was drawn from the run."""
    record = ExportRecord.model_validate_json((out / "export.json").read_text())
    assert record.network.training_slices == 2400
    card = (out / "card.md").read_text()
    assert "| Trained on | 2 volumes, 6 slices of synthetic abdomens |" in card
    assert "| Training | 2400 slices drawn, repeats counted |" in card
    assert "- CT values outside -40 to 160 HU cannot be told apart." in card
    assert "LiTS" not in card


LIMITS = LesionLimits(surrounded=0.3, contrast_hu=8)


def out_of_fold_report(trained: Trained, data: Dataset) -> Evaluation:
    """Of a model that knows every label, decided by thresholds of its own."""
    subject = Subject(
        name="tiny", kind="out_of_fold", configuration=trained.config.model_dump(mode="json")
    )
    conditions = Conditions(
        thresholds=Thresholds(tumor=0.25),
        cleaning=Cleaning(min_lesion_mm3=3, min_lesion_px=2, lesion_limits=LIMITS),
    )
    return evaluate([(case, said(case.labels())) for case in data.cases], subject, conditions)


def test_with_a_report_the_contract_quotes_it(
    run: Trained,
    data: Dataset,
    fields: ContractFields,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Its figures and its decision; then the run may have learned from every case, and what int8
    changes is told on a part of those.
    """
    names = tuple(case.name for case in data.cases)
    everything = replace(run, cases=names, known_cases=names, slices=9, data_sha256=data.sha256)
    monkeypatch.setattr(release_module, "read_run", lambda model: everything)
    report, out = tmp_path / "evaluation.json", tmp_path / "out"
    report.write_text(out_of_fold_report(everything, data).model_dump_json())
    release(Path("run"), lambda: data, fields, out, report)
    written = contract_of(onnx.load(out / "model.int8.onnx"))
    assert (written.validation.cases, written.validation.liver_dice_per_case) == (3, 1.0)
    assert (written.thresholds.tumor, written.min_lesion_px) == (0.25, 2)
    assert written.lesion_limits == LIMITS
    assert f"| Asked of a lesion | {LIMITS} |" in (out / "card.md").read_text().splitlines()
    record = ExportRecord.model_validate_json((out / "export.json").read_text())
    assert not record.rounding.held_out
    assert record.rounding.cases == 3


def test_a_file_that_the_gpu_command_refuses_is_told_of(
    run: Trained,
    data: Dataset,
    fields: ContractFields,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The files are there all the same, to be compared."""

    def refuse(float16: ModelProto, found: Difference) -> None:
        raise ParityError("int8 and float16: too far apart")

    monkeypatch.setattr(release_module, "read_run", lambda model: run)
    monkeypatch.setattr(release_module, "accept", refuse)
    release(Path("run"), lambda: data, fields, tmp_path / "out")
    assert "would refuse this file: int8 and float16: too far apart" in " ".join(
        capsys.readouterr().out.split()
    )
    record = ExportRecord.model_validate_json((tmp_path / "out/export.json").read_text())
    assert not record.int8_and_gpu.accepted


def test_activations_that_float16_cannot_hold_are_told_of(
    int8: ModelProto, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no GPU's graph to compare then; the files are still worth having."""

    def refuse(model: ModelProto) -> ModelProto:
        raise ValueError("relu reaches 130861, float16 holds 65504")

    monkeypatch.setattr(release_module, "to_float16", refuse)
    found = release_module.gpu_record(int8)
    assert (found.accepted, found.label_agreement, found.organ_dice) == (False, None, None)
    assert "would refuse this file: relu reaches 130861" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize(("int8_dice", "told"), [(0.40, True), (0.406, False), (0.45, False)])
def test_what_rounding_costs_is_told(
    capsys: pytest.CaptureFixture[str], int8_dice: float, told: bool
) -> None:
    """Above 0.005 of Dice in so many words; a gain is no loss."""
    before, after = DiceRecord(liver=0.9, tumor=0.41), DiceRecord(liver=0.9, tumor=int8_dice)
    release_module.tell_rounding(before, after)
    said_of_it = " ".join(capsys.readouterr().out.split())
    assert f"tumor Dice: 0.4100 in float32, {int8_dice:.4f} in int8" in said_of_it
    assert ("more than 0.005 is lost" in said_of_it) == told


def test_without_report_and_unseen_cases_nothing_is_exported(
    run: Trained,
    data: Dataset,
    fields: ContractFields,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(release_module, "read_run", lambda model: run)
    known = data.split("train")
    with pytest.raises(NotExportable, match="expected a report, or cases with tumour"):
        release(Path("run"), lambda: known, fields, tmp_path / "out")
    assert not list(tmp_path.iterdir())


CONTRACT = ("--contract", str(ROOT / "export/contracts/phantom.toml"))


def command(slices: Path, out: Path, tmp_path: Path, contract: tuple[str, ...] = CONTRACT) -> int:
    """The exit status of the command on what is no run."""
    arguments = [str(tmp_path / "no-run"), "--data", str(slices), "--out", str(out), *contract]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_the_command_says_what_is_wrong_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a command's name, and of the run before the data."""
    assert command(tmp_path / "no-data", tmp_path / "out", tmp_path) == 1
    said = capsys.readouterr().err.strip()
    assert said.endswith("expected a run's folder or its model.keras, found nothing; nothing was "
                         "written")  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_no_contract_is_taken_for_granted(
    slices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another data set's name and licence would be in the file; one that is not there is named."""
    assert command(slices, tmp_path / "out", tmp_path, contract=()) == 2
    assert "--contract" in capsys.readouterr().err
    gone = ("--contract", str(tmp_path / "gone.toml"))
    assert command(slices, tmp_path / "out", tmp_path, gone) == 1
    assert "gone.toml'; nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_in_it_is_not_touched(
    slices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert command(slices, out, tmp_path) == 1
    assert "expected a new or an empty folder, found files" in capsys.readouterr().err
    assert (out / "mine.txt").read_text() == "mine"


def test_a_full_disk_leaves_nothing(
    run: Trained,
    slices: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is found when the second of the files is written."""
    written: list[Path] = []

    def save(model: ModelProto, path: Path) -> None:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_bytes(b"x")
        written.append(path)

    monkeypatch.setattr(release_module, "read_run", lambda model: run)
    monkeypatch.setattr(folder_module, "save_whole", save)
    assert command(slices, tmp_path / "out", tmp_path) == 1
    assert "the disk is full; nothing was written" in capsys.readouterr().err
    assert len(written) == 1
    assert not list(tmp_path.iterdir())


def test_rounding_is_told_on_slices_with_liver(data: Dataset) -> None:
    """Evenly, at most twenty of a case; a case without liver tells nothing."""
    first, *_ = data.cases
    pixels = first.slices[0].pixels
    many = tuple(LabelledSlice("many", index, index % 2, 0, pixels) for index in range(90))
    none = tuple(LabelledSlice("none", index, 0, 0, pixels) for index in range(5))
    cases = [type(first)("many", many, ""), type(first)("none", none, "")]
    ((name, chosen),) = sampled(cases)
    assert name == "many"
    assert [item.index for item in chosen] == list(range(1, 90, 6))
