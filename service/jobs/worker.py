"""Works on jobs: takes as many waiting ones as it has room for, runs each, hands back on ending.

A job's workflow is the steps label, publish and conclude; where a PACS is part of it, fetch comes
before them and deliver after publish. A step that is cut off runs again, here or in another
process; a PACS that gets an object again knows it by its UID.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress

import structlog
from pydantic import ValidationError

from service import tracing
from service.admission import SMALL_BYTES, SMALL_PLACES, Admission
from service.errors import (
    Abandoned,
    Cancelled,
    InternalError,
    ServiceError,
    ShuttingDown,
    StorageFull,
    Unavailable,
)
from service.inference.segment import Segmenter
from service.jobs.bus import Bus, Message
from service.jobs.endings import Endings, cancelled
from service.jobs.engine import Engine
from service.jobs.live import DELIVER, DONE, QUEUED, LiveJob, LiveJobs
from service.jobs.records import JobError, JobRequest, JobRow, Lane, now_ms
from service.jobs.registry import SUSPECT_AFTER, Registry
from service.jobs.steps import AGAIN_S, Fresh, Interrupted, Task, persist, recorded
from service.logs import place_of
from service.metrics import Metrics
from service.pacs.nodes import Pacs
from service.pipeline import Run
from service.settings import Settings
from service.stopping import StopSignal
from service.store import Store

MAX_ATTEMPTS = 5
"""Times that a job is begun: one that ends its process as often is given up."""

FETCHES = 4
"""Series fetched at once by one process; each holds an instance in memory."""

_BACK_OF_GRACE = 0.2
"""The part of the grace that is left for handing back, which waits for the end of a batch."""

BACK_S = 5.0
"""The least that is waited for that; who has not noticed by then is cut off with the process."""

BEGIN_S = 60.0
"""After which a job waits again that the engine did not begin."""

LOOK_S = 1.0
"""Until it looks for waiting jobs although nobody said that there are any."""

_log = structlog.get_logger(__name__)


class Worker:
    """Runs jobs in this process; from `begin` until `drain`."""

    def __init__(
        self,
        executor: str,
        settings: Settings,
        registry: Registry,
        store: Store,
        bus: Bus,
        endings: Endings,
        model: Segmenter,
        admission: Admission,
        pacs: Pacs,
        fresh: Fresh,
        metrics: Metrics,
    ) -> None:
        self._executor, self._settings = executor, settings
        self._registry, self._store, self._bus = registry, store, bus
        self._endings = endings
        self._model, self._admission = model, admission
        self._pacs, self._fresh, self._metrics = pacs, fresh, metrics
        self.live = LiveJobs()
        self._claiming = threading.Lock()
        self._wake = threading.Event()
        self._draining = threading.Event()
        self._thread = threading.Thread(target=self._claim_on, name="worker", daemon=True)
        self._listening = bus.listening(self._hear)

    def begin(self, engine: Engine) -> None:
        """Take jobs from now on."""
        self._engine = engine
        self._listening.__enter__()
        self._thread.start()

    def stop_claiming(self) -> None:
        """Take no further job; those that have not begun go back at once. Does not block."""
        self._draining.set()
        self._wake.set()

    @property
    def is_claiming(self) -> bool:
        """Whether it takes jobs that wait."""
        return not self._draining.is_set()

    def drain(self, grace_s: float) -> None:
        """End within so many seconds: what is not done after most of them goes back."""
        end = time.monotonic() + grace_s
        self.stop_claiming()
        self._thread.join(LOOK_S + grace_s)
        for job in self.live.all():
            if job.stage in (QUEUED, DELIVER):
                self._interrupt(job)
        self._await_ended(end - _BACK_OF_GRACE * grace_s)
        for job in self.live.all():
            self._interrupt(job)
        self._await_ended(max(end, time.monotonic() + BACK_S))

    def _await_ended(self, until: float) -> None:
        for job in self.live.all():
            job.ended.wait(max(0.0, until - time.monotonic()))

    def close(self) -> None:
        """Hear no more; after `drain`."""
        self._listening.__exit__(None, None, None)

    def check(self) -> None:
        """Compare with what the registry says that this process holds, and mend either.

        A job that has ended or is no longer its own is stopped; one that it does not know, since
        the database went away in the wrong moment, waits again, and so does one that was not begun.
        """
        with self._claiming:
            rows = {row.folder: row for row in self._registry.of_executor(self._executor)}
            known = {job.row.folder: job for job in self.live.all()}
        for folder, row in rows.items():
            if folder not in known and row.status == "running":
                self._registry.hand_back(row, self._executor, was_tried=True)
        for folder, job in known.items():
            is_mine = folder in rows and rows[folder].finished_ms is None
            if not is_mine:
                self._interrupt(job)
            if not job.has_begun and time.monotonic() - job.taken > BEGIN_S:
                _log.error("job not begun", job_id=job.row.id)
                self._end(job.row)
                if is_mine:
                    self._registry.hand_back(job.row, self._executor, was_tried=True)

    def _interrupt(self, job: LiveJob) -> None:
        job.stop.stop(ShuttingDown("The service ended before the work was done."))

    def _hear(self, message: Message) -> None:
        if message.word == "waits":
            self._wake.set()
        elif message.word == "stop":
            job = self.live.get(message.job_id)
            if job is not None:
                job.stop.stop(cancelled())

    # Taking jobs

    def _claim_on(self) -> None:
        while not self._draining.is_set():
            self._wake.wait(LOOK_S)
            self._wake.clear()
            try:
                self._claim()
            except (Unavailable, StorageFull) as error:
                _log.warning("cannot take jobs", code=error.code, why=str(error))
                self._draining.wait(LOOK_S)
            except Exception as error:
                _log.error("taking jobs failed", place=place_of(error))
                self._draining.wait(LOOK_S)

    def _claim(self) -> None:
        with self._claiming:
            if self._draining.is_set() or self.live.has_suspect:
                return
            # One of each lane at a time, so that others get their share of what waits.
            places = {lane: min(1, free) for lane, free in self._free().items()}
            rows = self._registry.claim(self._executor, places, self.live.is_idle)
            begun = [
                row
                for row in rows
                if self.live.begin(row, _stop_of(row), row.attempts > SUSPECT_AFTER)
            ]
        for row in rows:
            if row in begun:
                self._start(row)
            else:
                self._registry.hand_back(row, self._executor, was_tried=False)
        if begun:
            self._wake.set()

    def _free(self) -> Mapping[Lane, int]:
        """Places that nothing in this process needs."""
        places: dict[Lane, int] = {
            "small": SMALL_PLACES,
            "large": self._settings.max_running,
            "fetch": FETCHES,
        }
        for job in self.live.all():
            if job.stage not in (DELIVER, DONE):
                places[job.lane] -= 1
        return places

    def _start(self, row: JobRow) -> None:
        try:
            self._engine.start(row.id, is_first=row.claims == 1)
        except Exception as error:
            _log.error("job not begun", job_id=row.id, place=place_of(error))
            self.live.end(row.id)
            with suppress(Unavailable, StorageFull):
                self._registry.hand_back(row, self._executor, was_tried=True)

    # Working on one

    def work(self, job_id: str) -> None:
        """A job's workflow."""
        live = self.live.get(job_id)
        if live is None or live.has_begun:  # the engine's own idea, or one of its late ones
            raise Interrupted
        live.has_begun = True
        row = live.row
        try:
            with tracing.job(row.id, row.attempts, row.traceparent):
                self._perform(row, live)
            with suppress(Unavailable, StorageFull):  # found again by the housekeeping
                self._endings.tidy(row)
        except Interrupted:
            self._hand_back(row)
            raise
        except BaseException:  # the engine's too: the job is another's by now, or deleted
            with suppress(Unavailable, StorageFull):
                self._endings.tidy(row)
            raise
        finally:
            self._end(row)

    def _end(self, row: JobRow) -> None:
        self.live.end(row.id)
        self._fresh.take(row.folder)
        self._wake.set()

    def _hand_back(self, row: JobRow) -> None:
        """Best done at once; else `check` finds that this process does not work on it."""
        with suppress(Unavailable, StorageFull):
            self._registry.hand_back(row, self._executor, was_tried=False)
            found = self._registry.get(row.id)
            if found is None or found.folder != row.folder or found.finished_ms is not None:
                self._endings.tidy(row)
        self._bus.send(Message("waits", row.id))

    def _perform(self, row: JobRow, live: LiveJob) -> None:
        timings_s: Mapping[str, float] = {}
        try:
            if row.attempts > MAX_ATTEMPTS:
                raise Abandoned(f"The service ended {MAX_ATTEMPTS} times while it worked on this.")
            request = _asked(row)
            run = Run(
                request.options, self._model, live.stop, live.advance, live.enter, row.priority
            )
            timings_s = run.timings_s
            task = Task(
                row, request, run, self._store, self._settings, self._pacs, live, self._registry,
                self._metrics, self._fresh.take(row.folder),
            )  # fmt: skip
            error = None if request.origin is None else task.step("fetch", task.fetch)
            error = error or self._segment(task, live)
            if error is None and request.delivery is not None:
                persist(lambda: self._registry.begin_delivery(row, self._executor), live.stop)
                live.enter(DELIVER)
                self._wake.set()  # its place is free
                error = task.step("deliver", task.deliver)
        except ShuttingDown as reason:
            raise Interrupted from reason
        except ServiceError as reason:
            error = JobError.of(reason)
        ended = error
        if ended is not None:
            tracing.failed(tracing.current(), ended.code)

        def say_so() -> None:
            live.enter(DONE)  # first: whoever sees the end may send the next job
            while True:
                try:
                    return self._endings.conclude_held(row, ended, timings_s, live.progress)
                except (StorageFull, Unavailable) as error:
                    # A deadline that has passed is no reason not to say so.
                    if isinstance(live.stop.reason, ShuttingDown | Cancelled):
                        raise Interrupted from error
                    time.sleep(AGAIN_S)

        recorded("conclude", say_so)

    def _segment(self, task: Task, live: LiveJob) -> JobError | None:
        """The steps that hold a volume in memory, which take turns."""
        size = persist(lambda: task.input_bytes, live.stop)  # which the store may have to tell
        if live.lane == "fetch":
            live.lane = "small" if size <= SMALL_BYTES else "large"
            live.enter(QUEUED)
            self._wake.set()
            while self.live.has_suspect and not live.is_alone:  # which nothing may run beside
                live.stop.pause(AGAIN_S)
        with self._admission.turn(size, live.stop, live.row.priority) as turn:
            error = task.step("label", lambda: task.label(turn))
            return error or task.step("publish", task.publish)


def _asked(row: JobRow) -> JobRequest:
    try:
        return row.asked
    except ValidationError as error:
        raise InternalError("It was accepted by another version of the service.") from error


def _stop_of(row: JobRow) -> StopSignal:
    if row.deadline_ms is None:
        return StopSignal()
    left_s = max(0.0, (row.deadline_ms - now_ms()) / 1000)
    return StopSignal(left_s, allowed_s=(row.deadline_ms - row.created_ms) / 1000)
