"""The float32 graph beside the Keras network it was made from."""

import keras
import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from export.keras_parity import MAX_DRIFT, Drift, drift, hard_scans
from export.onnx_graph import network_nodes
from export.parity import ParityError
from export.signature import Preprocessing
from training.predict import NetworkPredictor


@pytest.fixture(scope="module")
def predictor(network: keras.Model, preprocessing: Preprocessing) -> NetworkPredictor:
    return NetworkPredictor(
        network, preprocessing.grid, preprocessing.window, preprocessing.thresholds
    )


def test_float32_answers_as_keras(predictor: NetworkPredictor, converted: ModelProto) -> None:
    """At odd sizes, in small and large batches, and for values from end to end of int16."""
    scans = hard_scans()
    assert {len(scan) for scan in scans} >= {1, 2, 24}
    assert {int(scan.min()) for scan in scans} >= {-32768, -1000, 32767}
    found = drift(predictor, converted, scans)
    found.check()
    assert found.largest_probability_difference > 0  # two computations, not one with itself


def test_drift_of_a_thousandth_is_told(predictor: NetworkPredictor, converted: ModelProto) -> None:
    """A bias that is off by little more moves probabilities and is refused."""
    drifted = ModelProto()
    drifted.CopyFrom(converted)
    bias = network_nodes(drifted)[-1].input[2]
    for item in drifted.graph.initializer:
        if item.name == bias:
            moved = numpy_helper.to_array(item) + np.array([0, 0.02, 0], dtype=np.float32)
            item.CopyFrom(numpy_helper.from_array(moved, bias))
    found = drift(predictor, drifted, hard_scans()[-6:])
    # At most a quarter of the shift, where the chances are even: 0.005.
    assert MAX_DRIFT < found.largest_probability_difference < 0.0055
    with pytest.raises(ParityError, match=r"expected at most 0\.001"):
        found.check()


@pytest.mark.parametrize(
    ("largest", "gap"), [(0.002, 0.0), (0.0, 0.002), (float("nan"), 0.0), (0.0, float("nan"))]
)
def test_each_kind_of_drift_is_refused(largest: float, gap: float) -> None:
    """Probabilities, labels whose scores are apart, and what is not a number."""
    Drift(10, 0.001, 5, 0.001).check()
    with pytest.raises(ParityError):
        Drift(10, largest, 5, gap).check()
