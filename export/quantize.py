"""Static int8 of the network inside the deployed graph: QDQ, one weight scale per channel."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from export.doubling import double_by_copies
from export.onnx_graph import network_nodes
from service.inference.contract import INPUT_NAME
from training.data import Dataset, LabelledSlice

QUANTIZED_OPS = ("Add", "Concat", "Conv", "MaxPool", "Relu", "Resize")

# Activations uint8, weights int8: with int8 activations ONNX Runtime 1.32 is half as fast on a CPU
# with VNNI (8 instead of 16 slices/s on one contended core; float32: 6). On x86 without VNNI the
# same kernels add two products in 16 bits, which saturates where two neighbouring weights and
# their activations are all near the end of their ranges. Weights of 7 bits (`reduce_range`) would
# avoid that at a loss everywhere; the self-test shows it on the machine that has it, where the
# session option session.x64quantprecision = 1 gives exact, slower sums.
ACTIVATIONS, WEIGHTS = QuantType.QUInt8, QuantType.QInt8


class _Slices(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime carries no types
    """Slices one at a time, int16 HU [rows, columns], as the graph takes them."""

    def __init__(self, slices_hu: Iterable[NDArray[np.int16]]) -> None:
        self._slices: Iterator[NDArray[np.int16]] = iter(slices_hu)

    def get_next(self) -> dict[str, NDArray[np.int16]] | None:
        hu = next(self._slices, None)
        return None if hu is None else {INPUT_NAME: hu[None, :, :, None]}


def calibration_slices(data: Dataset) -> list[LabelledSlice]:
    """At most three slices of each case: amid its slices with tumour, liver only, neither."""
    chosen = []
    for case in data.cases:
        kinds = (
            [item for item in case.slices if item.tumor_px > 0],
            [item for item in case.slices if item.liver_px > 0 and item.tumor_px == 0],
            [item for item in case.slices if item.liver_px == 0],
        )
        chosen += [kind[len(kind) // 2] for kind in kinds if kind]
    return chosen


def quantize(model: ModelProto, slices_hu: Iterable[NDArray[np.int16]]) -> ModelProto:
    """The model with its network in int8, calibrated on slices of int16 HU [rows, columns].

    The window, the resampling and the decision stay in float32, and so does the last convolution,
    whose 1 x 1 kernel costs nothing and whose rounding would go into every score. An activation's
    range is the mean of those of the slices: the widest of any, which most never reach, makes
    steps so coarse that four times as many voxels change their label.
    """
    nodes = network_nodes(model)[:-1]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            _Slices(slices_hu),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED_OPS),
            nodes_to_quantize=[node.name for node in nodes if node.op_type in QUANTIZED_OPS],
            per_channel=True,
            activation_type=ACTIVATIONS,
            weight_type=WEIGHTS,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"CalibMovingAverage": True},
        )
        return double_by_copies(onnx.load(target))
