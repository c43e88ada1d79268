"""Jobs that this process works on or has queued: how far each is, and who waits for it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.decode.readable import Readable
from service.stopping import StopSignal

DELIVER = "deliver"
DONE = "done"
"""The stage of a job whose end is written down, or about to be."""

_BEGINS_AT = {
    "fetch": 0.0,
    "inspect": 0.02,
    "read": 0.03,
    "label": 0.05,
    "clean_up": 0.9,
    "publish": 0.94,
    DELIVER: 0.97,
}
"""How far a job is when a stage begins; labelling fills most of the time."""


@dataclass
class LiveJob:
    """One unfinished job. `stage` is `queued` until it has its turn.

    `readable` is its input where that is small and was checked in this process. `accepted` is set
    once the job will be finished whatever happens, or there is no such job after all.
    """

    readable: Readable | None = None
    stop: StopSignal = field(default_factory=StopSignal)
    stage: str = "queued"
    fraction: float = 0.0
    accepted: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    callbacks: list[Callable[[], None]] = field(default_factory=list)

    def enter(self, stage: str) -> None:
        """A stage of the pipeline begins."""
        self.stage = stage
        self.fraction = _BEGINS_AT.get(stage, self.fraction)

    def advance(self, done: int, total: int) -> None:
        """So many of the slices are labelled."""
        begin, end = _BEGINS_AT["label"], _BEGINS_AT["clean_up"]
        self.fraction = begin + (end - begin) * done / total


class LiveJobs:
    """The unfinished jobs of this process, by id; from any thread."""

    def __init__(self) -> None:
        self._jobs: dict[str, LiveJob] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Jobs that have not ended."""
        return sum(job.stage != DONE for job in self.all())

    @property
    def delivering(self) -> int:
        """Those of them whose result is there, and whose PACS is waited for."""
        return sum(job.stage == DELIVER for job in self.all())

    def begin(self, job_id: str) -> LiveJob:
        """The job's entry, made where there is none."""
        with self._lock:
            return self._jobs.setdefault(job_id, LiveJob())

    def get(self, job_id: str) -> LiveJob | None:
        return self._jobs.get(job_id)

    def all(self) -> tuple[LiveJob, ...]:
        with self._lock:
            return tuple(self._jobs.values())

    def end(self, job_id: str) -> None:
        """Take a job out and tell whoever waits."""
        with self._lock:
            job = self._jobs.pop(job_id, None)
        if job is not None:
            job.accepted.set()
            job.ended.set()
            for callback in tuple(job.callbacks):
                callback()

    @contextmanager
    def listening(self, job_id: str, callback: Callable[[], None]) -> Iterator[None]:
        """Call back once when the job ends, at once where it is not live."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None:
                job.callbacks.append(callback)
        if job is None:
            callback()
        try:
            yield
        finally:
            if job is not None:
                job.callbacks.remove(callback)
