"""Doubling as copies, and back."""

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from export.doubling import double_by_copies, double_by_resize
from export.parity import phantom_scans
from export.runners import onnx_runner


def operators(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.fixture(scope="module")
def resized(int8: ModelProto) -> ModelProto:
    """The int8 model with a Resize in the place of each doubling."""
    model = ModelProto()
    model.CopyFrom(int8)
    double_by_resize(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def test_the_exported_int8_model_doubles_by_copies(int8: ModelProto) -> None:
    assert operators(int8)["Resize"] == 0


def test_copies_become_resizes(int8: ModelProto, resized: ModelProto) -> None:
    """Six nodes for each, and nothing else changes."""
    assert operators(resized)["Resize"] == 2
    assert len(resized.graph.node) == len(int8.graph.node) - 2 * 5


def test_both_answer_the_same_to_the_bit(int8: ModelProto, resized: ModelProto) -> None:
    one, other = onnx_runner(int8), onnx_runner(resized)
    for hu in phantom_scans(1):
        first, second = one(hu), other(hu)
        np.testing.assert_array_equal(first.labels, second.labels)
        np.testing.assert_array_equal(first.tumor_probability, second.tumor_probability)


def test_what_is_not_quantised_stays(float32: ModelProto) -> None:
    """float32 kernels have a good Resize."""
    assert operators(double_by_copies(float32)) == operators(float32)
