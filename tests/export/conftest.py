"""One tiny network, converted once: ResNet-50's graph alone takes tf2onnx a minute."""

import csv
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")

import cv2
import keras
import numpy as np
from conftest import ROOT
from keras import layers
from onnx import ModelProto

from export.convert import deployed, for_export, to_onnx
from export.fields import ContractFields
from export.measure import CaseDice, DiceReport
from export.onnx_graph import with_contract
from export.parity import phantom_scans, self_test
from export.quantize import quantize
from export.runners import onnx_runner
from export.signature import Preprocessing, Signature
from export.trained import Trained
from service.inference.contract import ModelContract
from service.phantom import abdomen_hu
from service.volume import HounsfieldWindow
from training.config import NetworkConfig, TrainingConfig
from training.data import Dataset, open_dataset

GRID = 64
WINDOW = HounsfieldWindow(lower_hu=-40, upper_hu=160)


def tiny_unet() -> keras.Model:
    """Every kind of layer that the real network has, at random but for its own seed."""
    keras.utils.set_random_seed(5)
    image = keras.Input((GRID, GRID, 1))
    x = layers.Concatenate()([image, image, image])
    x = layers.Rescaling(255.0, [-104.0, -117.0, -124.0])(x)
    x = layers.ZeroPadding2D(3)(x)
    x = layers.Conv2D(8, 7, strides=2)(x)
    skip = _norm_relu(x)
    x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(skip))
    y = _norm_relu(layers.Conv2D(8, 3, padding="same")(x))
    y = layers.BatchNormalization()(layers.Conv2D(8, 1)(y))
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Concatenate()([layers.UpSampling2D(2)(x), skip])
    x = _norm_relu(layers.Conv2D(8, 3, padding="same", use_bias=False)(x))
    x = layers.UpSampling2D(2)(x)
    x = _norm_relu(layers.Conv2D(8, 3, padding="same", use_bias=False)(x))
    scores = layers.Conv2D(3, 1)
    network = keras.Model(image, scores(layers.Concatenate()([x, image])))
    _randomise_norms(network)
    _decide_by_grey_value(scores)
    return network


def _norm_relu(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.ReLU()(layers.BatchNormalization()(x))


def _randomise_norms(network: keras.Model) -> None:
    """Fresh batch norms would change nothing, so folding them wrongly would not show."""
    rng = np.random.default_rng(5)
    norms = [layer for layer in network.layers if isinstance(layer, layers.BatchNormalization)]
    for index, layer in enumerate(norms):
        size = layer.gamma.shape
        low, high = ((0.5, -0.5, -0.5, 0.5), (1.5, 0.5, 0.5, 2.0))
        weights = [rng.uniform(a, b, size) for a, b in zip(low, high, strict=True)]
        if index == 0:
            weights[-1] *= 5000  # the variance behind the first convolution, of values up to 151
        layer.set_weights(weights)


def _decide_by_grey_value(scores: layers.Conv2D) -> None:
    """Liver above 0.6 of the window, tumour above 0.88, a little moved by all the rest.

    With random scores every rounding would move many labels.
    """
    kernel, _ = scores.get_weights()
    kernel[..., :-1, :] *= 0.05
    kernel[..., -1, :] = (0, 10, 40)
    scores.set_weights([kernel, np.array([0, -6, -32.4])])


@pytest.fixture(scope="session")
def network() -> keras.Model:
    return tiny_unet()


@pytest.fixture(scope="session")
def preprocessing() -> Preprocessing:
    return Preprocessing(GRID, WINDOW)


@pytest.fixture(scope="session")
def config() -> TrainingConfig:
    network = NetworkConfig(architecture="unet", filters=(8, 8, 4))
    return TrainingConfig(name="tiny", window=WINDOW, grid=GRID, network=network)


@pytest.fixture(scope="session")
def trained(network: keras.Model, config: TrainingConfig) -> Trained:
    cases = ("volume-001", "volume-002")
    return Trained(network, config, cases, cases, 6, "0" * 64, 2400)


@pytest.fixture(scope="session")
def fields() -> ContractFields:
    return ContractFields.read(ROOT / "export/contracts/phantom.toml")


@pytest.fixture(scope="session")
def converted(network: keras.Model, preprocessing: Preprocessing) -> ModelProto:
    """With the output of chances."""
    return to_onnx(Signature(for_export(network), preprocessing))


@pytest.fixture(scope="session")
def float32(converted: ModelProto) -> ModelProto:
    return deployed(converted)


@pytest.fixture(scope="session")
def contract(float32: ModelProto, trained: Trained, fields: ContractFields) -> ModelContract:
    report = DiceReport((CaseDice("volume-001", 0.9, 0.5), CaseDice("volume-002", 0.8, None)))
    expected = self_test(onnx_runner(float32), seed=7, size=64, slices=2, tolerance=0.05)
    return fields.contract(trained, report.validation("by hand"), expected, "int8")


@pytest.fixture(scope="session")
def int8(float32: ModelProto, contract: ModelContract) -> ModelProto:
    """Calibrated on slices of the synthetic abdomen."""
    slices = [hu for scan in phantom_scans(2) for hu in scan]
    return with_contract(quantize(float32, slices), contract)


@pytest.fixture(scope="session")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of slices: the synthetic abdomen as three cases, two to train on, one held out.

    What the tiny network sees as liver and tumour is labelled so: above 0.6 and 0.88 of the window.
    """
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for case, split in (("volume-001", "train"), ("volume-002", "train"), ("volume-003", "val")):
        (folder / case).mkdir()
        scan = abdomen_hu(int(case[-1]), 3, 128).astype(np.float32)
        grey = np.clip((scan - WINDOW.lower_hu) / WINDOW.width_hu, 0, 1) * 255
        for index, image in enumerate(np.rint(grey).astype(np.uint8)):
            labels = (image > 0.6 * 255).astype(np.uint8) + (image > 0.88 * 255).astype(np.uint8)
            cv2.imwrite(str(folder / case / f"{index:03d}.webp"), image)
            cv2.imwrite(str(folder / case / f"{index:03d}.png"), labels)
            rows.append([case, index, split, (labels >= 1).sum(), (labels == 2).sum()])
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["volume", "slice", "split", "liver_or_tumour_pixels", "tumour_pixels"])
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="session")
def data(slices: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(slices, tmp_path_factory.mktemp("prepared"))
