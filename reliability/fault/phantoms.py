"""Studies whose truth is known exactly, and a model that finds it: for streams of many jobs.

The shipped model learned from patients and is not right about phantoms; it also takes seconds for
what must happen often here. This one labels by Hounsfield unit, which on a phantom without noise is
the truth, voxel for voxel, and the service that runs it is the same to the byte.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from reliability.fault.bench import undisturbed
from reliability.process import check
from reliability.studies import Study, studies_of
from service.inference.contract import (
    INPUT_NAME,
    METADATA_KEY,
    OUTPUT_NAMES,
    FieldOfView,
    ModelContract,
    SelfTest,
    TrainingData,
    Validation,
)
from service.phantom import Phantom, abdomen_hu
from service.pipeline import Result
from service.volume import LIVER_LABEL, TUMOR_LABEL, HounsfieldWindow

SLICES, SIZE = 16, 96

PHANTOMS = 2
"""Patients: an answer that belongs to another one is seen."""

LIVER_HU, TUMOR_HU = (104, 112), (48, 56)
"""Around 108 and 52, what a phantom's liver and lesions have; a PNG's eight bits move them by 1."""

LIVER_TOLERANCE, TUMOR_TOLERANCE = 0.001, 0.07
"""Of the volumes in closed form, for voxels of 4.2 x 4.2 x 11 mm: of phantoms 1 to 20 the most is
0.0002 and 0.062."""


@dataclass(frozen=True)
class Truth:
    """Studies by name, the model that the service is given, and the right result of each."""

    model: Path
    studies: dict[str, Study]
    results: dict[str, Result]


def truth(folder: Path) -> Truth:
    """Write the model, draw the phantoms, and check what each study gets while it is alone.

    Raises `Wrong` where those are other labels than the phantom's.
    """
    model = write_model(folder / "by-threshold.onnx")
    all_studies: dict[str, Study] = {}
    results: dict[str, Result] = {}
    for seed in range(1, PHANTOMS + 1):
        phantom = Phantom.draw(seed)
        volume, labels = phantom.sample(SLICES, SIZE, noise_hu=0)
        drawn = [replace(one, name=f"{one.name} of phantom {seed}") for one in studies_of(volume)]
        found = undisturbed(drawn, model)
        for name, result in found.items():
            _check_truth(name, result, phantom, np.asarray(labels.array))
        all_studies |= {study.name: study for study in drawn}
        results |= found
    return Truth(model, all_studies, results)


def _check_truth(name: str, result: Result, phantom: Phantom, labels: NDArray[np.uint8]) -> None:
    """The labels are the phantom's, and so is the volume where the study tells its spacing."""
    found = np.asarray(result.segmentation.labels.array)
    expected = labels if len(found) > 1 else labels[SLICES // 2 : SLICES // 2 + 1]
    check(np.array_equal(found, expected), f"{name}: other labels than the phantom's")
    findings = result.measured.findings
    _check_volume(name, findings.liver.volume_ml, phantom.liver_ml, LIVER_TOLERANCE)
    _check_volume(name, findings.tumor.volume_ml, phantom.tumor_ml, TUMOR_TOLERANCE)


def _check_volume(name: str, found: float | None, expected: float, tolerance: float) -> None:
    off = 0.0 if found is None else abs(found / expected - 1)
    check(off < tolerance, f"{name}: a volume that is {off:.2%} off the phantom's")


def write_model(path: Path) -> Path:
    """An ONNX graph with the service's signature and a contract whose self-test it passes."""
    shape = ["slices", "rows", "columns"]
    graph_input = helper.make_tensor_value_info(INPUT_NAME, TensorProto.INT16, [*shape, 1])
    outputs = [helper.make_tensor_value_info(n, TensorProto.UINT8, shape) for n in OUTPUT_NAMES]
    values = {"liver_from": LIVER_HU[0], "liver_to": LIVER_HU[1], "tumor_from": TUMOR_HU[0],
              "tumor_to": TUMOR_HU[1], "liver_label": LIVER_LABEL, "tumor_label": TUMOR_LABEL,
              "certain": 255}  # fmt: skip
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [], [float(value)])
                 for name, value in values.items()]  # fmt: skip
    constants.append(helper.make_tensor("middle", TensorProto.INT64, [], [0]))
    nodes = [
        helper.make_node("Gather", [INPUT_NAME, "middle"], ["plane"], axis=3),
        helper.make_node("Cast", ["plane"], ["hu_float"], to=TensorProto.FLOAT),
        *_between("liver"),
        *_between("tumor"),
        helper.make_node("Mul", ["liver", "liver_label"], ["as_liver"]),
        helper.make_node("Mul", ["tumor", "tumor_label"], ["as_tumor"]),
        helper.make_node("Add", ["as_liver", "as_tumor"], ["either"]),
        helper.make_node("Mul", ["tumor", "certain"], ["probability"]),
        helper.make_node("Cast", ["either"], [OUTPUT_NAMES[0]], to=TensorProto.UINT8),
        helper.make_node("Cast", ["probability"], [OUTPUT_NAMES[1]], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(nodes, "by threshold", [graph_input], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, _contract().model_dump_json()
    onnx.save(model, path)
    return path


def _between(organ: str) -> list[NodeProto]:
    """1.0 where the value lies between the organ's bounds, else 0.0."""
    return [
        helper.make_node("Greater", ["hu_float", f"{organ}_from"], [f"{organ}_above"]),
        helper.make_node("Less", ["hu_float", f"{organ}_to"], [f"{organ}_below"]),
        helper.make_node("And", [f"{organ}_above", f"{organ}_below"], [f"{organ}_inside"]),
        helper.make_node("Cast", [f"{organ}_inside"], [organ], to=TensorProto.FLOAT),
    ]


def _contract() -> ModelContract:
    hu = abdomen_hu(7, 3, 64)
    liver, tumor = (int(((hu > low) & (hu < high)).sum()) for low, high in (LIVER_HU, TUMOR_HU))
    return ModelContract(
        name="by-threshold",
        version="1.0",
        description="labels phantoms by Hounsfield unit",
        license="Apache-2.0",
        modality="CT",
        architecture="none",
        precision="exact",
        grid=256,
        window=HounsfieldWindow(lower_hu=-40, upper_hu=160),
        field_of_view=FieldOfView(smallest_mm=287, largest_mm=512),
        min_lesion_mm3=0,
        min_lesion_px=0,
        training_data=TrainingData(name="none", license="none", cases=0, slices=0),
        validation=Validation(
            method="none", cases=0, liver_dice_per_case=0, tumor_dice_per_case=0, cases_with_tumor=0
        ),
        self_test=SelfTest(
            seed=7,
            size=64,
            slices=3,
            liver_voxels=liver + tumor,
            tumor_voxels=tumor,
            tolerance=0.05,
        ),
    )
