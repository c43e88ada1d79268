"""Jobs that this process works on: how far each is, and how to stop it."""

import threading
import time
from dataclasses import dataclass, field

from service.jobs.records import JobRow, Lane, Progress
from service.stopping import StopSignal

QUEUED = "queued"
FETCH = "fetch"
DELIVER = "deliver"
DONE = "done"
"""The stage of a job whose end is written down, or about to be."""

_BEGINS_AT = {
    FETCH: 0.0,
    "inspect": 0.02,
    "read": 0.03,
    "label": 0.05,
    "clean_up": 0.9,
    "publish": 0.94,
    DELIVER: 0.97,
    DONE: 1.0,
}
"""How far a job is when a stage begins; labelling fills most of the time."""


@dataclass
class LiveJob:
    """One job in work. `stage` is `queued` until it has its turn.

    `lane` is the place that it takes now; `is_alone` says that nothing may run beside it;
    `has_begun`, that its workflow has.
    """

    row: JobRow
    stop: StopSignal
    is_alone: bool
    lane: Lane
    stage: str = QUEUED
    fraction: float = 0.0
    slices_done: int = 0
    slices_total: int = 0
    taken: float = field(default_factory=time.monotonic)
    has_begun: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def progress(self) -> Progress:
        return Progress(self.stage, self.fraction, self.slices_done, self.slices_total)

    def enter(self, stage: str) -> None:
        """A stage of the pipeline begins."""
        self.stage = stage
        self.fraction = _BEGINS_AT.get(stage, self.fraction)

    def advance(self, done: int, total: int) -> None:
        """So many of the slices are labelled."""
        begin, end = _BEGINS_AT["label"], _BEGINS_AT["clean_up"]
        self.slices_done, self.slices_total = done, total
        self.fraction = begin + (end - begin) * done / total


class LiveJobs:
    """The jobs in work in this process, by id; from any thread."""

    def __init__(self) -> None:
        self._jobs: dict[str, LiveJob] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Jobs that have not ended."""
        return sum(job.stage != DONE for job in self.all())

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in work that may end this process; what waits for a PACS does not."""
        return all(job.stage in (FETCH, DELIVER, DONE) for job in self.all())

    @property
    def has_suspect(self) -> bool:
        """Whether one is in work that has to be alone."""
        return any(job.is_alone and job.stage not in (DELIVER, DONE) for job in self.all())

    def begin(self, row: JobRow, stop: StopSignal, is_alone: bool) -> bool:
        """A job was taken; false where an earlier one of its id has not quite ended here."""
        with self._lock:
            if row.id in self._jobs:
                return False
            self._jobs[row.id] = LiveJob(row, stop, is_alone, row.lane)
            return True

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
            job.ended.set()
