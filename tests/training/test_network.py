"""Every network scores every pixel; losses are as written down."""

from pathlib import Path
from typing import get_args

import keras
import numpy as np
import pytest
from keras import ops
from tiny_training import TINY_FILTERS

from training.config import Architecture, LossConfig, NetworkConfig
from training.losses import CrossEntropyAndOverlap
from training.network import build_network, finest

ARCHITECTURES = get_args(Architecture)


def config(architecture: Architecture, **changes: object) -> NetworkConfig:
    filters = TINY_FILTERS[architecture]
    return NetworkConfig.model_validate(
        {"architecture": architecture, "filters": filters, **changes}
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_network_scores_every_pixel(architecture: Architecture) -> None:
    """Float32 logits of the input's size, for any multiple of 32, with the same weights."""
    open_grid = build_network(config(architecture), None, 3)
    fixed = build_network(config(architecture), 64, 3)
    fixed.set_weights(open_grid.get_weights())
    image = np.random.default_rng(0).random((1, 64, 64, 1), dtype=np.float32)
    scores = np.asarray(open_grid.predict_on_batch(image))
    assert scores.shape == (1, 64, 64, 3)
    assert scores.dtype == np.float32
    # The same sums in the order that each graph's kernels take.
    assert np.allclose(scores, fixed.predict_on_batch(image), atol=1e-4)


@pytest.mark.parametrize("architecture", ["resnet50_unet", "unet", "unet++"])
def test_deep_supervision_only_adds_scores(architecture: Architecture) -> None:
    """Coarser stages score at the input's size while learning; the finest is left for use."""
    network = build_network(config(architecture, deep_supervision=True), 32, 3)
    assert len(network.outputs) >= 2
    assert {tuple(output.shape) for output in network.outputs} == {(None, 32, 32, 3)}
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = build_network(config(architecture, deep_supervision=True), 32, 3)
    finally:
        keras.config.set_dtype_policy("float32")
    assert {output.dtype for output in half.outputs} == {"float32"}
    left = finest(network)
    assert len(left.outputs) == 1
    image = np.random.default_rng(0).random((1, 32, 32, 1), dtype=np.float32)
    first = network.predict_on_batch(image)[0]
    assert np.allclose(first, left.predict_on_batch(image), atol=1e-5)


def test_encoder_weights_are_read_and_refused_elsewhere(tmp_path: Path) -> None:
    """A network without ResNet-50 says so; one with it starts from the file."""
    encoder = keras.applications.ResNet50(include_top=False, weights=None)
    encoder.save_weights(tmp_path / "encoder.weights.h5")
    network = build_network(config("resnet50_fpn"), 32, 3, tmp_path / "encoder.weights.h5")
    kernel = network.get_layer("conv3_block2_2_conv").get_weights()[0]
    assert np.array_equal(kernel, encoder.get_layer("conv3_block2_2_conv").get_weights()[0])
    with pytest.raises(ValueError, match="without ResNet-50"):
        build_network(config("unet"), 32, 3, tmp_path / "encoder.weights.h5")
    (tmp_path / "other.h5").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"other\.h5: expected weights of keras\.applications"):
        build_network(config("resnet50_fpn"), 32, 3, tmp_path / "other.h5")


def test_wrong_number_of_filters_is_refused() -> None:
    """A decoder has as many stages as its encoder."""
    with pytest.raises(ValueError, match="expected 5 numbers of filters, found 2"):
        build_network(NetworkConfig(filters=(8, 4)), 32, 3)


