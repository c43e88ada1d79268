"""The folder that an export leaves: three files, contract, card and record, all of them or none."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto

from export.card import card
from export.keras_parity import Drift
from export.onnx_graph import contract_of, save_whole
from export.parity import compare, phantom_scans
from export.record import (
    AgreementRecord,
    DriftRecord,
    ExportRecord,
    FileRecord,
    GpuRecord,
    NetworkRecord,
    RoundingRecord,
    SpeedRecord,
)
from export.runners import onnx_runner
from export.speed import BATCH, cpu_name, slices_per_second
from export.trained import NotExportable, Trained

CONTRACT_FILE, CARD_FILE, RECORD_FILE = "contract.json", "card.md", "export.json"


@dataclass(frozen=True)
class Precisions:
    """The same network three times."""

    float32: ModelProto
    float16: ModelProto
    int8: ModelProto

    def named(self) -> dict[str, ModelProto]:
        return {"float32": self.float32, "float16": self.float16, "int8": self.int8}


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `out` once all is written, and else goes away.

    Raises `NotExportable` where `out` holds something already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise NotExportable(f"{out}: expected a new or an empty folder, found files")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write(
    folder: Path,
    trained: Trained,
    models: Precisions,
    found: Drift,
    rounding: RoundingRecord,
    gpu: GpuRecord,
) -> None:
    """Save the models, each with its contract inside, measure what is left, and describe them."""
    files = {name: folder / f"model.{name}.onnx" for name in models.named()}
    for name, model in models.named().items():
        save_whole(model, files[name])
    record = ExportRecord(
        network=_network(trained),
        keras_and_float32=DriftRecord.model_validate(found, from_attributes=True),
        float32_and_float16=_agreement(models.float32, models.float16),
        float32_and_int8=_agreement(models.float32, models.int8),
        int8_and_gpu=gpu,
        rounding=rounding,
        slices_per_second=_speed(files),
        files=tuple(_file(path) for path in files.values()),
    )
    contract = contract_of(models.int8)
    (folder / RECORD_FILE).write_text(record.model_dump_json(indent=2) + "\n")
    (folder / CONTRACT_FILE).write_text(contract.model_dump_json(indent=2) + "\n")
    (folder / CARD_FILE).write_text(card(contract, record))


def _network(trained: Trained) -> NetworkRecord:
    config = trained.config
    return NetworkRecord(
        architecture=config.network.architecture,
        filters=config.network.filters,
        grid=config.grid,
        parameters=trained.network.count_params(),
        training_slices=trained.training_slices,
    )


def _agreement(one: ModelProto, other: ModelProto) -> AgreementRecord:
    found = compare(onnx_runner(one), onnx_runner(other), phantom_scans())
    return AgreementRecord.model_validate(found, from_attributes=True)


def _speed(files: Mapping[str, Path]) -> SpeedRecord:
    return SpeedRecord(
        **slices_per_second(files), cpu=cpu_name(), cores=os.cpu_count() or 1, batch=BATCH
    )


def _file(path: Path) -> FileRecord:
    data = path.read_bytes()
    return FileRecord(name=path.name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
