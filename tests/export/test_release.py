"""The whole export of a run, with a tiny network in place of the run's."""

import csv
from pathlib import Path

import cv2
import keras
import numpy as np
import onnx
import pytest

from export import release as release_module
from export.fields import ContractFields
from export.onnx_graph import contract_of
from export.parity import check_self_test
from export.release import FLOAT32_FILE, release
from export.runners import onnx_runner
from service.phantom import abdomen_hu
from service.volume import HounsfieldWindow
from training.config import TrainingConfig
from training.data import SOURCE_WINDOW, LabelledSlice, by_case, read_manifest
from training.evaluate import evaluate, onnx_segmenter

CONTRACT_FILE = Path(__file__).parents[2] / "export/contracts/liver-tumor.toml"
WINDOW = HounsfieldWindow(lower_hu=-40, upper_hu=160)


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledSlice]:
    """Three cases of the synthetic abdomen as the slice folder holds them, one to validate on."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for case, split in (("volume-001", "train"), ("volume-002", "train"), ("volume-003", "val")):
        (folder / case).mkdir()
        scan = abdomen_hu(int(case[-1]), 3, 128).astype(np.float32)
        grey = np.clip((scan - SOURCE_WINDOW.lower_hu) / SOURCE_WINDOW.width_hu, 0, 1) * 255
        for index, image in enumerate(np.rint(grey).astype(np.uint8)):
            # Above 0.6 of the window the tiny network sees liver, above 0.88 tumour.
            labels = (image > 0.6 * 255).astype(np.uint8) + (image > 0.88 * 255).astype(np.uint8)
            cv2.imwrite(str(folder / case / f"{index:03d}.webp"), image)
            cv2.imwrite(str(folder / case / f"{index:03d}.png"), labels)
            rows.append([case, index, split, (labels >= 1).sum(), (labels == 2).sum()])
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["volume", "slice", "split", "liver_or_tumour_pixels", "tumour_pixels"])
        writer.writerows(rows)
    return read_manifest(folder)


def test_a_run_becomes_a_file_that_says_what_it_is(
    network: keras.Model,
    slices: list[LabelledSlice],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its validation and its self-test are those of the written int8 file itself."""
    config = TrainingConfig(name="tiny", window=WINDOW, grid=64)
    monkeypatch.setattr(release_module, "load_network", lambda run: (network, config))
    out = tmp_path / "models" / "tiny.onnx"
    release(tmp_path, slices, ContractFields.read(CONTRACT_FILE), out)

    contract = contract_of(onnx.load(out))
    assert (contract.precision, contract.grid, contract.window) == ("int8", 64, WINDOW)
    assert (contract.training_data.cases, contract.training_data.slices) == (2, 6)
    held_out = [item for item in slices if item.split == "val"]
    report = evaluate(onnx_segmenter(out), by_case(held_out))
    assert contract.validation.liver_dice_per_case == round(report.liver_dice, 4)
    assert contract.validation.per_case.keys() == {"volume-003"}
    found = check_self_test(onnx_runner(onnx.load(out)), contract.self_test)
    assert found == contract.self_test

    float32 = contract_of(onnx.load(tmp_path / FLOAT32_FILE))
    assert float32.precision == "float32"
    printed = capsys.readouterr().out
    assert "Keras and float32 ONNX" in printed
    assert "liver_dice" in printed
