"""Nearest-neighbour doubling as copies of bytes, for int8 on a CPU, and back again.

ONNX Runtime 1.32 moves a Resize of uint8 pixel by pixel: 14 of the 138 ms of its kernels for two
slices of 512 x 512 on one thread. Written as a Concat of every pixel with itself, then of every row
with itself, channels last, the same bytes are copied in whole runs, in under 2 ms
(`benchmarks/precision.py`).
A GPU has a good Resize, so its graph gets it back.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

from export.onnx_graph import Constants, constants_of, drop_unused_constants, replace_nodes

_CHANNELS_LAST, _CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)

_COPIES = ("Transpose", "Concat", "Reshape", "Concat", "Reshape", "Transpose")
"""What a doubling is written as, in order."""


def double_by_copies(model: ModelProto) -> ModelProto:
    """The int8 model with its doublings as copies; the outputs stay equal to the bit.

    A Resize is replaced where it lies between quantised values of the same scale, which is how
    the quantisation leaves it.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    constants, shapes = constants_of(copy), _shapes(copy)
    maker = {name: node for node in copy.graph.node for name in node.output}
    quantizer = {
        node.input[0]: node for node in copy.graph.node if node.op_type == "QuantizeLinear"
    }
    instead: dict[str, list[NodeProto]] = {}
    dropped = set()
    for node in copy.graph.node:
        if node.op_type != "Resize":
            continue
        before, after = maker[node.input[0]], quantizer.get(node.output[0])
        if after is None or before.op_type != "DequantizeLinear":
            continue
        same = [
            np.array_equal(constants[one], constants[other])
            for one, other in zip(before.input[1:], after.input[1:], strict=True)
        ]
        if not all(same) or not _doubles(node, constants):
            continue
        _, channels, rows, columns = shapes[node.input[0]]
        wide = _constant(copy, f"{node.name}/pairs", [-1, rows, 1, 2 * columns * channels])
        whole = _constant(copy, f"{node.name}/doubled", [-1, 2 * rows, 2 * columns, channels])
        instead[after.name] = list(
            _copies(node.name, before.input[0], after.output[0], wide, whole)
        )
        dropped.add(node.name)
    nodes = [
        item
        for node in copy.graph.node
        if node.name not in dropped
        for item in instead.get(node.name, [node])
    ]
    replace_nodes(copy, _used(copy, nodes))
    drop_unused_constants(copy)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def double_by_resize(model: ModelProto) -> None:
    """Put a Resize in the place of all copies that double, in this model itself."""
    maker = {name: node for node in model.graph.node for name in node.output}
    instead: dict[str, NodeProto] = {}
    for node in model.graph.node:
        chain = _chain_to(node, maker)
        if chain is not None:
            scales = f"{node.name}/scales"
            value = np.array([1, 1, 2, 2], dtype=np.float32)
            model.graph.initializer.append(numpy_helper.from_array(value, scales))
            instead[node.output[0]] = helper.make_node(
                "Resize",
                [chain[0].input[0], "", scales],
                node.output,
                node.name,
                mode="nearest",
                nearest_mode="floor",
                coordinate_transformation_mode="asymmetric",
            )
    nodes = [instead.get(node.output[0], node) for node in model.graph.node]
    replace_nodes(model, _used(model, nodes))
    drop_unused_constants(model)


def _copies(name: str, source: str, target: str, wide: str, whole: str) -> Iterator[NodeProto]:
    steps = [source, *(f"{name}/step{number}" for number in range(1, len(_COPIES))), target]

    def node(index: int, inputs: list[str], **attributes: object) -> NodeProto:
        output = steps[index + 1]
        return helper.make_node(_COPIES[index], inputs, [output], f"{output}/copy", **attributes)

    yield node(0, [steps[0]], perm=_CHANNELS_LAST)
    yield node(1, [steps[1]] * 2, axis=3)
    yield node(2, [steps[2], wide])
    yield node(3, [steps[3]] * 2, axis=2)
    yield node(4, [steps[4], whole])
    yield node(5, [steps[5]], perm=_CHANNELS_FIRST)


def _chain_to(last: NodeProto, maker: dict[str, NodeProto]) -> list[NodeProto] | None:
    """The copies that end in this node, in order; None where it ends none."""
    chain = [last]
    while len(chain) < len(_COPIES) and chain[0].input and chain[0].input[0] in maker:
        chain.insert(0, maker[chain[0].input[0]])
    if tuple(node.op_type for node in chain) != _COPIES:
        return None
    pairs = all(len(set(node.input)) == 1 for node in chain if node.op_type == "Concat")
    return chain if pairs else None


def _doubles(resize: NodeProto, constants: Constants) -> bool:
    scales = constants.get(resize.input[2])
    mode = next(item.s for item in resize.attribute if item.name == "mode")
    return mode == b"nearest" and scales is not None and scales.tolist() == [1, 1, 2, 2]


def _used(model: ModelProto, nodes: list[NodeProto]) -> list[NodeProto]:
    """Without those whose outputs nobody takes."""
    wanted = {port.name for port in model.graph.output}
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _constant(model: ModelProto, name: str, values: list[int]) -> str:
    array = np.array(values, dtype=np.int64)
    model.graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def _shapes(model: ModelProto) -> dict[str, list[int]]:
    """Of every value, 0 where a dimension is dynamic."""
    inferred = onnx.shape_inference.infer_shapes(model)
    return {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in inferred.graph.value_info
    }
