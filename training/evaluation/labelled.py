"""Cases that a model has labelled, kept on disk until the figures are written."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from training.data import Case
from training.evaluation.predictors import Opened
from training.prediction import Prediction

_FOLDER = "labelled.partial"


@dataclass(frozen=True)
class _Kept:
    """Labels a case once; what was labelled before, by the same model, is read."""

    opened: Opened
    folder: Path

    def __call__(self, case: Case) -> Prediction:
        path = self.folder / f"{case.sha256}.npz"
        if path.exists():
            return Prediction.load(path)
        found = self.opened.predict(case)
        found.save(path)
        return found


@contextmanager
def labelled_once(out: Path) -> Iterator["Labelled"]:
    """What is labelled in this block stays below `out` where the block is cut off, and goes where
    it ends well, so that the same command goes on after the last labelled case.
    """
    folder = out / _FOLDER
    out.mkdir(parents=True, exist_ok=True)
    yield Labelled(folder)
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Labelled:
    """Where labelled cases are kept."""

    folder: Path

    def of(self, opened: Opened) -> Opened:
        """The same, but each case is labelled once. Predictions that are kept anyway stay so."""
        if opened.subject.kind == "out_of_fold":
            return opened
        subject = hashlib.sha256(opened.subject.model_dump_json().encode()).hexdigest()
        return replace(opened, predict=_Kept(opened, self.folder / subject))
