"""A run becomes the file that the service loads: convert, compare, quantise, measure, write."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rich
from numpy.typing import NDArray
from onnx import ModelProto

from export.convert import for_export, load_network, to_onnx
from export.fields import ContractFields
from export.gpu import check_float16, to_float16
from export.onnx_graph import save_whole, with_contract
from export.parity import Tolerance, compare, phantom_scans, self_test
from export.quantize import calibration_slices, quantize
from export.runners import Runner, onnx_runner
from export.signature import Preprocessing, Signature
from training.config import TrainingConfig
from training.data import LabelledSlice, by_case
from training.evaluate import Report, evaluate

CONVERTED = Tolerance(label_agreement=0.9999, largest_probability_difference=2)
"""The same arithmetic in another order: a label may differ only where two scores are equal."""

ROUNDING_WORTH_A_WORD = 0.002
"""Loss of Dice by the weights' rounding from which the export says so."""

SELF_TEST_SEED, SELF_TEST_SIZE, SELF_TEST_SLICES = 7, 256, 5
SELF_TEST_TOLERANCE = 0.05
"""CPU and GPU round differently; a wrong model is off by far more."""

FLOAT32_FILE = "model.float32.onnx"
REAL_SLICES = 4


@dataclass(frozen=True)
class Measured:
    """One file and its Dice on the validation cases."""

    model: ModelProto
    report: Report


def release(run: Path, slices: list[LabelledSlice], fields: ContractFields, out: Path) -> None:
    """Write the int8 file to `out` and the float32 one into the run's folder.

    Raises ParityError where the float32 file does not answer as Keras does, or the GPU's float16
    graph not as the int8 file; nothing is written to `out` then.
    """
    training = [item for item in slices if item.split == "train"]
    held_out = [item for item in slices if item.split == "val"]
    network, config = load_network(run)
    preprocessing = Preprocessing(config.grid, config.window, fields.thresholds)
    float32 = to_onnx(Signature(for_export(network), preprocessing))
    # Compared with the network as it was trained, before any layer was replaced for export.
    _compare_with_keras(Signature(network, preprocessing).run, float32, held_out)
    int8 = quantize(float32, (item.hu() for item in calibration_slices(training)))

    files = {"float32": _measure(float32, held_out), "int8": _measure(int8, held_out)}
    for precision, measured in files.items():
        rich.print(measured.report.table(f"{precision}, validation"))
    _report_rounding(files["float32"].report, files["int8"].report)

    finished = {
        precision: _finish(measured, precision, fields, config, training)
        for precision, measured in files.items()
    }
    difference = check_float16(finished["int8"], to_float16(finished["int8"]))
    rich.print(f"int8 and the GPU's float16, phantom: {difference}")
    save_whole(finished["float32"], run / FLOAT32_FILE)
    save_whole(finished["int8"], out)
    rich.print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def _compare_with_keras(
    keras: Runner, float32: ModelProto, held_out: Sequence[LabelledSlice]
) -> None:
    scans = [*phantom_scans(), _real_slices(held_out)]
    difference = compare(keras, onnx_runner(float32), scans)
    rich.print(f"Keras and float32 ONNX: {difference}")
    CONVERTED.check(difference, "Keras and float32 ONNX")


def _real_slices(slices: Sequence[LabelledSlice]) -> NDArray[np.int16]:
    """A few slices with tumour, evenly over the cases: [slices, rows, columns]."""
    chosen = [item for item in slices if item.tumor_px > 0] or list(slices)
    step = max(1, len(chosen) // REAL_SLICES)
    return np.stack([item.hu() for item in chosen[::step][:REAL_SLICES]])


def _measure(model: ModelProto, held_out: list[LabelledSlice]) -> Measured:
    runner = onnx_runner(model)
    return Measured(model, evaluate(lambda hu: runner(hu).labels, by_case(held_out)))


def _finish(
    measured: Measured,
    precision: str,
    fields: ContractFields,
    config: TrainingConfig,
    training: list[LabelledSlice],
) -> ModelProto:
    """The model with its contract, and with what it itself says of the self-test."""
    expected = self_test(
        onnx_runner(measured.model),
        SELF_TEST_SEED,
        SELF_TEST_SIZE,
        SELF_TEST_SLICES,
        SELF_TEST_TOLERANCE,
    )
    contract = fields.contract(config, training, measured.report, expected, precision)
    return with_contract(measured.model, contract)


def _report_rounding(float32: Report, int8: Report) -> None:
    """Print what the rounding to int8 costs in Dice, loudly where it is more than it should."""
    for name in ("liver_dice", "tumor_dice"):
        before, after = getattr(float32, name), getattr(int8, name)
        loss = before - after
        if math.isnan(loss) or loss <= ROUNDING_WORTH_A_WORD:
            rich.print(f"{name}: {before:.4f} in float32, {after:.4f} in int8")
        else:
            rich.print(
                f"[bold red]{name}: {before:.4f} in float32, {after:.4f} in int8: the rounding "
                f"costs {loss:.4f}, more than {ROUNDING_WORTH_A_WORD}[/]"
            )
