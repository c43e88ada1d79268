"""The folder of a training run: what is in it, and that it stays one run."""

import csv
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from training.config import TrainingConfig
from training.data import Dataset

LOG_FIELDS = ("epoch", "loss", "seconds", "liver_dice", "tumor_dice")


class AnotherRun(ValueError):
    """The folder holds a run of another configuration or of other data."""


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
    found = json.loads(path.read_text())
    if found != facts:
        keys = sorted(facts.keys() | found.keys())
        other = ", ".join(key for key in keys if facts.get(key) != found.get(key))
        raise AnotherRun(f"{path.parent}: expected a run of this {what}, found another ({other})")


def write_whole(path: Path, text: str) -> None:
    """Replace a file as a whole: on a full disk the one before is kept."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


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

    def claim(self, config: TrainingConfig, data: Dataset) -> None:
        """Note what this run is. Raises `AnotherRun` where the folder holds another one."""
        cases = sorted(case.name for case in data.cases)
        facts = {"sha256": data.sha256, "cases": cases, "slices": len(data.slices)}
        self.path.mkdir(parents=True, exist_ok=True)
        claim(self.config_path, config.model_dump(mode="json"), "configuration")
        claim(self.data_path, facts, "training data")

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
