"""The trained network of a run, made ready for its export."""

from dataclasses import dataclass
from pathlib import Path

import keras

from training.batches import CLASSES
from training.config import TrainingConfig
from training.data import Dataset
from training.network import build_network, finest, weight_shapes
from training.run_folder import RunFolder, load_network


class NotExportable(ValueError):
    """A run, or the data given with it, from which no model can be exported."""


@dataclass(frozen=True)
class Trained:
    """A finished run: its network in float32 on its own grid, and what it was made of.

    `known_cases` are `cases` and others that are no strangers to the network, `slices` those of
    `cases`, `training_slices` those it drew from them until it ended.
    """

    network: keras.Model
    config: TrainingConfig
    cases: tuple[str, ...]
    known_cases: tuple[str, ...]
    slices: int
    data_sha256: str
    training_slices: int

    def learned_from(self, data: Dataset) -> Dataset:
        """The run's own cases. Raises `NotExportable` where `data` lacks one, or differs."""
        missing = sorted(set(self.cases) - {case.name for case in data.cases})
        if missing:
            raise NotExportable(
                "expected every case that the run was trained on, to calibrate int8 with; the data "
                f"lacks {', '.join(missing)}"
            )
        own = data.only(self.cases)
        if own.sha256 != self.data_sha256:
            raise NotExportable(
                f"expected the data that the run was trained on (sha256 {self.data_sha256}), found "
                f"the same names with other content ({own.sha256})"
            )
        return own

    def never_saw(self, data: Dataset) -> Dataset:
        """The cases that are new to the network; may be empty."""
        return data.with_cases(case for case in data.cases if case.name not in self.known_cases)


def read_run(model: Path) -> Trained:
    """A run by its folder, or by the `model.keras` in it.

    Raises `NotExportable` for a run that is not finished or not there, and for a network that is
    not the one its configuration describes; `DamagedNetwork` for a file that holds none.
    """
    folder = RunFolder(model if model.is_dir() else model.parent)
    if not model.exists():
        raise NotExportable(f"{model}: expected a run's folder or its model.keras, found nothing")
    if not model.is_dir() and model != folder.model_path:
        name = folder.model_path.name
        raise NotExportable(f"expected {name}, the network of a finished run, found {model.name}")
    for path in (folder.config_path, folder.data_path):
        if not path.exists():
            raise NotExportable(f"{folder.path}: expected {path.name} of the run, found none")
    if not folder.finished:
        raise NotExportable(
            f"{folder.path}: expected a finished run, found one without {folder.model_path.name}"
        )
    config, facts = folder.config(), folder.data()
    if config.network.context != 1:
        raise NotExportable(
            f"expected a network that sees one slice at a time, found {config.network.context}"
        )
    keras.config.set_dtype_policy("float32")
    network = load_network(folder.model_path)
    _check_is_described(network, config)
    return Trained(
        network=_in_float32(network, config.grid),
        config=config,
        cases=tuple(facts["cases"]),
        known_cases=folder.known_cases(),
        slices=facts["slices"],
        data_sha256=facts["sha256"],
        training_slices=folder.training_slices(),
    )


def _check_is_described(network: keras.Model, config: TrainingConfig) -> None:
    described = finest(build_network(config.network, config.grid, CLASSES))
    if weight_shapes(network) != weight_shapes(described):
        filters = "-".join(str(count) for count in config.network.filters)
        raise NotExportable(
            f"expected the network that the configuration describes ({config.network.architecture} "
            f"with filters {filters}), found {network.name} with {network.count_params()} "
            f"parameters instead of {described.count_params()}"
        )


def _in_float32(network: keras.Model, grid: int) -> keras.Model:
    """The same layers and weights for slices of one size, whatever precision they learned in."""

    def rebuilt(layer: keras.layers.Layer) -> keras.layers.Layer:
        return type(layer).from_config(layer.get_config() | {"dtype": "float32"})

    image = keras.Input((grid, grid, 1), name="image")
    inputs = keras.tree.map_structure(lambda _: image, network.input)  # a tensor, or a list of one
    same = keras.models.clone_model(network, input_tensors=inputs, clone_function=rebuilt)
    same.set_weights(network.get_weights())
    return same
