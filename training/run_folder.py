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
from training.files import sha256_of, write_whole

LOG_FIELDS = ("epoch", "loss", "seconds", "liver_dice", "tumor_dice")


class AnotherRun(ValueError):
    """The folder holds a run of another configuration or of other data."""


class RunGoesOn(ValueError):
    """Another process is at work in the folder."""


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
    _check_same(json.loads(path.read_text()), facts, path.parent, what)


def claim_settings(path: Path, config: TrainingConfig) -> None:
    """The same for a configuration. One noted before a setting came up has its default."""
    facts = config.model_dump(mode="json")
    if not path.exists():
        write_whole(path, json.dumps(facts, indent=2))
    found = TrainingConfig.model_validate_json(path.read_text()).model_dump(mode="json")
    _check_same(found, facts, path.parent, "configuration")


def _check_same(found: dict[str, Any], facts: dict[str, Any], folder: Path, what: str) -> None:
    if found != facts:
        keys = sorted(facts.keys() | found.keys())
        other = ", ".join(key for key in keys if facts.get(key) != found.get(key))
        raise AnotherRun(f"{folder}: expected a run of this {what}, found another ({other})")


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

    def claim(
        self,
        config: TrainingConfig,
        data: Dataset,
        encoder_weights: Path | None = None,
        first_weights: Path | None = None,
    ) -> None:
        """Note what this run is. Raises `AnotherRun` where the folder holds another one."""
        cases = sorted(case.name for case in data.cases)
        facts = {"sha256": data.sha256, "cases": cases, "slices": len(data.slices)}
        weights = {"encoder_weights": encoder_weights, "first_weights": first_weights}
        start = {f"{what}_sha256": path and sha256_of(path) for what, path in weights.items()}
        self.path.mkdir(parents=True, exist_ok=True)
        claim_settings(self.config_path, config)
        claim(self.data_path, facts, "training data")
        claim(self.path / "start.json", start, "start")

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

    def config(self) -> TrainingConfig:
        """Raises FileNotFoundError where the folder holds no run."""
        return TrainingConfig.model_validate_json(self.config_path.read_text())

    def data(self) -> dict[str, Any]:
        """`sha256`, `cases` and `slices` of what the run was trained on."""
        facts: dict[str, Any] = json.loads(self.data_path.read_text())
        return facts

    def save(self, model: keras.Model, path: Path) -> None:
        """Replace a model's file as a whole: a run killed while writing keeps the one before."""
        partial = path.with_name("partial.keras")
        model.save(partial)
        partial.replace(path)

    def log(self, **values: float) -> None:
        """Append one line, under a header where the log is new."""
        new = not self.log_path.exists()
        with self.log_path.open("a", newline="") as file:
            writer = csv.DictWriter(file, LOG_FIELDS)
            if new:
                writer.writeheader()
            writer.writerow(values)

    def training_slices(self) -> int:
        """Slices, or crops, that the run has seen: fewer than planned where it stopped early.

        Without a log those planned. Raises FileNotFoundError where the folder holds no run.
        """
        config = self.config()
        epochs = len({line["epoch"] for line in self.logged()}) or config.epochs
        return config.training_slices // config.epochs * epochs

    def cut_log(self, epochs: int) -> None:
        """Forget what was logged after so many epochs: a run stopped between the line of an epoch
        and its checkpoint does that epoch again.
        """
        if self.log_path.exists():
            lines = self.log_path.read_text().splitlines(keepends=True)
            write_whole(self.log_path, "".join(lines[: 1 + epochs]))

    def logged(self) -> list[dict[str, float]]:
        """The log's lines, each without the values that it does not have; empty without a log."""
        if not self.log_path.exists():
            return []
        with self.log_path.open(newline="") as file:
            return [
                {name: float(value) for name, value in line.items() if value}
                for line in csv.DictReader(file)
            ]
