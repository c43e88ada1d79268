"""Opening what labels cases: a run, a network, an exported model, a service, kept predictions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.inference.contract import INPUT_NAME, METADATA_KEY, OUTPUT_NAMES, ModelContract
from training.config import TrainingConfig
from training.context import case_as_seen
from training.data import Case
from training.evaluation.decision import Cleaning, Space
from training.evaluation.results import Subject
from training.evaluation.service_predictor import ServicePredictor
from training.files import sha256_of
from training.predict import SLICES_AT_ONCE, NetworkPredictor
from training.prediction import Prediction
from training.run_folder import RunFolder, load_network

PREDICTIONS = "predictions"
"""Folder inside a cross-validation's that holds what each case's network said of it."""


class NotAModel(ValueError):
    """Nothing that labels cases is where it was looked for."""


@dataclass(frozen=True)
class Opened:
    """What labels a case, and all that is known of it.

    `cleaning` is what an exported model asks for; `can_label` says which cases are to be had;
    `runs` are those that learned, by name, where they lie here.
    """

    subject: Subject
    predict: Callable[[Case], Prediction]
    cleaning: Cleaning | None = None
    can_label: Callable[[Case], bool] = lambda _: True
    runs: Mapping[str, RunFolder] = field(default_factory=dict)


def open_predictor(model: str, space: Space, cleaned: bool = False, flips: bool = False) -> Opened:
    """By what `model` names: `http://...` (or https) a running service, else a path: a `.onnx`
    file, a cross-validation's folder, a run's folder or its `model.keras`.

    `cleaned`: a service is to apply its rules (others are cleaned afterwards). `flips`: a network
    also looks at the mirrored slice. Raises `NotAModel`.
    """
    if model.startswith(("http://", "https://")):
        _refuse_flips(flips, "a service")
        return _open_service(ServicePredictor(model.rstrip("/"), space, cleaned))
    path = Path(model)
    if path.suffix == ".onnx":
        _refuse_flips(flips, "an exported model")
        return _open_onnx(path)
    if (path / PREDICTIONS).is_dir():
        _refuse_flips(flips, "kept predictions")
        return _open_out_of_fold(path)
    return _open_network(path if path.suffix == ".keras" else RunFolder(path).model_path, flips)


def _refuse_flips(flips: bool, what: str) -> None:
    if flips:
        raise NotAModel(f"expected a network to show mirrored slices to, found {what}")


def _open_service(service: ServicePredictor) -> Opened:
    contract = service.contract()
    subject = Subject(
        name=f"{contract.name} {contract.version} at {service.address}",
        kind="service",
        configuration=contract.model_dump(mode="json"),
        trained_on=_known(contract),
        tells_probability=False,
    )
    return Opened(subject, service)


def _known(contract: ModelContract) -> tuple[str, ...] | None:
    """None where a model does not tell what it learned from."""
    data = contract.training_data
    return tuple(sorted({*data.volumes, *data.also_known})) if data.volumes else None


def _open_onnx(path: Path) -> Opened:
    session = open_session(path)
    contract = _contract(session, path)

    def predict(case: Case) -> Prediction:
        return Prediction(*label_slices(session, case.hu()))

    subject = Subject(
        name=f"{contract.name} {contract.version} ({contract.precision})",
        kind="onnx",
        sha256=sha256_of(path),
        configuration=contract.model_dump(mode="json"),
        trained_on=_known(contract),
    )
    cleaning = Cleaning(
        min_lesion_mm3=contract.min_lesion_mm3,
        min_lesion_px=contract.min_lesion_px,
        lesion_limits=contract.lesion_limits,
    )
    return Opened(subject, predict, cleaning)


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """On the processor. Raises `NotAModel`."""
    if not path.exists():
        raise NotAModel(f"expected an exported model, found no file {path.name}")
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's have no base of their own
        raise NotAModel(f"{path.name}: expected an ONNX model, found a damaged file") from error


def label_slices(
    session: onnxruntime.InferenceSession, hu: NDArray[np.int16]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels and tumour probability of int16 HU, all [slices, rows, columns]."""
    starts = range(0, len(hu), SLICES_AT_ONCE)
    answers = [
        session.run(OUTPUT_NAMES, {INPUT_NAME: hu[start : start + SLICES_AT_ONCE, ..., None]})
        for start in starts
    ]
    labels, probability = zip(*answers, strict=True)
    return np.concatenate(labels), np.concatenate(probability)


def _contract(session: onnxruntime.InferenceSession, path: Path) -> ModelContract:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise NotAModel(f"{path.name}: expected a contract in the model's metadata, found none")
    contract = ModelContract.model_validate_json(text)
    if contract.context.slices != 1:
        found = contract.context.slices
        raise NotAModel(f"{path.name}: expected a context of one slice, found {found}")
    return contract


def _open_network(path: Path, flips: bool) -> Opened:
    """Raises `NotAModel` where the network or the configuration beside it is missing."""
    folder = RunFolder(path.parent)
    if not path.exists() or not folder.config_path.exists():
        raise NotAModel(
            f"{path.parent.name}: expected {path.name} and {folder.config_path.name} of a finished "
            "run, found not both"
        )
    config = folder.config()
    network = load_network(path)
    predictor = NetworkPredictor(network, config.grid, config.window, flips=flips)
    subject = Subject(
        name=f"{config.name} ({config.network.architecture}){' with flips' if flips else ''}",
        kind="network",
        sha256=sha256_of(path),
        configuration=config.model_dump(mode="json"),
        training_slices=folder.training_slices(),
        parameters=int(network.count_params()),
        trained_on=folder.known_cases() if folder.data_path.exists() else None,
    )
    runs = {config.name: folder}
    return Opened(subject, lambda case: predictor(case_as_seen(case, config)), runs=runs)


def _open_out_of_fold(path: Path) -> Opened:
    """What the networks of a cross-validation said of cases that they never saw."""
    from training.crossval import OutOfFold

    kept = OutOfFold(path)
    folds = [RunFolder(found) for found in sorted(path.glob("fold-*")) if found.is_dir()]
    configs = [folder.config() for folder in folds if folder.config_path.exists()]
    if not configs:
        raise NotAModel(f"{path.name}: expected folds beside the predictions, found none")
    config = _same_for_all(configs, path)
    subject = Subject(
        name=f"{config.name} ({config.network.architecture}), {len(configs)} fold(s)",
        kind="out_of_fold",
        configuration=config.model_dump(mode="json"),
        training_slices=config.training_slices,
        parameters=_parameters(folds),
        folds=kept.folds(),
    )
    runs = {folder.path.name: folder for folder in folds}
    return Opened(subject, kept.prediction, can_label=kept.has, runs=runs)


def _same_for_all(configs: Sequence[TrainingConfig], path: Path) -> TrainingConfig:
    if any(config != configs[0] for config in configs):
        raise NotAModel(f"{path.name}: expected folds of one configuration, found several")
    return configs[0]


def _parameters(folds: Sequence[RunFolder]) -> int | None:
    """Of the first network that is finished; None where none is kept."""
    for folder in folds:
        if folder.finished:
            return int(load_network(folder.model_path).count_params())
    return None