def test_three_slices_take_the_place_of_the_colours() -> None:
    """With the same encoder; a plain U-Net takes any number of slices, a ResNet-50 no other."""
    seeing = config("resnet50_unet").model_copy(update={"context": 3})
    network, alone = build_network(seeing, 32, 3), build_network(config("resnet50_unet"), 32, 3)
    assert network.input_shape == (None, 32, 32, 3)
    assert [w.shape for w in network.weights] == [w.shape for w in alone.weights]
    network.set_weights(alone.get_weights())
    image = np.random.default_rng(1).random((1, 32, 32, 1), dtype=np.float32)
    same = network.predict_on_batch(np.repeat(image, 3, axis=-1))
    np.testing.assert_allclose(same, alone.predict_on_batch(image), atol=1e-5)
    assert build_network(config("unet").model_copy(update={"context": 5}), 32, 3)
    with pytest.raises(ValueError, match="1 or 3 slices"):
        build_network(seeing.model_copy(update={"context": 5}), 32, 3)


def one_hot(labels: list[list[int]]) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[np.array(labels)][None]


def loss(truth: np.ndarray, logits: np.ndarray, **settings: float) -> float:
    made = CrossEntropyAndOverlap.of(LossConfig.model_validate(settings))
    return float(ops.convert_to_numpy(made(truth, logits)))


def test_loss_by_hand() -> None:
    """Uniform scores on one pixel each of liver and tumour: ln 3, and Dice of 1/3 against 1."""
    truth = one_hot([[0, 1, 2]])
    # p = 1/3 everywhere: overlap 1/3, sizes 1 and 1, Dice 2/3 / 2 = 1/3 for both structures.
    assert loss(truth, np.zeros_like(truth)) == pytest.approx(np.log(3) + 2 / 3, abs=1e-5)


def test_missed_pixels_cost_more_where_asked() -> None:
    """Two pixels of tumour, a third of each found: overlap 2/3, missed 4/3, false 2/3."""
    truth = one_hot([[0, 0, 2, 2]])
    index = (2 / 3) / (2 / 3 + 0.8 * 4 / 3 + 0.2 * 2 / 3)
    found = loss(truth, np.zeros_like(truth), miss=0.8)
    assert found == pytest.approx(np.log(3) + 1 - index, abs=1e-5)


def test_focus_looks_away_from_what_is_right() -> None:
    """The cross-entropy of a pixel counts by how far it is from right, to the power asked for."""
    truth = one_hot([[0, 0]])
    focused = loss(truth, np.zeros_like(truth), focus=2)
    assert focused == pytest.approx((2 / 3) ** 2 * np.log(3), abs=1e-5)


def test_tumour_weighs_as_asked() -> None:
    """The overlap term is a weighted mean of liver and tumour."""
    truth = one_hot([[0, 1, 2, 2]])
    # p = 1/3: liver 2/3 / (4/3 + 1), tumour 4/3 / (4/3 + 2).
    liver, tumor = 1 - (2 / 3) / (4 / 3 + 1), 1 - (4 / 3) / (4 / 3 + 2)
    expected = np.log(3) + (liver + 3 * tumor) / 4
    found = loss(truth, np.zeros_like(truth), tumor_weight=3)
    assert found == pytest.approx(expected, abs=1e-5)


def test_absent_class_has_no_overlap_term() -> None:
    """Without tumour only the liver counts; without both only cross-entropy."""
    liver = one_hot([[0, 1, 1]])
    assert loss(liver, np.zeros_like(liver)) == pytest.approx(
        np.log(3) + 1 - 2 * (2 / 3) / 3, abs=1e-5
    )
    nothing = one_hot([[0, 0, 0]])
    assert loss(nothing, np.zeros_like(nothing)) == pytest.approx(np.log(3), abs=1e-5)
    assert loss(nothing, 50 * nothing) == pytest.approx(0, abs=1e-5)


def test_loss_survives_saving() -> None:
    """A checkpoint goes on with the same settings."""
    made = CrossEntropyAndOverlap(miss=0.7, focus=1.0, tumor_weight=2.0)
    again = CrossEntropyAndOverlap.from_config(made.get_config())
    assert (again.miss, again.focus, again.tumor_weight) == (0.7, 1.0, 2.0)
