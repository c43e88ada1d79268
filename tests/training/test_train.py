"""A run leaves a network, a log and what it was made of, and can be stopped at any time."""

import errno
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tiny_training import tiny_config

from training.batches import EmptyKind
from training.config import TrainingConfig
from training.context import case_as_seen
from training.crossval import cross_validate
from training.data import Dataset
from training.losses import CrossEntropyAndOverlap
from training.network import build_network
from training.parallel import Devices
from training.predict import NetworkPredictor
from training.run_folder import (
    LOG_FIELDS,
    AnotherRun,
    DamagedNetwork,
    RunFolder,
    RunGoesOn,
    Start,
    UnknownStart,
)
from training.train import Diverged, _check_finite, new_model, train
from training.validate import Looks
from training.watch import Watch


class Stopped(Exception):
    """The process ends here."""


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in RunFolder(run).logged()]


def weights(run: Path) -> list[np.ndarray]:
    network = keras.models.load_model(RunFolder(run).model_path, compile=False)
    return [np.asarray(weight) for weight in network.weights]


@pytest.mark.usefixtures("compiled")
def test_resumed_run_equals_an_unbroken_one(
    tmp_path: Path, phantoms: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in its second epoch and started again: the same losses, the same weights.

    With averaged weights, which have a state of their own.
    """
    config = tiny_config(optimizer={"warmup_steps": 1, "ema": 0.9})
    train(config, phantoms, tmp_path / "unbroken")
    steps = 0

    def stop_in_the_second_epoch(self: Watch, loss: float) -> None:
        nonlocal steps
        steps += 1
        if steps == config.steps_per_epoch + 1:
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Watch, "step", stop_in_the_second_epoch)
        with pytest.raises(Stopped):
            train(config, phantoms, tmp_path / "broken")
    assert len(losses(tmp_path / "broken")) == 1
    keras.backend.clear_session()
    train(config, phantoms, tmp_path / "broken")
    assert losses(tmp_path / "broken") == pytest.approx(losses(tmp_path / "unbroken"), abs=1e-5)
    for one, other in zip(
        weights(tmp_path / "unbroken"), weights(tmp_path / "broken"), strict=True
    ):
        # Sums of several threads come in any order.
        assert np.allclose(one, other, atol=1e-4)


@pytest.mark.usefixtures("compiled")
def test_a_run_learns(tmp_path: Path, phantoms: Dataset) -> None:
    """On phantoms, whose liver is a grey of its own, the loss falls and the liver is found."""
    network = {"architecture": "unet", "filters": (16, 8, 8), "norm_momentum": 0.9}
    fast = {"learning_rate": 0.01, "warmup_steps": 1}
    config = tiny_config(network=network, epochs=4, steps_per_epoch=25, optimizer=fast)
    train(config, phantoms, tmp_path)
    logged = losses(tmp_path)
    assert logged[-1] < 0.7 * logged[0]
    network = keras.models.load_model(RunFolder(tmp_path).model_path, compile=False)
    case = phantoms.cases[0]
    predict = NetworkPredictor(network, config.grid, config.window)
    found = predict(case_as_seen(case, config)).labels > 0
    truth = case.labels() > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.6


def test_run_folder_says_what_was_trained(tmp_path: Path, phantoms: Dataset) -> None:
    """Configuration, data hash, cases, log and TensorBoard; the network has one output and no
    optimiser.
    """
    config = tiny_config(epochs=1)
    train(config, phantoms, tmp_path)
    folder = RunFolder(tmp_path)
    assert folder.config() == config
    assert folder.data()["sha256"] == phantoms.sha256
    assert folder.data()["cases"] == [f"volume-{number}" for number in range(5)]
    assert list(folder.tensorboard_path.glob("events*"))
    network = keras.models.load_model(folder.model_path)
    assert len(network.outputs) == 1
    assert not network.compiled


def test_a_finished_run_is_left_alone(tmp_path: Path, phantoms: Dataset) -> None:
    """Asked again, nothing is trained and nothing changes."""
    train(tiny_config(epochs=1), phantoms, tmp_path)
    before = RunFolder(tmp_path).model_path.stat().st_mtime_ns
    train(tiny_config(epochs=1), phantoms, tmp_path)
    assert RunFolder(tmp_path).model_path.stat().st_mtime_ns == before


@pytest.mark.parametrize("what", ["configuration", "training data"])
def test_another_run_in_the_folder_is_refused(tmp_path: Path, phantoms: Dataset, what: str) -> None:
    """Other settings, or other cases, never go on in a run's folder."""
    folder = RunFolder(tmp_path)
    folder.claim(tiny_config(), phantoms)
    config = tiny_config(seed=2) if what == "configuration" else tiny_config()
    data = phantoms if what == "configuration" else phantoms.only({"volume-0"})
    with pytest.raises(AnotherRun, match=f"a run of this {what}"):
        train(config, data, tmp_path)
    assert json.loads(folder.config_path.read_text())["seed"] == 1


def test_first_weights_are_those_of_the_same_network(tmp_path: Path, phantoms: Dataset) -> None:
    """A run starts from an earlier one's network, and refuses one of another size."""
    config = tiny_config(epochs=1)
    train(config, phantoms, tmp_path / "first")
    first = RunFolder(tmp_path / "first").model_path
    slow = {"learning_rate": 1e-12, "warmup_steps": 0, "weight_decay": 0}
    train(tiny_config(epochs=1, optimizer=slow), phantoms, tmp_path / "next", Start(network=first))
    kernels = [weight for weight in weights(tmp_path / "first") if weight.ndim == 4]
    for one, other in zip(
        kernels, [w for w in weights(tmp_path / "next") if w.ndim == 4], strict=True
    ):
        assert np.allclose(one, other, atol=1e-6)
    wider = tiny_config(network={"architecture": "unet", "filters": (16, 8, 4)})
    with pytest.raises(ValueError, match="expected weights of a unet of this size, found unet"):
        train(wider, phantoms, tmp_path / "wider", Start(network=first))


def test_deep_supervision_starts_from_what_it_left(tmp_path: Path, phantoms: Dataset) -> None:
    """A finished network has no scores of coarser stages; another run may add them again."""
    supervised = {"architecture": "unet", "filters": (8, 4, 4), "deep_supervision": True}
    config = tiny_config(epochs=1, network=supervised)
    train(config, phantoms, tmp_path / "first")
    first = RunFolder(tmp_path / "first").model_path
    train(config, phantoms, tmp_path / "next", Start(network=first))
    assert RunFolder(tmp_path / "next").finished


def test_a_run_of_another_start_is_refused(tmp_path: Path, phantoms: Dataset) -> None:
    """Weights that a run began with belong to it, by their content."""
    folder, config = RunFolder(tmp_path / "run"), tiny_config(epochs=1)
    weights = [tmp_path / name for name in ("a.h5", "same.h5", "b.h5")]
    for path, content in zip(weights, (b"a", b"a", b"b"), strict=True):
        path.write_bytes(content)
    folder.claim(config, phantoms, Start(weights[0]))
    folder.claim(config, phantoms, Start(weights[1]))
    for other in (weights[2], None):
        with pytest.raises(AnotherRun, match=r"of this start, .* \(encoder_weights_sha256\)"):
            folder.claim(config, phantoms, Start(other))


def test_what_a_network_started_from_stays_known(tmp_path: Path, phantoms: Dataset) -> None:
    """Cases that an earlier run learned from or was chosen on are no new ones to the next."""
    earlier, later = RunFolder(tmp_path / "earlier"), RunFolder(tmp_path / "later")
    looking = tiny_config(epochs=1, validation={"every_epochs": 1})
    train(looking, phantoms.only({"volume-0"}), earlier.path, held_out=phantoms.only({"volume-1"}))
    assert earlier.known_cases() == ("volume-0", "volume-1")
    start = Start(network=earlier.model_path)
    train(tiny_config(epochs=1), phantoms.only({"volume-2"}), later.path, start)
    assert later.known_cases() == ("volume-0", "volume-1", "volume-2")
    assert later.data()["cases"] == ["volume-2"]
    assert later.training_slices() == 2 * earlier.training_slices() == 8
    earlier.data_path.unlink()
    with pytest.raises(UnknownStart, match=r"expected data\.json and config\.json beside model"):
        later.claim(tiny_config(epochs=1), phantoms.only({"volume-2"}), start)


def test_looks_that_choose_nothing_leave_cases_unknown(tmp_path: Path, phantoms: Dataset) -> None:
    """A fold looks at the cases that it is measured on, and none of its weights depend on them."""
    looking = tiny_config(epochs=1, validation={"every_epochs": 1})
    others = phantoms.only({"volume-1"})
    train(looking, phantoms.only({"volume-0"}), tmp_path, held_out=others, choose=False)
    assert RunFolder(tmp_path).known_cases() == ("volume-0",)


def test_a_start_that_fails_leaves_no_run(tmp_path: Path, phantoms: Dataset) -> None:
    """The mended command finds an empty folder."""
    encoder = tmp_path / "encoder.weights.h5"
    encoder.write_bytes(b"")
    for run in (
        lambda: train(tiny_config(), phantoms, tmp_path / "run", Start(encoder)),
        lambda: cross_validate(tiny_config(), phantoms, tmp_path / "cv", 2, start=Start(encoder)),
    ):
        with pytest.raises(ValueError, match="without ResNet-50"):
            run()
    assert not any(path.name.endswith(".json") for path in tmp_path.rglob("*"))


def test_a_run_from_before_a_setting_came_up_goes_on(tmp_path: Path, phantoms: Dataset) -> None:
    """It is the run that today's default describes, and no other."""
    folder, config = RunFolder(tmp_path), tiny_config()
    folder.claim(config, phantoms)
    earlier = json.loads(folder.config_path.read_text())
    del earlier["neighbours"]
    folder.config_path.write_text(json.dumps(earlier))
    folder.claim(config, phantoms)
    with pytest.raises(AnotherRun, match=r"found another \(neighbours\)"):
        folder.claim(tiny_config(neighbours={"step": 2}), phantoms)


def test_two_processes_never_share_a_folder(tmp_path: Path, phantoms: Dataset) -> None:
    """They would overwrite each other's checkpoints; when the first has ended, there is room."""
    with (
        RunFolder(tmp_path).alone(),
        pytest.raises(RunGoesOn, match="expected no other process at work there, found one"),
    ):
        train(tiny_config(epochs=1), phantoms, tmp_path)
    train(tiny_config(epochs=1), phantoms, tmp_path)


def test_looks_keep_the_best_and_stop_early(
    tmp_path: Path, phantoms: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose held-out Dice no longer rises ends, and leaves the network of the best look."""
    seen: list[dict[str, float]] = [
        {"liver_dice": 0.5, "tumor_dice": dice} for dice in (0.1, 0.3, 0.2, 0.25, 0.9)
    ]
    kept: list[Any] = []

    def look(config: TrainingConfig, model: keras.Model, data: Dataset) -> dict[str, float]:
        kept.append(np.array(model.weights[0]))
        return seen[len(kept) - 1]

    monkeypatch.setattr("training.validate.mean_dice", look)
    validation = {"every_epochs": 1, "patience": 2}
    fast = {"learning_rate": 0.01, "warmup_steps": 1}
    config = tiny_config(epochs=5, validation=validation, optimizer=fast)
    train(config, phantoms.only({"volume-0"}), tmp_path, held_out=phantoms.only({"volume-1"}))
    assert [line["tumor_dice"] for line in RunFolder(tmp_path).logged()] == [0.1, 0.3, 0.2, 0.25]
    assert np.array_equal(weights(tmp_path)[0], kept[1])
    assert not np.array_equal(kept[1], kept[3])


def test_averaged_weights_are_what_is_kept(tmp_path: Path, phantoms: Dataset) -> None:
    """With a momentum near 1 the average stays near the first step, from which the last moved on.

    Keras starts the average with the weights after the first step.
    """
    fast = {"learning_rate": 0.02, "warmup_steps": 0}
    for name, steps, ema in (("average", 6, 0.999), ("last", 6, None), ("first", 1, None)):
        config = tiny_config(epochs=1, steps_per_epoch=steps, optimizer={**fast, "ema": ema})
        train(config, phantoms, tmp_path / name)
    first, average, last = (weights(tmp_path / n)[0] for n in ("first", "average", "last"))
    assert np.abs(average - first).max() < 0.1 * np.abs(last - first).max()


def test_one_device_is_the_default() -> None:
    """Without a wish there is nothing to set up."""
    assert type(Devices.one()) is Devices


@pytest.mark.usefixtures("compiled")  # the model that is read back is compiled as it was
def test_an_epoch_done_twice_is_logged_once(
    tmp_path: Path, phantoms: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between an epoch's line and its checkpoint: its look does not count twice either.

    With a patience of 1 a second, equal look would end the run.
    """
    dices = iter([0.1, 0.2, 0.2, 0.3])
    monkeypatch.setattr(
        "training.validate.mean_dice", lambda *_: {"liver_dice": 0.5, "tumor_dice": next(dices)}
    )
    config = tiny_config(epochs=3, validation={"every_epochs": 1, "patience": 1})
    own, others = phantoms.only({"volume-0"}), phantoms.only({"volume-1"})
    save = RunFolder.save

    def stop_before_the_second_checkpoint(self: RunFolder, model: keras.Model, path: Path) -> None:
        if path == self.checkpoint_path and path.exists():
            raise Stopped
        save(self, model, path)

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "save", stop_before_the_second_checkpoint)
        with pytest.raises(Stopped):
            train(config, own, tmp_path, held_out=others)
    with RunFolder(tmp_path).log_path.open("a") as file:
        file.write("2,0.")  # as a full disk leaves it
    train(config, own, tmp_path, held_out=others)
    logged = RunFolder(tmp_path).logged()
    assert [line["epoch"] for line in logged] == [0, 1, 2]
    assert [line["tumor_dice"] for line in logged] == [0.1, 0.2, 0.3]


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, phantoms: Dataset) -> None:
    """One of another network under this run's configuration, and a damaged one."""
    config, folder = tiny_config(), RunFolder(tmp_path)
    folder.claim(config, phantoms)
    wider = config.network.model_copy(update={"filters": (8, 8)})
    build_network(wider, None, 3).save(folder.checkpoint_path)
    with pytest.raises(ValueError, match=r"expected a checkpoint of unet \(8, 4\), found another"):
        train(config, phantoms, tmp_path)
    folder.checkpoint_path.write_bytes(folder.checkpoint_path.read_bytes()[:2000])
    with pytest.raises(DamagedNetwork, match="expected a Keras model, found a damaged file"):
        train(config, phantoms, tmp_path)


