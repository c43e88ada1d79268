"""The folder of a training run: what is in it, and that it stays one run."""

import csv
import fcntl
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from training.config import TrainingConfig
from training.data import Dataset
from training.files import read_facts, replacing, sha256_of, write_whole

LOG_FIELDS = ("epoch", "loss", "seconds", "liver_dice", "tumor_dice")


class AnotherRun(ValueError):
    """The folder holds a run of another configuration or of other data."""


class RunGoesOn(ValueError):
    """Another process is at work in the folder."""


class UnknownStart(ValueError):
    """Weights to start from of which nobody knows what they learned from."""


class DamagedNetwork(ValueError):
    """A file that holds no whole network."""


def load_network(path: Path, *, to_learn: bool = False) -> keras.Model:
    """A network, with its optimiser where it is `to_learn` on. Raises `DamagedNetwork`."""
    try:
        return keras.models.load_model(path, compile=to_learn)
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        found = "a damaged file" if path.exists() else "none"
        raise DamagedNetwork(f"{path}: expected a Keras model, found {found}") from error


def claim(path: Path, facts: dict[str, Any], what: str) -> None:
    """Note the facts where none are noted. Raises `AnotherRun` where others are."""
    if not path.exists():
        write_whole(path, json.dumps(facts, indent=2))
    _check_same(read_facts(path), facts, path.parent, what)


def claim_settings(path: Path, config: TrainingConfig) -> None:
    """The same for a configuration. One noted before a setting came up has its default."""
    facts = config.model_dump(mode="json")
    if not path.exists():
        write_whole(path, json.dumps(facts, indent=2))
    found = TrainingConfig.of_run(path).model_dump(mode="json")
    _check_same(found, facts, path.parent, "configuration")


def _names(data: Dataset) -> list[str]:
    return sorted(case.name for case in data.cases)


def _check_same(found: dict[str, Any], facts: dict[str, Any], folder: Path, what: str) -> None:
    if found != facts:
        keys = sorted(facts.keys() | found.keys())
        other = ", ".join(key for key in keys if facts.get(key) != found.get(key))
        raise AnotherRun(f"{folder}: expected a run of this {what}, found another ({other})")


@dataclass(frozen=True)
class Start:
    """The files that a network starts from; without any it starts at random.

    `encoder` holds ImageNet weights of a ResNet-50, `network` is an earlier run's `model.keras`.
    """

    encoder: Path | None = None
    network: Path | None = None

    def facts(self) -> dict[str, Any]:
        """What the files are, and what the earlier run had seen.

        Raises `UnknownStart` where no run lies beside `network`: its cases would pass for new ones.
        """
        facts: dict[str, Any] = {
            "encoder_weights_sha256": self.encoder and sha256_of(self.encoder),
            "first_weights_sha256": self.network and sha256_of(self.network),
        }
        if self.network is None:
            return facts
        earlier = RunFolder(self.network.parent)
        if not (earlier.data_path.exists() and earlier.config_path.exists()):
            raise UnknownStart(
                f"expected {earlier.data_path.name} and {earlier.config_path.name} beside "
                f"{self.network.name}, to know what it learned from, found not both"
            )
        return facts | {
            "known_before": list(earlier.known_cases()),
            "slices_before": earlier.training_slices(),
        }


AT_RANDOM = Start()


