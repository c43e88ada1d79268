"""What all parts of `make fault` share: studies, what an undisturbed run makes of them, counts."""

import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from reliability.process import Answer, Server, check
from reliability.studies import Study
from service.inference.batching import Batcher
from service.inference.session import ModelSession
from service.jobs.kept import keep
from service.pipeline import Options, Result, run
from service.settings import Settings
from service.store import Store

AT = "/v1/segmentations"
ASYNC = {"Prefer": "respond-async"}

FINISH_S = 120
"""For all accepted jobs of a round, once the service is left alone."""


@dataclass
class Bench:
    """Studies, their right results, and a folder in which every part has one of its own."""

    folder: Path
    rng: random.Random
    studies: list[Study]
    results: Mapping[str, Result]
    counts: dict[str, float] = field(default_factory=dict)

    def count(self, what: str, more: float = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + more

    @contextmanager
    def data_folder(self) -> Iterator[Path]:
        """A new data folder; the service's log lies beside it. Both stay where the block fails."""
        parent = Path(tempfile.mkdtemp(dir=self.folder))
        yield parent / "data"
        shutil.rmtree(parent)

    def kept(self, study: Study, made_at: datetime) -> dict[str, bytes]:
        """The objects that a job of this study must have left, by name."""
        return kept_of(self.results[study.name], made_at)


def kept_of(result: Result, made_at: datetime) -> dict[str, bytes]:
    """The objects of one result, by name."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(None, Path(folder) / "store", Path(folder), 0)
        keep(store, "job", result, made_at)
        at = Path(folder) / "store" / "job"
        return {path.name: path.read_bytes() for path in at.iterdir()}


def undisturbed(wanted: list[Study], model: Path | None = None) -> dict[str, Result]:
    """Every study through the pipeline in this process, alone."""
    settings = Settings(device="cpu", **({} if model is None else {"model": model}))
    batcher = Batcher(ModelSession.open(settings.model, "cpu"), settings.batch_slices)
    try:
        return {study.name: run(study.files, Options(), batcher, settings) for study in wanted}
    finally:
        batcher.close()


def create(server: Server, study: Study, headers: Mapping[str, str] = ASYNC) -> Answer:
    return server.ask("POST", AT, study.body, {"Content-Type": study.media_type, **headers})


def accepted(answer: Answer) -> str:
    """The id of a job that was accepted. Raises `Wrong` for any other answer."""
    check(answer.status in (201, 202), f"a good study was answered with {answer.status}")
    return str(answer.json()["id"])
