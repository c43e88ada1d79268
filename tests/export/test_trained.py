"""Reading a run, and what cannot be exported."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from export.trained import NotExportable, read_run
from training.batches import CLASSES
from training.config import NetworkConfig, TrainingConfig
from training.data import Dataset
from training.network import build_network, finest
from training.run_folder import DamagedNetwork, RunFolder


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, config: TrainingConfig, data: Dataset
) -> RunFolder:
    """Finished, of two cases, learned with deep supervision in half precision."""
    supervised = config.network.model_copy(update={"deep_supervision": True})
    config = config.model_copy(update={"network": supervised, "precision": "mixed_bfloat16"})
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    folder.claim(config, data.split("train"))
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(config.precision)
    folder.save(finest(build_network(config.network, None, CLASSES)), folder.model_path)
    keras.config.set_dtype_policy("float32")
    return folder


def copied(run: RunFolder, path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_bytes((run.path / name).read_bytes())
    return path


@pytest.mark.parametrize("name", ["", "model.keras"])
def test_a_run_is_read_by_its_folder_or_its_network(run: RunFolder, name: str) -> None:
    """The same weights in float32, on the run's own grid."""
    trained = read_run(run.path / name)
    assert trained.network.input_shape == (None, 64, 64, 1)
    assert {layer.compute_dtype for layer in trained.network.layers} == {"float32"}
    kept = keras.models.load_model(run.model_path, compile=False)
    for one, other in zip(trained.network.get_weights(), kept.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (trained.cases, trained.slices) == (("volume-001", "volume-002"), 6)


def test_a_run_that_stopped_early_drew_fewer_slices(run: RunFolder, tmp_path: Path) -> None:
    """Those of the epochs in its log, not those of its plan of 18."""
    names = ("config.json", "data.json", "model.keras")
    stopped = RunFolder(copied(run, tmp_path / "run", *names))
    stopped.begin_log(0)
    for epoch in (1, 2, 3):
        stopped.log(epoch=epoch, loss=0.5, seconds=1.0)
    assert read_run(stopped.path).training_slices == 3 * 100 * 8  # of 8 slices a step
    assert read_run(run.path).training_slices == 18 * 100 * 8


def test_a_network_that_sees_neighbours_is_not_exported(run: RunFolder, tmp_path: Path) -> None:
    """The deployed graph sees one slice; the message says so instead of a shape that fails."""
    other = RunFolder(copied(run, tmp_path / "run", "data.json", "model.keras"))
    network = run.config().network.model_copy(update={"context": 3})
    seeing = run.config().model_copy(update={"network": network})
    other.config_path.write_text(seeing.model_dump_json())
    with pytest.raises(NotExportable, match="one slice at a time, found 3"):
        read_run(other.path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotExportable, match="found nothing"):
        read_run(tmp_path / "run")


@pytest.mark.parametrize("missing", ["config.json", "data.json", "model.keras"])
def test_a_file_of_the_run_is_missing(run: RunFolder, tmp_path: Path, missing: str) -> None:
    """The message names it, whether it is a description or the finished network."""
    names = {"config.json", "data.json", "model.keras"} - {missing}
    with pytest.raises(NotExportable, match=missing):
        read_run(copied(run, tmp_path / "run", *names))


def test_a_checkpoint_is_no_finished_network(run: RunFolder, tmp_path: Path) -> None:
    path = copied(run, tmp_path / "run", "config.json", "data.json", "model.keras")
    (path / "model.keras").rename(path / "checkpoint.keras")
    with pytest.raises(NotExportable, match=r"found checkpoint\.keras"):
        read_run(path / "checkpoint.keras")


def test_a_damaged_network(run: RunFolder, tmp_path: Path) -> None:
    path = copied(run, tmp_path / "run", "config.json", "data.json", "model.keras")
    whole = (path / "model.keras").read_bytes()
    (path / "model.keras").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedNetwork, match=r"model\.keras: expected a Keras model"):
        read_run(path)


def test_a_network_of_another_architecture(run: RunFolder, tmp_path: Path) -> None:
    """The configuration says U-Net++, the file holds a U-Net."""
    path = copied(run, tmp_path / "run", "config.json", "data.json", "model.keras")
    config = json.loads((path / "config.json").read_text())
    config["network"] = NetworkConfig(architecture="unet++", filters=(8, 8, 4)).model_dump()
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(NotExportable, match=r"\(unet\+\+ with filters 8-8-4\), found unet with"):
        read_run(path)


def test_data_without_a_case_of_the_run(run: RunFolder, data: Dataset) -> None:
    with pytest.raises(NotExportable, match=r"the data lacks volume-002$"):
        read_run(run.path).learned_from(data.only(["volume-001", "volume-003"]))


def test_other_data_of_the_same_names(run: RunFolder, data: Dataset) -> None:
    first, second, _ = data.cases
    changed = Dataset((first, type(second)(second.name, second.slices, "another")))
    with pytest.raises(NotExportable, match="the same names with other content"):
        read_run(run.path).learned_from(changed)


def test_held_out_are_the_cases_of_other_patients(
    run: RunFolder, data: Dataset, tmp_path: Path
) -> None:
    """A case of a patient that the run learned from is none, named in the run or not."""
    trained = read_run(run.path)
    assert [case.name for case in trained.never_saw(data).cases] == ["volume-003"]
    same = RunFolder(copied(run, tmp_path / "run", "data.json", "model.keras"))
    groups = (("volume-002", "volume-003", "volume-009"),)
    config = run.config().model_copy(update={"same_patient": groups})
    same.config_path.write_text(config.model_dump_json())
    trained = read_run(same.path)
    assert trained.never_saw(data).cases == ()
    assert trained.cases == ("volume-001", "volume-002")
    assert trained.known_cases == ("volume-001", "volume-002", "volume-003", "volume-009")
