"""Loss, network and run."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from service.volume import HounsfieldWindow
from training import train
from training.config import AugmentConfig, SamplingConfig, TrainingConfig
from training.data import LabelledSlice
from training.losses import CrossEntropyAndDice
from training.network import resnet50_unet

FILTERS = (4, 4, 4, 4, 4)


def one_hot(labels: list[list[int]]) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[np.array(labels)][None]


def loss(truth: np.ndarray, logits: np.ndarray) -> float:
    return float(ops.convert_to_numpy(CrossEntropyAndDice()(truth, logits)))


def test_loss_by_hand() -> None:
    """Uniform scores on one pixel each of liver and tumour: ln 3, and Dice of 1/3 against 1."""
    truth = one_hot([[0, 1, 2]])
    # p = 1/3 everywhere: overlap 1/3, sizes 1 and 1, Dice 2/3 / 2 = 1/3 for both structures.
    assert loss(truth, np.zeros_like(truth)) == pytest.approx(np.log(3) + 2 / 3, abs=1e-5)


def test_absent_class_has_no_dice_term() -> None:
    """Without tumour only the liver's Dice counts; without both only cross-entropy."""
    liver = one_hot([[0, 1, 1]])
    assert loss(liver, np.zeros_like(liver)) == pytest.approx(
        np.log(3) + 1 - 2 * (2 / 3) / 3, abs=1e-5
    )
    nothing = one_hot([[0, 0, 0]])
    assert loss(nothing, np.zeros_like(nothing)) == pytest.approx(np.log(3), abs=1e-5)
    assert loss(nothing, 50 * nothing) == pytest.approx(0, abs=1e-5)


def test_network_scores_every_pixel() -> None:
    """Float32 logits of the input's size, for any multiple of 32, with the same weights."""
    open_grid = resnet50_unet(None, 3, FILTERS)
    fixed = resnet50_unet(64, 3, FILTERS)
    fixed.set_weights(open_grid.get_weights())
    image = np.random.default_rng(0).random((1, 64, 64, 1), dtype=np.float32)
    scores = open_grid.predict_on_batch(image)
    assert scores.shape == (1, 64, 64, 3)
    assert scores.dtype == np.float32
    assert np.allclose(scores, fixed.predict_on_batch(image), atol=1e-4)


def tiny_network(grid: int | None, classes: int, *_: object) -> keras.Model:
    """Three layers, one of them with state of its own: a run does not care which network it is."""
    image = keras.Input((grid, grid, 1))
    x = keras.layers.Conv2D(4, 3, padding="same")(image)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(image, keras.layers.Conv2D(classes, 1)(x))


class Stopped(Exception):
    """The process ends here."""


def test_resumed_run_equals_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after its first epoch and started again, a run logs the same losses."""
    pixels = np.zeros((64, 64), np.uint8)
    pixels[10:40, 10:40] = 1
    pixels[20:25, 20:25] = 2
    monkeypatch.setattr(train, "resnet50_unet", tiny_network)
    monkeypatch.setattr(LabelledSlice, "hu", lambda _: (pixels * 50).astype(np.int16))
    monkeypatch.setattr(LabelledSlice, "labels", lambda _: pixels)
    slices = [LabelledSlice(tmp_path, "case", 0, "train", 900, 25)]
    config = TrainingConfig(
        name="tiny",
        window=HounsfieldWindow(lower_hu=-40, upper_hu=160),
        grid=32,
        decoder_filters=FILTERS,
        sampling=SamplingConfig(with_tumor=2, liver_only=0, without_liver=0),
        augment=AugmentConfig(),
        epochs=2,
        steps_per_epoch=2,
        warmup_steps=1,
    )
    train.train(config, slices, tmp_path / "unbroken", None)
    logged = train._log

    def stop_after_the_first(*arguments: object) -> None:
        logged(*arguments)  # type: ignore[arg-type]
        raise Stopped

    monkeypatch.setattr(train, "_log", stop_after_the_first)
    with pytest.raises(Stopped):
        train.train(config, slices, tmp_path / "broken", None)
    monkeypatch.setattr(train, "_log", logged)
    keras.backend.clear_session()
    train.train(config, slices, tmp_path / "broken", None)
    unbroken, broken = (losses(tmp_path / name) for name in ("unbroken", "broken"))
    assert len(unbroken) == 2
    assert broken == pytest.approx(unbroken, abs=1e-5)
    assert (tmp_path / "broken" / train.WEIGHTS_FILE).exists()


def losses(run: Path) -> list[float]:
    return [float(row.split(",")[1]) for row in (run / train.LOG_FILE).read_text().split()[1:]]
