"""The float16 graph for a GPU: from the shipped int8 model, with onnx and NumPy alone.

On a GPU the pairs of QuantizeLinear and DequantizeLinear would run as so many kernels in float32.
Without them, with the weights dequantised, the network runs in float16 on the tensor cores.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.doubling import double_by_resize
from export.onnx_graph import (
    Constants,
    constants_of,
    contract_of,
    drop_unused_constants,
    network_nodes,
    replace_nodes,
    with_contract,
)
from export.parity import Difference, Tolerance, check_self_test, compare, phantom_scans
from export.runners import onnx_runner

# Float16 rounds finer than int8: what is left between the two is int8's rounding of activations,
# which moves borders. The first model agreed with itself on 0.995 of the phantom's pixels and 0.98
# of its organ; a graph that is wrong loses the organ.
TOLERANCE = Tolerance(label_agreement=0.985, organ_dice=0.95)

_FLOAT16_MAX = float(np.finfo(np.float16).max)


def to_float16(model: ModelProto) -> ModelProto:
    """The GPU's graph of an int8 QDQ model: same ports, contract with precision `float16`.

    The network is in float16; the window, the resampling and the decision stay in float32. Raises
    ValueError where the model is not quantised or an activation may be too large for float16.
    """
    contract = contract_of(model)
    copy = ModelProto()
    copy.CopyFrom(model)
    double_by_resize(copy)
    _remove_quantization(copy)
    return with_contract(halve(copy), contract.model_copy(update={"precision": "float16"}))


def halve(model: ModelProto) -> ModelProto:
    """A float32 model with its network in float16, between casts.

    Whether the activations fit into float16 is the caller's to know.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    _halve_network(copy)
    drop_unused_constants(copy)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def _remove_quantization(model: ModelProto) -> None:
    """Dequantise the constants and take out the pairs around activations."""
    constants = constants_of(model)
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    if not quantizers:
        raise ValueError("expected an int8 model, found no QuantizeLinear in it")
    for node in quantizers:
        _refuse_beyond_float16(node, constants)

    maker = {name: node.op_type for node in model.graph.node for name in node.output}
    instead: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        _rename_inputs(node, instead)
        if node.op_type == "QuantizeLinear":
            if _clips_at_zero(node, constants) and maker[node.input[0]] in ("Conv", "Add"):
                nodes.append(helper.make_node("Relu", node.input[:1], node.output, node.name))
            else:
                instead[node.output[0]] = node.input[0]
        elif node.op_type == "DequantizeLinear" and node.input[0] in constants:
            dequantized = _dequantized(node, constants)
            model.graph.initializer.append(numpy_helper.from_array(dequantized, node.output[0]))
        elif node.op_type == "DequantizeLinear":
            instead[node.output[0]] = node.input[0]
        else:
            nodes.append(node)
    replace_nodes(model, nodes)


def _clips_at_zero(quantizer: NodeProto, constants: Constants) -> bool:
    """Whether the quantiser does the work of a Relu, which the quantisation then left out.

    Behind anything but a convolution or an addition this needs no Relu of its own: those nodes
    only move values that were clipped before.
    """
    zero_point = constants[quantizer.input[2]]
    return bool(zero_point == np.iinfo(zero_point.dtype).min)


def _refuse_beyond_float16(quantizer: NodeProto, constants: Constants) -> None:
    """Calibration saw every activation's range: the scales show what float16 must hold."""
    scale, zero_point = (constants[name] for name in quantizer.input[1:3])
    codes = np.iinfo(zero_point.dtype)
    steps = max(codes.max - int(zero_point), int(zero_point) - codes.min)
    largest = float(scale) * steps
    if largest > _FLOAT16_MAX / 2:
        raise ValueError(
            f"{quantizer.input[0]} reaches {largest:.0f}, float16 holds {_FLOAT16_MAX:.0f}"
        )


def _dequantized(node: NodeProto, constants: Constants) -> NDArray[np.float32]:
    """Weights or a bias as float32, with a scale for the whole or for each channel."""
    codes, scale = (constants[name] for name in node.input[:2])
    zero_point = constants[node.input[2]] if len(node.input) > 2 else np.zeros_like(scale)
    if scale.ndim:
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        shape = [-1 if dim == axis % codes.ndim else 1 for dim in range(codes.ndim)]
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    return ((codes.astype(np.float64) - zero_point) * scale).astype(np.float32)


def _halve_network(model: ModelProto) -> None:
    """Put the network's nodes into float16, with a Cast where values enter and leave it."""
    made = {name for node in network_nodes(model) for name in node.output}
    outside = [node for node in model.graph.node if made.isdisjoint(node.output)]
    leaving = made.intersection(name for node in outside for name in node.input)
    constants = constants_of(model)

    halved: dict[str, str] = {}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if made.isdisjoint(node.output):
            nodes.append(node)
            continue
        for name in _data_inputs(node):
            if name not in made and name not in halved:
                halved[name] = f"{name}_float16"
                if name in constants:
                    half = constants[name].astype(np.float16)
                    model.graph.initializer.append(numpy_helper.from_array(half, halved[name]))
                else:
                    nodes.append(_cast(name, halved[name], TensorProto.FLOAT16))
        count = len(_data_inputs(node))
        renamed = [halved.get(name, name) for name in node.input[:count]]
        node.input[:] = [*renamed, *node.input[count:]]
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in leaving:
                halved[name] = node.output[index] = f"{name}_float16"
                nodes.append(_cast(halved[name], name, TensorProto.FLOAT))
    replace_nodes(model, nodes)


def _data_inputs(node: NodeProto) -> list[str]:
    """Inputs of the type that the node computes in: a Resize's scales stay float32."""
    return list(node.input[:1] if node.op_type == "Resize" else node.input)


def _cast(source: str, target: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], f"{target}_cast", to=to)


def _rename_inputs(node: NodeProto, instead: Mapping[str, str]) -> None:
    for index, name in enumerate(node.input):
        node.input[index] = instead.get(name, name)


def check_float16(int8: ModelProto, float16: ModelProto) -> Difference:
    """Compare both on the synthetic abdomen at several sizes, on ONNX Runtime's CPU kernels.

    They run float16 through casts. Raises ParityError as `accept` does.
    """
    found = compare(onnx_runner(int8), onnx_runner(float16), phantom_scans())
    accept(float16, found)
    return found


def accept(float16: ModelProto, found: Difference) -> None:
    """Raises ParityError where int8 and float16 were found to differ beyond `TOLERANCE`, and where
    the float16 model would not pass the self-test that the service gives it.
    """
    TOLERANCE.check(found, "int8 and float16")
    check_self_test(onnx_runner(float16), contract_of(float16).self_test)
