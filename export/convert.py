"""From a trained network to the deployed graph as a float32 ONNX model."""

import tempfile
from pathlib import Path

import keras
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from onnx import ModelProto

from export.onnx_graph import drop_unused_constants
from export.signature import CHANCES, Signature
from service.inference.contract import INPUT_NAME, OUTPUT_NAMES

OPSET = 18
AXES = ("slices", "rows", "columns")


class NearestUpsampling(keras.layers.Layer):  # type: ignore[misc]  # Keras carries no types
    """`UpSampling2D(2)` as one Resize: Keras' own layer exports as Tile and Slice."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        _, rows, columns, _ = x.shape
        return tf.image.resize(x, [2 * rows, 2 * columns], method="nearest")

    def compute_output_shape(
        self, input_shape: tuple[int | None, int, int, int]
    ) -> tuple[int | None, int, int, int]:
        slices, rows, columns, channels = input_shape
        return slices, 2 * rows, 2 * columns, channels


def for_export(network: keras.Model) -> keras.Model:
    """The same network on the same weights, with upsampling that exports well."""

    def exported(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.layers.UpSampling2D):
            return NearestUpsampling(name=layer.name)
        return layer

    return keras.models.clone_model(network, clone_function=exported)


def to_onnx(signature: Signature) -> ModelProto:
    """The signature as ONNX of opset 18, with the contract's names and `CHANCES`, no contract.

    Raises ValueError where something is left that exports are known to leave: a batch
    normalisation, or a Tile in place of a Resize.
    """
    model, _ = tf2onnx.convert.from_function(
        signature.segment, input_signature=signature.segment.input_signature, opset=OPSET
    )
    _simplify_nearest(model)
    model = _folded(model)
    _merge_pad_into_max_pool(model)
    _name_axes(model)
    model.graph.name = "segment"
    onnx.checker.check_model(model, full_check=True)
    _refuse_leftovers(model)
    return model


def deployed(model: ModelProto) -> ModelProto:
    """The same model with the outputs of its contract only, in their order."""
    copy = ModelProto()
    copy.CopyFrom(model)
    by_name = {port.name: port for port in model.graph.output}
    del copy.graph.output[:]
    copy.graph.output.extend(by_name[name] for name in OUTPUT_NAMES)
    return copy


def _simplify_nearest(model: ModelProto) -> None:
    """Replace a coordinate mode that left the standard in opset 13.

    Doubling gives the same pixels with `asymmetric`, which has the fastest kernel.
    """
    for node in model.graph.node:
        if node.op_type == "Resize":
            for attribute in node.attribute:
                if attribute.name == "coordinate_transformation_mode":
                    attribute.s = b"asymmetric"


def _folded(model: ModelProto) -> ModelProto:
    """Batch norms folded into their convolutions and constants computed, by ONNX Runtime.

    Keras writes a batch norm as a multiplication and an addition, which tf2onnx leaves; ONNX
    Runtime would fold them on loading, but calibration must see the folded weights.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        folded = onnx.load(options.optimized_model_filepath)
    del folded.opset_import[:]
    folded.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    return folded


def _merge_pad_into_max_pool(model: ModelProto) -> None:
    """Let the pooling pad by itself: a Pad in between keeps ONNX Runtime from pooling in int8.

    Keras pads with 0 and ONNX's MaxPool with nothing; after a Relu the largest value is the same.
    """
    nodes = model.graph.node
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    maker = {name: node for node in nodes for name in node.output}
    for pool in [node for node in nodes if node.op_type == "MaxPool"]:
        pad = maker[pool.input[0]]
        if pad.op_type == "Pad" and maker[pad.input[0]].op_type == "Relu":
            before, after = constants[pad.input[1]].reshape(2, 4)[:, 2:]
            kept = [attribute for attribute in pool.attribute if attribute.name != "pads"]
            del pool.attribute[:]
            pool.attribute.extend(kept)
            pool.attribute.append(onnx.helper.make_attribute("pads", [*before, *after]))
            pool.input[0] = pad.input[0]
            nodes.remove(pad)
    drop_unused_constants(model)


def _name_axes(model: ModelProto) -> None:
    """Name the dynamic axes, which come out as unk__461, and drop the shapes that used them."""
    del model.graph.value_info[:]
    for port in (*model.graph.input, *model.graph.output):
        dynamic = [dim for dim in port.type.tensor_type.shape.dim if not dim.dim_value]
        for name, dim in zip(AXES, dynamic, strict=True):
            dim.dim_param = name


def _refuse_leftovers(model: ModelProto) -> None:
    ports = {port.name for port in (*model.graph.input, *model.graph.output)}
    expected = {INPUT_NAME, *OUTPUT_NAMES, CHANCES}
    if ports != expected:
        raise ValueError(f"expected the ports {sorted(expected)}, found {sorted(ports)}")
    left = {node.op_type for node in model.graph.node} & {"BatchNormalization", "Tile", "Mod"}
    if left:
        raise ValueError(f"the export left {sorted(left)} in the graph")
