"""The GPU benchmark's verdicts, on profiles that a CPU can make."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
from fakes import FakeSegmenter, by_threshold
from onnx import TensorProto, helper

from benchmarks.gpu import convolution_providers, label_agreement


def test_a_convolution_on_the_cpu_is_seen(tmp_path: Path) -> None:
    """ONNX Runtime's own profile of a convolution on the CPU names it and its provider."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 3, 3], [1.0] * 9)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 6, 6])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    session.run(None, {"x": np.zeros((1, 1, 8, 8), np.float32)})
    events = json.loads(Path(session.end_profiling()).read_text())
    assert convolution_providers(events) == {"CPUExecutionProvider": 1}


def test_convolutions_are_counted_by_provider() -> None:
    """Fused and quantised convolutions count too; other operators do not."""

    def event(operator: str, provider: str) -> dict[str, object]:
        name = f"{operator}_kernel_time"
        return {"name": name, "args": {"op_name": operator, "provider": provider}}

    events = [
        event("FusedConv", "CUDAExecutionProvider"),
        event("Conv", "CUDAExecutionProvider"),
        event("QLinearConv", "CPUExecutionProvider"),
        event("Resize", "CPUExecutionProvider"),
        {"name": "session_initialization"},
    ]
    found = convolution_providers(events)
    assert found == {"CUDAExecutionProvider": 2, "CPUExecutionProvider": 1}
    assert convolution_providers(events[3:]) == {}


def test_agreement_counts_voxels() -> None:
    """The share of equal labels over all slices, the last part of a batch included."""
    hu = np.full((5, 4, 4, 1), 108, np.int16)
    one = FakeSegmenter(by_threshold)
    hu[4, 0] = 52
    other = FakeSegmenter(lambda values: np.ones(values.shape))
    assert label_agreement(one, other, hu) == 1 - 4 / 80
    assert label_agreement(one, one, hu) == 1
