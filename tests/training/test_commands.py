"""The commands do what the documentation shows, and say plainly what is wrong."""

import importlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import ROOT
from typer.testing import CliRunner

from training.__main__ import app
from training.config import TrainingConfig
from training.data import Dataset
from training.run_folder import RunFolder

DOCUMENT = (ROOT / "docs" / "training.md").read_text()


def run_as_typed(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of a shell, in this process: starting TensorFlow for each takes longer than they do.

    The line is `NAME=VALUE... python -m MODULE ARGUMENTS`, without quotes.
    """
    words = line.split()
    python = words.index("python")
    module, arguments = words[python + 2], words[python + 3 :]
    assert words[python + 1] == "-m"
    with monkeypatch.context() as patched:
        for setting in words[:python]:
            patched.setenv(*setting.split("=", 1))
        entry = importlib.import_module(f"{module}.__main__")
        with pytest.raises(SystemExit) as ended:
            getattr(entry, "main", entry.app)(arguments)
    assert not ended.value.code, line


@pytest.mark.usefixtures("compiled")
def test_documented_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole block, word for word: from no data at all to a model that segments a phantom."""
    blocks = re.findall(r"```sh training example\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) == 1
    for package in ("training", "export"):  # whose configurations the commands name
        (tmp_path / package).symlink_to(ROOT / package)
    monkeypatch.chdir(tmp_path)
    for line in blocks[0].replace("\\\n", "").splitlines():
        run_as_typed(line, monkeypatch)
    runs = tmp_path / "runs"
    assert RunFolder(runs / "all").finished
    for name in ("cv-report/report.html", "compared/comparison.md", "figures/learning-curves.png",
                 "export/model.int8.onnx", "int8-report/evaluation.json"):  # fmt: skip
        assert (runs / name).stat().st_size > 100
    card = (runs / "export/card.md").read_text()
    assert "6 volumes, 72 slices of synthetic abdomens" in card
    assert list((runs / "segmented").iterdir())


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    return result.output.strip()


CONFIG = str(ROOT / "training/configs/phantom.toml")


def test_cases_are_held_out_by_name(
    tmp_path: Path, phantom_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are looked at and not learned from, in any layout of data."""
    seen: list[Dataset] = []

    def train(_: object, data: Dataset, __: object, ___: object, held_out: Dataset,
              *____: object, workers: int) -> None:  # fmt: skip
        assert workers == 3
        seen.extend((data, held_out))

    monkeypatch.setattr("training.train.train", train)
    rest = ("--data", str(phantom_folder), "--out", str(tmp_path / "run"),
            "--prepared", str(tmp_path / "prepared"), "--hold-out")  # fmt: skip
    result = CliRunner().invoke(
        app, ["train", CONFIG, *rest, "volume-1", "--hold-out", "volume-4", "--workers", "3"]
    )
    assert result.exit_code == 0, result.output
    names = [[case.name for case in data.cases] for data in seen]
    assert names == [["volume-0", "volume-2", "volume-3"], ["volume-1", "volume-4"]]
    assert refused("train", CONFIG, *rest, "none") == "expected names of cases, found none"
    both = refused("train", CONFIG, *rest, "volume-1", "--split", "val")
    assert both == "expected --split or --hold-out, found both"


@pytest.mark.parametrize("command", ["train", "crossval"])
def test_what_a_user_can_mend_is_one_line(
    tmp_path: Path, phantom_folder: Path, command: str
) -> None:
    """A configuration that is not there, data that are not there, a device that is not there."""
    rest = ("--data", str(phantom_folder), "--out", str(tmp_path / "run"),
            "--prepared", str(tmp_path / "prepared"))  # fmt: skip
    assert "No such file" in refused(command, str(tmp_path / "none.toml"), *rest)
    nowhere = ("--data", str(tmp_path / "none"), *rest[2:])
    assert "expected a folder with the data" in refused(command, CONFIG, *nowhere)
    wanted = refused(command, CONFIG, *rest, "--device", "gpu")
    assert wanted == "expected 1 gpu device(s), found 0"
    assert not (tmp_path / "run").exists()


def test_a_split_that_there_is_not_is_named(tmp_path: Path, phantom_folder: Path) -> None:
    """NIfTI folders suggest none."""
    output = refused(
        "train", CONFIG, "--data", str(phantom_folder), "--out", str(tmp_path / "run"),
        "--prepared", str(tmp_path / "prepared"), "--split", "train",
    )  # fmt: skip
    assert output.startswith("no case of split train")


def test_check_counts_what_there_is(tmp_path: Path, phantom_folder: Path) -> None:
    """Cases, slices, and those with liver and tumour."""
    result = CliRunner().invoke(
        app, ["check", "--data", str(phantom_folder), "--prepared", str(tmp_path)]
    )
    assert result.exit_code == 0
    assert result.output.startswith("5 cases, 40 slices: ")
    assert "1 case(s) without tumour" in result.output


def test_check_prints_the_notices_of_the_decoder(tmp_path: Path, phantom_folder: Path) -> None:
    """A CT stored with 1024 more is a case, and a line says what is odd about it."""
    for kind in ("volume", "segmentation"):
        for number in (0, 1):
            shutil.copy(phantom_folder / f"{kind}-{number}.nii", tmp_path)
    image = nibabel.Nifti1Image.from_bytes((tmp_path / "volume-1.nii").read_bytes())
    moved = np.asarray(image.dataobj) + np.int16(1024)
    nibabel.Nifti1Image(moved, None, image.header).to_filename(tmp_path / "volume-1.nii")
    command = ["check", "--data", str(tmp_path), "--prepared", str(tmp_path / "prepared")]
    for _ in ("prepared now", "prepared before"):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0
        first, *others = result.output.splitlines()
        assert first.startswith("2 cases")
        assert [line.split(" The ")[0] for line in others] == ["volume-1: hu_range_unusual:"]


def test_tuning_needs_predictions_of_these_cases(tmp_path: Path, phantom_folder: Path) -> None:
    """Other cases have none."""
    folder = RunFolder(tmp_path / "cv" / "fold-0")
    folder.path.mkdir(parents=True)
    (folder.path.parent / "predictions").mkdir()
    folder.config_path.write_text(TrainingConfig.read(Path(CONFIG)).model_dump_json())
    output = refused(
        "tune", str(tmp_path / "cv"), "--data", str(phantom_folder),
        "--prepared", str(tmp_path / "prepared"), "--out", str(tmp_path / "decision.json"),
    )  # fmt: skip
    assert output.endswith("cv: expected predictions of these cases, found none")


def test_a_split_keeps_patients_apart(tmp_path: Path, write_slices: Callable[[], Path]) -> None:
    """Two cases of one patient, one in the split and one held out, are refused by name."""
    config = tmp_path / "config.toml"
    config.write_text(f'extends = "{CONFIG}"\nsame_patient = [["volume-000", "volume-001"]]\n')
    output = refused(
        "train", str(config), "--data", str(write_slices()), "--split", "train",
        "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert output == (
        "expected each patient on one side, found volume-001 held out and volume-000 in training"
    )
    assert not (tmp_path / "run").exists()


def test_no_device_is_not_enough() -> None:
    """Zero devices would be several."""
    result = CliRunner().invoke(
        app, ["train", CONFIG, "--data", ".", "--out", "x", "--device-count", "0"]
    )
    assert result.exit_code == 2
