"""A run becomes the files that the service loads: convert, compare, quantise, measure, write."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import rich
from numpy.typing import NDArray
from onnx import ModelProto
from rich.markup import escape

from export.convert import deployed, for_export, to_onnx
from export.fields import ContractFields
from export.folder import Precisions, whole_folder, write
from export.gpu import accept, halve, to_float16
from export.keras_parity import drift, hard_scans
from export.measure import DiceReport, Slices, measure, sampled, whole
from export.onnx_graph import with_contract
from export.out_of_fold import read_report, validation_of
from export.parity import Difference, compare, phantom_scans, self_test
from export.quantize import calibration_slices, quantize
from export.record import DiceRecord, GpuRecord, RoundingRecord
from export.runners import onnx_runner
from export.signature import Preprocessing, Signature
from export.trained import NotExportable, Trained, read_run
from service.inference.contract import Validation
from training.data import Dataset, LabelledSlice
from training.predict import NetworkPredictor

MOST_LOST_DICE = 0.005
"""By the rounding to int8; where more is lost the export says so."""

SELF_TEST_SEED, SELF_TEST_SIZE, SELF_TEST_SLICES = 7, 256, 5
SELF_TEST_TOLERANCE = 0.05
"""CPU and GPU round differently; a wrong model is off by far more."""

REAL_SLICES = 4

HELD_OUT = (
    "Held-out volumes of the same data set, whole volumes, Dice per volume, measured on the int8 "
    "file itself, without post-processing; no patient among them was learned from."
)
"""How the export measures by itself, without a report."""


def release(
    model: Path,
    open_data: Callable[[], Dataset],
    fields: ContractFields,
    out: Path,
    report: Path | None = None,
) -> None:
    """Write the three files, contract, card and record into the new folder `out`.

    `open_data` is called once the run is known to be good, since it may take minutes. The
    contract's figures are those of the report, with the thresholds and limits that they
    were made with, or else of the cases that the run never saw, with those of `fields`. Raises
    `NotExportable` for what cannot be exported, `DamagedNetwork`, and ParityError where float32
    does not answer as Keras does; `out` is not made then.
    """
    with whole_folder(out) as partial:
        trained = read_run(model)
        data = open_data()
        own, others = trained.learned_from(data), trained.never_saw(data)
        reported = None if report is None else read_report(report, trained)
        if reported is None and not any(case.tumor_px for case in others.cases):
            raise NotExportable(
                "expected a report, or cases with tumour that the run did not learn from, to say "
                "what the model reaches; found neither"
            )
        if reported is not None:
            fields = fields.decided_as(reported.conditions)

        preprocessing = Preprocessing(trained.config.grid, trained.config.window, fields.thresholds)
        converted = to_onnx(Signature(for_export(trained.network), preprocessing))
        scans = [*hard_scans(), _real_slices(others.slices or own.slices)]
        found = drift(_keras(trained, preprocessing), converted, scans)
        rich.print(f"Keras and float32: {found}")
        found.check()

        float32 = deployed(converted)
        int8 = quantize(float32, (item.hu() for item in calibration_slices(own)))
        dices, rounding = _rounding(float32, int8, own, others)
        validation = (
            dices["int8"].validation(HELD_OUT) if reported is None else validation_of(reported)
        )
        models = _finished(Precisions(float32, halve(float32), int8), trained, fields, validation)
        write(partial, trained, models, found, rounding, gpu_record(models.int8))
    rich.print(f"{escape(str(out))}: {', '.join(sorted(path.name for path in out.iterdir()))}")


def _keras(trained: Trained, preprocessing: Preprocessing) -> NetworkPredictor:
    """With the layers that it was trained with, none replaced for the export."""
    return NetworkPredictor(
        trained.network, preprocessing.grid, preprocessing.window, preprocessing.thresholds
    )


def _real_slices(slices: Sequence[LabelledSlice]) -> NDArray[np.int16]:
    """A few slices of one size, with tumour where there are any, evenly over the cases."""
    chosen = [item for item in slices if item.tumor_px > 0] or list(slices)
    step = max(1, len(chosen) // REAL_SLICES)
    planes = [item.hu() for item in chosen[::step][:REAL_SLICES]]
    return np.stack([plane for plane in planes if plane.shape == planes[0].shape])


def _rounding(
    float32: ModelProto, int8: ModelProto, own: Dataset, others: Dataset
) -> tuple[dict[str, DiceReport], RoundingRecord]:
    """Dice of both on cases the run never saw, or where there are none on a part of its own."""
    cases: Slices = whole(others.cases) if others.cases else sampled(own.cases)
    dices = {
        name: measure(onnx_runner(model), cases)
        for name, model in (("float32", float32), ("int8", int8))
    }
    records = {name: DiceRecord(liver=dice.liver, tumor=dice.tumor) for name, dice in dices.items()}
    tell_rounding(records["float32"], records["int8"])
    return dices, RoundingRecord(
        held_out=bool(others.cases),
        cases=len(cases),
        slices=sum(len(slices) for _, slices in cases),
        **records,
    )


def tell_rounding(float32: DiceRecord, int8: DiceRecord) -> None:
    """Print both, in red where int8 loses more than `MOST_LOST_DICE`."""
    for name in ("liver", "tumor"):
        before, after = getattr(float32, name), getattr(int8, name)
        if before is None:
            continue
        sentence = f"{name} Dice: {before:.4f} in float32, {after:.4f} in int8"
        if before - after > MOST_LOST_DICE:
            sentence = f"[bold red]{sentence}: more than {MOST_LOST_DICE} is lost[/]"
        rich.print(sentence)


def _finished(
    models: Precisions, trained: Trained, fields: ContractFields, validation: Validation
) -> Precisions:
    """Each with its contract, and with what it itself says of the self-test."""

    def finished(precision: str, model: ModelProto) -> ModelProto:
        expected = self_test(
            onnx_runner(model),
            SELF_TEST_SEED,
            SELF_TEST_SIZE,
            SELF_TEST_SLICES,
            SELF_TEST_TOLERANCE,
        )
        return with_contract(model, fields.contract(trained, validation, expected, precision))

    return Precisions(**{name: finished(name, model) for name, model in models.named().items()})


def gpu_record(int8: ModelProto) -> GpuRecord:
    """How the graph that `python -m export gpu` would make of this file answers beside it.

    That command refuses a file whose graph differs. Here it is only told: a network that has
    hardly learned flips its labels at the least rounding, and is worth comparing all the same.
    """
    found: Difference | None = None
    accepted = False
    try:
        float16 = to_float16(int8)
        found = compare(onnx_runner(int8), onnx_runner(float16), phantom_scans())
        rich.print(f"int8 and the GPU's graph made of it, phantom: {found}")
        accept(float16, found)
        accepted = True
    except ValueError as error:  # a ParityError, or activations that float16 cannot hold
        text = escape(str(error))
        rich.print(f"[bold red]`python -m export gpu` would refuse this file: {text}[/]")
    return GpuRecord(
        label_agreement=found and found.label_agreement,
        organ_dice=found and found.organ_dice,
        tumor_dice=found and found.tumor_dice,
        accepted=accepted,
    )
