"""Helpers on ONNX models that need nothing but onnx: the contract inside, the network's nodes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no types
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from service.inference.checksum import checksum_file, checksum_line
from service.inference.contract import METADATA_KEY, ModelContract

Constants = dict[str, NDArray[Any]]
"""The values of a graph's initializers."""


def with_contract(model: ModelProto, contract: ModelContract) -> ModelProto:
    """A copy of the model that holds this contract in its metadata, in place of any other."""
    copy = ModelProto()
    copy.CopyFrom(model)
    others = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(copy, others | {METADATA_KEY: contract.model_dump_json()})
    return copy


def contract_of(model: ModelProto) -> ModelContract:
    """The contract in the model's metadata.

    Raises ValueError where there is none and pydantic.ValidationError where it is not understood.
    """
    entries = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in entries:
        raise ValueError(f"no {METADATA_KEY} in the model's metadata")
    return ModelContract.model_validate_json(entries[METADATA_KEY])


def network_nodes(model: ModelProto) -> list[NodeProto]:
    """The convolutional network's nodes in the graph's order, first convolution to last.

    These are the nodes on a way from the first convolution to the last. The window, the
    resampling and the decision hold no convolution and lie outside.
    """
    nodes = list(model.graph.node)
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    if not convolutions:
        raise ValueError("the graph holds no convolution")
    reached = set(convolutions[0].output)
    after = []
    for node in nodes:
        if node is convolutions[0] or reached.intersection(node.input):
            reached.update(node.output)
            after.append(node)
    needed = set(convolutions[-1].output)
    between = []
    for node in reversed(after):
        if needed.intersection(node.output):
            needed.update(node.input)
            between.append(node)
    return between[::-1]


def constants_of(model: ModelProto) -> Constants:
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def replace_nodes(model: ModelProto, nodes: Sequence[NodeProto]) -> None:
    """Give the graph these nodes, some of which may be its own."""
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def drop_unused_constants(model: ModelProto) -> None:
    """Remove the initializers that no node reads."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [item for item in model.graph.initializer if item.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def open_whole(path: Path) -> ModelProto:
    """A model that ONNX takes for one. Raises ValueError for any other file."""
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
    except (
        DecodeError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as error:
        raise ValueError(f"{path.name}: expected an ONNX model, found a damaged file") from error
    return model


def save_whole(model: ModelProto, path: Path) -> None:
    """Check the model and write it, so that a file at `path` is always a complete one.

    Its checksum goes beside it; while the file is replaced there is none.
    """
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = model.SerializeToString()
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        checksum_file(path).unlink(missing_ok=True)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    checksum_file(path).write_text(checksum_line(path, data))