@dataclass(frozen=True)
class RunFolder:
    """Configuration, data, log, checkpoint and the finished network of one run."""

    path: Path

    @property
    def config_path(self) -> Path:
        return self.path / "config.json"

    @property
    def data_path(self) -> Path:
        return self.path / "data.json"

    @property
    def log_path(self) -> Path:
        return self.path / "log.csv"

    @property
    def checkpoint_path(self) -> Path:
        return self.path / "checkpoint.keras"

    @property
    def best_path(self) -> Path:
        """The network that did best on held-out cases, while a run that looks at them goes on."""
        return self.path / "best.keras"

    @property
    def model_path(self) -> Path:
        """The trained network: there only once the run has ended."""
        return self.path / "model.keras"

    @property
    def tensorboard_path(self) -> Path:
        return self.path / "tensorboard"

    @property
    def finished(self) -> bool:
        return self.model_path.exists()

    @property
    def start_path(self) -> Path:
        return self.path / "start.json"

    def claim(
        self,
        config: TrainingConfig,
        data: Dataset,
        start: Start = AT_RANDOM,
        chosen_on: Dataset | None = None,
    ) -> None:
        """Note what this run is; `chosen_on` are cases that choose its network.

        Raises `AnotherRun` where the folder holds another one, and `UnknownStart`.
        """
        facts = {
            "sha256": data.sha256,
            "cases": _names(data),
            "slices": len(data.slices),
            "chosen_on": _names(chosen_on) if chosen_on else [],
        }
        began = start.facts()
        self.path.mkdir(parents=True, exist_ok=True)
        claim_settings(self.config_path, config)
        claim(self.data_path, facts, "training data")
        claim(self.start_path, began, "start")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else trains in the folder meanwhile. Raises `RunGoesOn` where somebody does."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found = f"{self.path}: expected no other process at work there, found one"
                raise RunGoesOn(found) from None
            yield

    def known_cases(self) -> tuple[str, ...]:
        """Names of all cases that are no strangers to the network: those that it learned from,
        those that chose it, the same of the runs that it started from, and others of their
        patients, as far as the configuration names them.

        Raises FileNotFoundError where the folder holds no run.
        """
        facts, began = self.data(), self._start()
        known = {*facts["cases"], *facts.get("chosen_on", ()), *began.get("known_before", ())}
        groups = [group for group in self.config().same_patient if known & set(group)]
        return tuple(sorted(known.union(*groups)))

    def _start(self) -> dict[str, Any]:
        if not self.start_path.exists():
            return {}
        return read_facts(self.start_path)

    def config(self) -> TrainingConfig:
        """Raises FileNotFoundError where the folder holds no run."""
        return TrainingConfig.of_run(self.config_path)

    def data(self) -> dict[str, Any]:
        """`sha256`, `cases` and `slices` of what the run was trained on, and `chosen_on`."""
        return read_facts(self.data_path)

    def save(self, model: keras.Model, path: Path) -> None:
        """Replace a model's file as a whole: a run killed while writing keeps the one before."""
        with replacing(path) as partial:
            model.save(partial)

    def log(self, **values: float) -> None:
        """Append one line to a log that was begun."""
        with self.log_path.open("a", newline="") as file:
            csv.DictWriter(file, LOG_FIELDS, lineterminator="\n").writerow(values)

    def training_slices(self) -> int:
        """Slices, or crops, that the network has seen, with those of the runs that it started from:
        fewer than planned where it stopped early.

        Without a log those planned. Raises FileNotFoundError where the folder holds no run.
        """
        config = self.config()
        epochs = len({line["epoch"] for line in self.logged()}) or config.epochs
        before: int = self._start().get("slices_before", 0)
        return before + config.training_slices // config.epochs * epochs

    def begin_log(self, epochs: int) -> None:
        """Write the header, with the lines of so many epochs where there are any.

        What was logged after them is forgotten: a run stopped between the line of an epoch and its
        checkpoint does that epoch again.
        """
        earlier = self.log_path.read_text().splitlines()[1:] if self.log_path.exists() else []
        lines = [",".join(LOG_FIELDS), *earlier[:epochs]]
        write_whole(self.log_path, "".join(f"{line}\n" for line in lines))

    def logged(self) -> list[dict[str, float]]:
        """The log's lines, each without the values that it does not have; empty without a log."""
        if not self.log_path.exists():
            return []
        with self.log_path.open(newline="") as file:
            return [
                {name: float(value) for name, value in line.items() if value}
                for line in csv.DictReader(file)
            ]
