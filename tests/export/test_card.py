"""The model card says each figure in its own place."""

import json

import onnx
import pytest
from conftest import ROOT

from export.card import card
from export.fields import ContractFields
from export.measure import CaseDice, DiceReport
from export.onnx_graph import contract_of
from export.record import ExportRecord
from export.trained import Trained
from service.inference.contract import LesionLimits, ModelContract, SelfTest

RECORD = {
    "network": {
        "architecture": "unet",
        "filters": [8, 8, 4],
        "grid": 64,
        "parameters": 1_230_000,
        "training_slices": 2400,
    },
    "keras_and_float32": {
        "pixels": 4321,
        "largest_probability_difference": 3e-5,
        "differing_labels": 7,
        "widest_gap": 1e-5,
    },
    "float32_and_float16": {"label_agreement": 0.999, "organ_dice": 0.99, "tumor_dice": 0.98},
    "float32_and_int8": {"label_agreement": 0.991, "organ_dice": 0.97, "tumor_dice": 0.96},
    "int8_and_gpu": {
        "label_agreement": 0.995,
        "organ_dice": 0.95,
        "tumor_dice": 0.94,
        "accepted": True,
    },
    "rounding": {
        "held_out": True,
        "cases": 5,
        "slices": 321,
        "float32": {"liver": 0.91, "tumor": 0.41},
        "int8": {"liver": 0.92, "tumor": 0.42},
    },
    "slices_per_second": {
        "float32": 5.5, "float16": 4.4, "int8": 16.6, "cpu": "a CPU", "cores": 2, "batch": 2,
    },
    "files": [
        {"name": f"model.{name}.onnx", "bytes": size, "sha256": "0" * 64}
        for name, size in (("float32", 130_000_000), ("float16", 65_000_000), ("int8", 33_000_000))
    ],
}  # fmt: skip


@pytest.fixture
def contract(fields: ContractFields, trained: Trained) -> ModelContract:
    dices = DiceReport((CaseDice("one", 0.93, 0.43), CaseDice("two", 0.95, None)))
    expected = SelfTest(seed=7, size=64, slices=2, liver_voxels=9, tumor_voxels=1, tolerance=0.05)
    return fields.contract(trained, dices.validation("By hand."), expected, "int8")


def test_every_figure_has_its_place(contract: ModelContract) -> None:
    """Liver before tumour, float32 before int8, each precision beside its own size and speed."""
    record = ExportRecord.model_validate_json(json.dumps(RECORD))
    lines = card(contract, record).splitlines()
    for line in (
        "| Volume | Liver Dice | Tumour Dice |",
        "| one | 0.9300 | 0.4300 |",
        "| two | 0.9500 | no tumour in it |",
        "| mean | **0.9400** | **0.4300** over the 1 with tumour |",
        "| Precision | File | Slices/s on 2 cores | Labels as float32's, phantom |",
        "| float32 | 130.0 MB | 5.5 |  |",
        "| float16 | 65.0 MB | 4.4 | 99.9000% |",
        "| int8 | 33.0 MB | 16.6 | 99.1000% |",
        "Mean Dice over 5 volumes that the network never saw (321 slices): liver 0.9100 in float32 "
        "and 0.9200 in int8, tumour 0.4100 and 0.4200.",
    ):
        assert line in lines
    assert "to within 3.0e-05 on 4321 pixels" in " ".join(lines)
    assert "7 labels differ" in " ".join(lines)


@pytest.mark.parametrize(
    ("limits", "asked"),
    [
        ({}, None),
        ({"surrounded": 0.4}, "at least 40% of what is around it liver"),
        ({"fluid_hu": 0}, "no fluid (a mean under 0 HU in a brighter liver)"),
        ({"contrast_hu": 12.5}, "at least 12.5 HU from the liver around it"),
        (
            {"surrounded": 0.3, "fluid_hu": 9, "contrast_hu": 8},
            "at least 30% of what is around it liver, no fluid (a mean under 9 HU in a brighter "
            "liver), at least 8 HU from the liver around it",
        ),
    ],
)
def test_what_is_asked_of_a_lesion(
    contract: ModelContract, limits: dict[str, float], asked: str | None
) -> None:
    """A row for all limits that there are, and none without any."""
    limited = contract.model_copy(update={"lesion_limits": LesionLimits(**limits)})
    lines = card(limited, ExportRecord.model_validate_json(json.dumps(RECORD))).splitlines()
    rows = [line for line in lines if line.startswith("| Asked of a lesion")]
    assert rows == ([] if asked is None else [f"| Asked of a lesion | {asked} |"])


def test_the_card_in_the_repository_is_of_the_file_beside_it() -> None:
    """What models/liver-tumor.md quotes of the shipped model is what its contract says."""
    contract = contract_of(onnx.load(ROOT / "models/liver-tumor.onnx"))
    text = (ROOT / "models/liver-tumor.md").read_text()
    assert f"version {contract.version}" in text
    for name, dice in contract.validation.per_case.items():
        tumor = "no tumour in it" if dice["tumor"] is None else f"{dice['tumor']:.4f}"
        assert f"| {name} | {dice['liver']:.4f} | {tumor} |" in text
