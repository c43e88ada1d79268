"""Cases that a model has labelled, kept on disk until the figures are written."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from training.data import Case
from training.evaluation.predictors import Opened
from training.evaluation.results import Conditions
from training.prediction import Prediction

_FOLDER = "labelled.partial"


@contextmanager
def labelled_once(out: Path, conditions: Conditions) -> Iterator[Callable[[Opened], Opened]]:
    """Gives what makes a model label each case once.

    What it labelled stays below `out` where the block is cut off, and goes where it ends well: so
    the same command goes on after the last labelled case. Other conditions label anew, since a
    service's answers depend on them. Out-of-fold predictions are kept anyway.
    """
    out.mkdir(parents=True, exist_ok=True)
    folder = out / _FOLDER

    def once(opened: Opened) -> Opened:
        if opened.subject.kind == "out_of_fold":
            return opened
        asked = opened.subject.model_dump_json() + conditions.model_dump_json()
        own = folder / hashlib.sha256(asked.encode()).hexdigest()

        def predict(case: Case) -> Prediction:
            path = own / f"{case.sha256}.npz"
            if not path.exists():
                opened.predict(case).save(path)
            return Prediction.load(path)

        return replace(opened, predict=predict)

    yield once
    shutil.rmtree(folder, ignore_errors=True)