def test_a_full_disk_leaves_the_settings(
    tmp_path: Path, phantoms: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not lost by being written again."""
    folder = RunFolder(tmp_path)
    folder.claim(tiny_config(), phantoms)
    folder.log_path.write_text("epoch,loss\n0,0.5\n")

    def full(self: Path, data: bytes) -> int:
        self.open("w").close()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    folder.claim(tiny_config(), phantoms)
    with pytest.raises(OSError, match="No space left"):
        folder.begin_log(0)
    assert folder.config() == tiny_config()
    assert len(folder.logged()) == 1


def test_a_loss_that_is_no_number_ends_the_run(
    tmp_path: Path, phantoms: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of the epoch before stays."""
    found = iter([1.0, 1.0, 1.0, float("nan")])
    monkeypatch.setattr(Devices, "step", lambda *_: next(found))
    monkeypatch.setattr(RunFolder, "save", lambda _, __, path: path.touch())
    with pytest.raises(Diverged, match="epoch 2: expected finite numbers, found a loss of nan"):
        train(tiny_config(), phantoms, tmp_path)
    assert [line["epoch"] for line in RunFolder(tmp_path).logged()] == [0]


def test_cases_without_what_a_batch_needs_claim_no_folder(
    tmp_path: Path, phantoms: Dataset
) -> None:
    """So that the settings can be mended, and the same folder used."""
    with pytest.raises(EmptyKind, match="expected slices with tumour"):
        train(tiny_config(), phantoms.only({"volume-3"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_looks_without_tumour_go_by_the_liver(
    tmp_path: Path, phantoms: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that finds nothing is no better than a later one that finds the liver."""
    config = tiny_config(epochs=1, validation={"every_epochs": 1})
    train(config, phantoms.only({"volume-0"}), tmp_path / "a", held_out=phantoms.only({"volume-3"}))
    (line,) = RunFolder(tmp_path / "a").logged()
    assert "liver_dice" in line
    assert "tumor_dice" not in line

    for tumor in ({}, {"tumor_dice": 0.0}):
        livers, kept = iter((0.1, 0.0, 0.8)), []

        def look(*_: object, tumor: dict[str, float] = tumor, livers: Any = livers) -> Any:
            return {"liver_dice": next(livers), **tumor}

        def save(_: RunFolder, __: keras.Model, path: Path, kept: list[str] = kept) -> None:
            kept.append(path.name)

        monkeypatch.setattr("training.validate.mean_dice", look)
        monkeypatch.setattr(RunFolder, "save", save)
        looks = Looks(config, RunFolder(tmp_path / "b"), phantoms)
        model = new_model(config, Start())
        for epoch in range(3):
            looks.after(epoch, model)
        assert kept == ["best.keras", "best.keras"]


def test_a_look_is_with_the_averaged_weights(
    tmp_path: Path, phantoms: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With those that are kept in the end."""
    looked: list[np.ndarray] = []

    def look(_: TrainingConfig, network: keras.Model, __: Dataset) -> dict[str, float]:
        looked.append(np.array(network.weights[0]))
        return {"liver_dice": 0.5}

    monkeypatch.setattr("training.validate.mean_dice", look)
    fast = {"learning_rate": 0.02, "warmup_steps": 0, "ema": 0.9}
    config = tiny_config(epochs=1, optimizer=fast, validation={"every_epochs": 1})
    train(config, phantoms, tmp_path, held_out=phantoms.only({"volume-1"}), choose=False)
    assert np.array_equal(looked[0], weights(tmp_path)[0])


def test_a_disk_full_at_the_first_line_costs_no_log(
    tmp_path: Path, phantoms: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that goes on has its header, wherever the writing stopped."""

    def full(self: RunFolder, **_: float) -> None:
        with self.log_path.open("a") as file:
            file.write("0,1.")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "log", full)
        with pytest.raises(OSError, match="No space left"):
            train(tiny_config(), phantoms, tmp_path)
    for damaged in (None, "", "epoch,lo"):
        if damaged is not None:
            RunFolder(tmp_path).log_path.write_text(damaged)
        RunFolder(tmp_path).begin_log(0)
        assert RunFolder(tmp_path).log_path.read_text() == ",".join(LOG_FIELDS) + "\n"
    train(tiny_config(), phantoms, tmp_path)
    assert [line["epoch"] for line in RunFolder(tmp_path).logged()] == [0, 1]
    assert RunFolder(tmp_path).training_slices() == 8


def test_half_a_checkpoint_takes_no_room(
    tmp_path: Path, phantoms: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk it would keep the disk full."""

    def full(_: keras.Model, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(OSError, match="No space left"):
        train(tiny_config(), phantoms, tmp_path)
    assert not list(tmp_path.glob("*.keras"))


def test_weights_that_are_no_numbers_are_no_checkpoint(tmp_path: Path, phantoms: Dataset) -> None:
    """The last step's loss is of the weights before it."""
    config = tiny_config(epochs=1, steps_per_epoch=1, optimizer={"warmup_steps": 0})
    model = new_model(config, Start())
    _check_finite(1.0, model, 0)
    model.weights[0].assign(np.full(model.weights[0].shape, np.inf, np.float32))
    with pytest.raises(Diverged, match="epoch 3: expected finite numbers, found weights of"):
        _check_finite(1.0, model, 2)
    wild = {"learning_rate": 1e38, "weight_decay": 10.0, "warmup_steps": 1}
    with pytest.raises(Diverged):
        train(tiny_config(optimizer=wild), phantoms, tmp_path)
    assert not RunFolder(tmp_path).checkpoint_path.exists()


def test_a_network_is_no_checkpoint(tmp_path: Path, phantoms: Dataset) -> None:
    """Without an optimiser there is nothing to go on with."""
    config, folder = tiny_config(), RunFolder(tmp_path)
    folder.claim(config, phantoms)
    build_network(config.network, None, 3).save(folder.checkpoint_path)
    with pytest.raises(ValueError, match="found a network without its optimiser"):
        train(config, phantoms, tmp_path)


@pytest.mark.parametrize("name", ["config.json", "data.json", "start.json"])
@pytest.mark.parametrize("content", ["", "null", "[1]", "{", '{"name": 3}'])
def test_what_a_run_notes_may_be_damaged(
    tmp_path: Path, phantoms: Dataset, name: str, content: str
) -> None:
    """The message names the file or the folder, in one line."""
    folder = RunFolder(tmp_path)
    folder.claim(tiny_config(), phantoms)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=tmp_path.name) as caught:
        train(tiny_config(), phantoms, tmp_path)
    assert "\n" not in str(caught.value)


def test_the_rate_rises_and_falls() -> None:
    """From a hundredth to the rate asked for, and along half a cosine to 0 at the last step."""
    settings = {"learning_rate": 0.1, "warmup_steps": 4, "weight_decay": 0.03, "ema": 0.5}
    config = tiny_config(epochs=3, steps_per_epoch=4, optimizer=settings)
    optimizer = new_model(config, Start()).optimizer
    rate = [float(keras.ops.convert_to_numpy(optimizer._learning_rate(step))) for step in range(13)]
    assert rate[0] == pytest.approx(0.001)
    assert rate[2] == pytest.approx((0.001 + 0.1) / 2)
    assert rate[4] == pytest.approx(0.1)
    assert rate[8] == pytest.approx(0.05)
    assert rate[12] == pytest.approx(0, abs=1e-8)
    assert (optimizer.weight_decay, optimizer.use_ema, optimizer.ema_momentum) == (0.03, True, 0.5)


def test_coarser_scores_count_half_of_the_next_finer_ones() -> None:
    """The loss of a network with deep supervision is 1, 1/2 and 1/4 of its stages' losses."""
    network = {"architecture": "unet", "filters": (8, 8, 4), "deep_supervision": True}
    model = new_model(tiny_config(network=network), Start())
    rng = np.random.default_rng(0)
    images = rng.random((2, 32, 32, 1), dtype=np.float32)
    classes = np.eye(3, dtype=np.float32)[rng.integers(0, 3, (2, 32, 32))]
    scores = model(images, training=False)
    own = CrossEntropyAndOverlap.of(tiny_config().loss)
    expected = sum(float(own(classes, score)) * 0.5**stage for stage, score in enumerate(scores))
    assert len(scores) == 2
    found = model.compute_loss(y=[classes] * 2, y_pred=scores)
    assert float(found) == pytest.approx(expected, rel=1e-5)
