"""Every architecture of the comparison exports."""

from collections import Counter

import keras
import pytest
from keras import layers

from export.convert import deployed, for_export, to_onnx
from export.keras_parity import drift
from export.onnx_graph import network_nodes
from export.parity import phantom_scans
from export.quantize import quantize
from export.runners import onnx_runner
from export.signature import Preprocessing, Signature
from service.phantom import abdomen_hu
from service.volume import HounsfieldWindow
from training import network as networks
from training.batches import CLASSES
from training.config import Architecture, NetworkConfig
from training.predict import NetworkPredictor

WINDOW = HounsfieldWindow(lower_hu=-40, upper_hu=160)
FILTERS: dict[Architecture, tuple[int, ...]] = {
    "resnet50_unet": (8, 8, 8, 4, 4),
    "resnet50_fpn": (8, 8),
    "unet": (8, 8, 4),
    "unet++": (8, 8, 4),
}


def small_encoder(image: keras.KerasTensor, weights: None) -> keras.Model:
    """A convolution a level under ResNet-50's names: its own graph takes tf2onnx a minute."""
    x = image
    for name in (*networks.ENCODER_SKIPS, "conv5_block3_out"):
        x = layers.Conv2D(4, 3, strides=2, padding="same")(x)
        x = layers.ReLU(name=name)(x)
    return keras.Model(image, x)


@pytest.mark.parametrize("architecture", list(FILTERS))
def test_every_architecture_exports(
    architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Float32 as Keras has it, then int8 with its doublings as copies."""
    monkeypatch.setattr(networks, "_resnet50", small_encoder)
    keras.utils.set_random_seed(3)
    config = NetworkConfig(architecture=architecture, filters=FILTERS[architecture])
    network = networks.build_network(config, 64, CLASSES)
    doublings = sum(isinstance(layer, layers.UpSampling2D) for layer in network.layers)

    converted = to_onnx(Signature(for_export(network), Preprocessing(64, WINDOW)))
    scans = [abdomen_hu(1, 2, 97), *phantom_scans(1)[:2]]
    drift(NetworkPredictor(network, 64, WINDOW), converted, scans).check()
    float32 = deployed(converted)
    assert Counter(node.op_type for node in network_nodes(float32))["Resize"] == doublings

    int8 = quantize(float32, (hu for scan in scans for hu in scan))
    assert not any(node.op_type == "Resize" for node in int8.graph.node)
    difference = onnx_runner(int8)(scans[0]).tumor_probability.astype(int)
    difference -= onnx_runner(float32)(scans[0]).tumor_probability
    assert abs(difference).max() <= 4  # of 255: random weights give even chances everywhere
