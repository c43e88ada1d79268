"""K-fold cross-validation: every case is labelled by a network that never saw its patient."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.batches import EmptyKind, SliceBatches
from training.config import TrainingConfig
from training.context import case_as_seen
from training.data import Case, Dataset
from training.files import read_facts
from training.folds import Fold, check_apart, make_folds, patients_of
from training.parallel import Devices
from training.predict import NetworkPredictor
from training.prediction import Prediction
from training.run_folder import AT_RANDOM, RunFolder, Start, claim, claim_settings, load_network
from training.train import check_start, train


@dataclass(frozen=True)
class OutOfFold:
    """Where a cross-validation keeps its runs, and its predictions by case."""

    path: Path

    def fold(self, number: int) -> RunFolder:
        return RunFolder(self.path / f"fold-{number}")

    def prediction_path(self, case: Case) -> Path:
        return self.path / "predictions" / f"{case.name}.npz"

    def has(self, case: Case) -> bool:
        return self.prediction_path(case).exists()

    def prediction(self, case: Case) -> Prediction:
        """Raises FileNotFoundError for a case whose fold has not been run, and ValueError for other
        content under the name of a case.
        """
        if self._folds_path.exists():
            known = self._cases().get(case.name, {})
            if known.get("sha256") != case.sha256:
                raise ValueError(
                    f"{case.name}: expected the case of the cross-validation {self.path.name}, "
                    "found other content under its name"
                )
        return Prediction.load(self.prediction_path(case))

    def forget(self, fold: Fold) -> None:
        """Remove predictions of an earlier network, which is there no more."""
        for case in fold.held_out.cases:
            self.prediction_path(case).unlink(missing_ok=True)

    def claim(self, config: TrainingConfig, folds: Sequence[Fold]) -> None:
        """Note what is cross-validated. Raises `AnotherRun` where the folder holds another one."""
        cases = {
            case.name: {"fold": fold.number, "sha256": case.sha256}
            for fold in folds
            for case in fold.held_out.cases
        }
        self.path.mkdir(parents=True, exist_ok=True)
        claim_settings(self.path / "config.json", config)
        claim(self._folds_path, {"folds": len(folds), "cases": cases}, "cross-validation")

    def folds(self) -> dict[str, int] | None:
        """The number of the fold that held each case out; None where that was not noted."""
        if not self._folds_path.exists():
            return None
        return {name: facts["fold"] for name, facts in self._cases().items()}

    def _cases(self) -> dict[str, Any]:
        cases: dict[str, Any] = read_facts(self._folds_path)["cases"]
        return cases

    @property
    def _folds_path(self) -> Path:
        return self.path / "folds.json"


def cross_validate(
    config: TrainingConfig,
    data: Dataset,
    out: Path,
    folds: int,
    only: Sequence[int] = (),
    start: Start = AT_RANDOM,
    devices: Devices | None = None,
    tell: Callable[[str], None] = lambda _: None,
    *,
    workers: int = 1,
) -> OutOfFold:
    """Train a network for each fold (or those of `only`) and keep what it says of its cases.

    What is done already is not done again: an unfinished fold goes on after its last epoch.
    Held-out cases may be looked at while a fold learns, but choose nothing. Raises ValueError for
    folds that cannot be made or trained on, with nothing written, and `AnotherRun` where `out`
    holds other ones.
    """
    patients = patients_of(data.cases, config.same_patient)
    kept, made = OutOfFold(out), make_folds(data, patients, folds)
    unknown = sorted(set(only) - set(range(folds)))
    if unknown:
        raise ValueError(f"expected folds 0 to {folds - 1}, found {unknown}")
    chosen = [fold for fold in made if not only or fold.number in only]
    check_start(config, data, start)
    if devices is not None and devices.machines > 1:
        raise ValueError("expected a cross-validation on one machine, found several")
    for fold in chosen:
        try:
            SliceBatches(fold.training.slices, config)
        except EmptyKind as error:
            raise EmptyKind(f"fold {fold.number} of {folds}: {error}") from error
        check_apart(fold.training, fold.held_out, patients)
    kept.claim(config, made)
    for fold in chosen:
        tell(_sentence(fold, folds))
        if not kept.fold(fold.number).finished:
            kept.forget(fold)
        train(
            config,
            fold.training,
            kept.fold(fold.number).path,
            start,
            held_out=fold.held_out,
            devices=devices,
            choose=False,
            workers=workers,
        )
        _predict(config, fold, kept)
    return kept


def _sentence(fold: Fold, folds: int) -> str:
    held_out = fold.held_out.cases
    with_tumor = sum(case.tumor_px > 0 for case in held_out)
    return (
        f"fold {fold.number} of {folds}: {len(fold.training.cases)} cases to learn from, "
        f"{len(held_out)} held out, {with_tumor} of them with tumour"
    )


def _predict(config: TrainingConfig, fold: Fold, kept: OutOfFold) -> None:
    missing = [case for case in fold.held_out.cases if not kept.has(case)]
    if not missing:
        return
    network = load_network(kept.fold(fold.number).model_path)
    predict = NetworkPredictor(network, config.grid, config.window)
    for case in missing:
        predict(case_as_seen(case, config)).save(kept.prediction_path(case))
