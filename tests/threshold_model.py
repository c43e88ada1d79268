"""An ONNX file with the service's signature that labels by Hounsfield units, at once.

For tests that start many processes and ask what becomes of jobs, not of livers.
"""

from pathlib import Path

import numpy as np
import onnx
from fakes import make_contract
from onnx import TensorProto, helper

from service.inference.contract import (
    INPUT_NAME,
    METADATA_KEY,
    OUTPUT_NAMES,
    LesionLimits,
    SelfTest,
)
from service.phantom import abdomen_hu

ABOVE_HU = {"tumor": 30.0, "liver": 82.0, "bone": 140.0}
"""From where a voxel counts as what: as 2, 1 and 0, since the graph doubles the first and takes one
away for each of the others.
"""

SEED, SLICES, SIZE = 7, 3, 64


def write_threshold_model(path: Path) -> Path:
    """Write the file; its contract's self-test holds what the graph answers."""
    shape = ["slices", "rows", "columns"]
    hu = helper.make_tensor_value_info(INPUT_NAME, TensorProto.INT16, [*shape, 1])
    outputs = [helper.make_tensor_value_info(n, TensorProto.UINT8, shape) for n in OUTPUT_NAMES]
    constants = [
        helper.make_tensor("last", TensorProto.INT64, [1], [3]),
        helper.make_tensor("hundred", TensorProto.UINT8, [], [100]),
        *(helper.make_tensor(name, TensorProto.FLOAT, [], [at]) for name, at in ABOVE_HU.items()),
    ]
    nodes = [
        helper.make_node("Squeeze", [INPUT_NAME, "last"], ["plane"]),
        helper.make_node("Cast", ["plane"], ["hu_float"], to=TensorProto.FLOAT),
    ]
    for name in ABOVE_HU:
        nodes += [
            helper.make_node("Greater", ["hu_float", name], [f"above_{name}"]),
            helper.make_node("Cast", [f"above_{name}"], [f"is_{name}"], to=TensorProto.UINT8),
        ]
    nodes += [
        helper.make_node("Add", ["is_tumor", "is_tumor"], ["twice"]),
        helper.make_node("Sub", ["twice", "is_liver"], ["soft"]),
        helper.make_node("Sub", ["soft", "is_bone"], [OUTPUT_NAMES[0]]),
        helper.make_node("Mul", [OUTPUT_NAMES[0], "hundred"], [OUTPUT_NAMES[1]]),
    ]
    graph = helper.make_graph(nodes, "threshold", [hu], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    tested = abdomen_hu(SEED, SLICES, SIZE)
    contract = make_contract(
        name="threshold",
        lesion_limits=LesionLimits(surrounded=0.6),
        self_test=SelfTest(
            seed=SEED,
            size=SIZE,
            slices=SLICES,
            liver_voxels=_count(tested, "tumor", "bone"),
            tumor_voxels=_count(tested, "tumor", "liver"),
            tolerance=0.01,
        ),
    )
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, contract.model_dump_json()
    onnx.save(model, path)
    return path


def _count(hu: np.ndarray, name: str, next_name: str) -> int:
    return int(((hu > ABOVE_HU[name]) & (hu <= ABOVE_HU[next_name])).sum())
