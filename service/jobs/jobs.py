"""The durable workflow around the pipeline: accept, run, watch, cancel, delete.

A job is a DBOS workflow of three steps (label, publish, conclude); where a PACS is part of it, it
begins with fetch or goes on with deliver. What a step leaves is in the store; DBOS keeps which
steps are done, never a volume. A step that is cut off runs again and writes the same bytes over
what it left, and a PACS that gets an object again knows it by its UID. The store's `outcome.json`,
written once, says how a job ended. A full disk makes a job wait and never fail.
"""

import hashlib
import re
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import structlog
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID
from pydantic import TypeAdapter
from sqlalchemy.exc import OperationalError

from service.admission import SMALL_BYTES, SMALL_VOXELS, Admission
from service.decode.readable import Readable
from service.errors import (
    Busy,
    Cancelled,
    IdempotencyConflict,
    InternalError,
    NoDicomSource,
    NoResult,
    NotFound,
    ServiceError,
    ShuttingDown,
    StorageFull,
)
from service.inference.segment import Segmenter
from service.jobs.kept import RESULT, Kept
from service.jobs.live import DONE, LiveJob, LiveJobs
from service.jobs.records import (
    DELIVERY,
    FETCHED,
    INPUT,
    LABELS,
    OUTCOME,
    REQUEST,
    Delivered,
    DeliveryOrder,
    JobError,
    JobRequest,
    Outcome,
    SeriesAtOrigin,
    Status,
    attempt,
    key,
    now,
)
from service.jobs.steps import Interrupted, Task, persist, recorded
from service.metrics import Metrics
from service.pacs.nodes import Pacs
from service.pipeline import Options, Run, rounded
from service.settings import Settings
from service.spool import Spool
from service.stopping import StopSignal
from service.store import Store

WORKFLOW = "segmentation"

FORMAT = "2"
"""Of what is written down of a job; a service goes on with unfinished jobs of its own format."""

MAX_ATTEMPTS = 5
"""Times that a job gets its turn: one that ends its process as often is given up.

The engine's own count has every job that was unfinished when the process ended, also those that had
not begun; so it is no more than a backstop.
"""

ENGINE_ATTEMPTS = 1000

MAX_DELIVERING = 1000
"""Results that wait for a PACS: each holds a thread, no volume, and no place of `max_jobs`."""

STOP_S = 60
"""How long to wait for a running job to notice that it was stopped."""

_WAITING = ("PENDING", "ENQUEUED", "DELAYED")
"""The engine's words for a workflow that has not ended."""

_ID = re.compile("[0-9a-f]{32}")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Job:
    """A job as it stands now; `stage` and `fraction` say how far it is."""

    request: JobRequest
    status: Status
    stage: str
    fraction: float
    outcome: Outcome | None


class Jobs:
    """The durable segmentations of this process. Methods block; none belongs on the event loop."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        model: Segmenter,
        admission: Admission,
        metrics: Metrics,
        pacs: Pacs,
    ) -> None:
        """Open the workflow engine, and go on with every job that was not finished."""
        self._settings, self._store = settings, store
        self._model, self._admission = model, admission
        self._metrics, self._pacs = metrics, pacs
        self._live = LiveJobs()
        self._claiming = threading.Lock()
        DBOS(config=_engine_config(settings))

        @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=ENGINE_ATTEMPTS)
        def work(job_id: str) -> None:
            self._work(job_id)

        self._workflow = work
        DBOS.launch()
        self._drop_unstarted()

    def close(self) -> None:
        """Stop what runs, to go on at the next start."""
        for job in self._live.all():
            job.stop.stop(ShuttingDown("The service ended before the work was done."))
        for job in self._live.all():
            job.ended.wait(STOP_S)
        DBOS.destroy(destroy_registry=True)

    @property
    def unfinished(self) -> int:
        """Jobs that are queued or run in this process."""
        return len(self._live)

    def check_room(self, idempotency_key: str | None = None) -> None:
        """Raise `Busy` or `StorageFull` where no job can be taken, before anything is read.

        A repeat of an earlier request needs no room.
        """
        if idempotency_key is not None and self._request(_job_id(idempotency_key)) is not None:
            return
        delivering = self._live.delivering
        if len(self._live) - delivering >= self._settings.max_jobs:
            raise Busy(f"Expected at most {self._settings.max_jobs} unfinished jobs, found more.")
        if delivering >= MAX_DELIVERING:
            raise Busy(f"Expected at most {MAX_DELIVERING} results to be delivered, found more.")
        self._store.check_space()

    def accept(
        self,
        spool: Spool,
        options: Options,
        idempotency_key: str | None,
        delivery: DeliveryOrder | None = None,
    ) -> str:
        """Write a job down and start it; returns its id, which is the first one's for a repeat.

        Raises `BadRequest` for what fails the checks of container, limits, headers and geometry,
        `UnknownNode`, `NoDicomSource` for other data whose objects are to be delivered,
        `IdempotencyConflict`, `Busy` and `StorageFull`; then there is no job.
        """
        asked = _Asked(options, delivery)
        request = asked.request(idempotency_key, spool)
        if self._is_repeat(request):
            return request.id
        self._check_order(delivery)
        self._store.check_space(spool.total_bytes)
        readable = Run(options, self._model).inspect(spool.files(), self._settings)
        if delivery is not None and readable.format != "dicom":
            raise NoDicomSource(f"Expected DICOM to be delivered, found {readable.format}.")
        small = spool.total_bytes <= SMALL_BYTES and readable.voxels <= SMALL_VOXELS
        return self._begin(request, spool, readable if small else None)

    def accept_series(
        self,
        origin: SeriesAtOrigin,
        options: Options,
        idempotency_key: str | None,
        delivery: DeliveryOrder | None,
    ) -> str:
        """The same for a series that is fetched from a PACS. Raises `UnknownNode`, `Busy` ..."""
        request = _Asked(options, delivery, origin).request(idempotency_key)
        if self._is_repeat(request):
            return request.id
        self._pacs.origin(origin.node)
        self._check_order(delivery)
        return self._begin(request, None, None)

    def _check_order(self, delivery: DeliveryOrder | None) -> None:
        if delivery is not None:
            self._pacs.node(delivery.node)

    def _begin(self, request: JobRequest, spool: Spool | None, readable: Readable | None) -> str:
        """Start a job, unless one with its id came at the same moment."""
        while (live := self._claim(request)) is None:
            if self._is_repeat(request):
                return request.id
        live.readable = readable  # a large one is read again, not to wait in memory
        self._start(request.id, spool)
        live.accepted.set()
        return request.id

    def get(self, job_id: str) -> Job:
        """A job as it stands. Raises `NotFound`."""
        request = self._request(job_id)
        if request is None:
            raise _unknown()
        live = self._live.get(job_id)  # before the outcome, which is there once it is gone
        outcome = self._outcome(job_id)
        if outcome is not None:
            return Job(request, outcome.status, DONE, 1.0, outcome)
        if live is None:
            return self._not_live(request)
        status: Status = "queued" if live.stage == "queued" else "running"
        return Job(request, status, live.stage, live.fraction, None)

    def list(self, limit: int, offset: int) -> tuple[list[Job], bool]:
        """So many jobs, the newest first, and whether more follow."""
        found = DBOS.list_workflows(
            name=WORKFLOW,
            limit=limit + 1,
            offset=offset,
            sort_desc=True,
            load_input=False,
            load_output=False,
        )
        jobs = []
        for workflow in found[:limit]:
            with suppress(NotFound):  # deleted since it was listed
                jobs.append(self.get(workflow.workflow_id))
        return jobs, len(found) > limit

    def delivered(self, job_id: str) -> Delivered | None:
        """What became of the objects that were sent, None where none were, or not yet."""
        data = self._store.get(key(job_id, DELIVERY))
        return None if data is None else Delivered.model_validate_json(data)

    def result(self, job_id: str) -> bytes | None:
        """The JSON of a result without its contours, None where there is no result."""
        return self._store.get(key(job_id, RESULT))

    def part(self, job_id: str, name: str) -> bytes | None:
        """One of the files of a result, None where the result has no such file.

        Raises `NotFound` for a job that there is not, `NoResult` for one without a result.
        """
        self._check_succeeded(job_id)
        return self._store.get(key(job_id, name))

    def kept(self, job_id: str) -> Kept:
        """What is drawn from a result on demand. Raises as `part` does."""
        self._check_succeeded(job_id)
        return Kept(self._store, job_id)

    def listening(self, job_id: str, callback: Callable[[], None]) -> AbstractContextManager[None]:
        """Call back when the job ends, at once where this process does not work on it."""
        return self._live.listening(job_id, callback)

    def cancel(self, job_id: str) -> Job:
        """Stop a job that is not finished; another stays as it is. Raises `NotFound`."""
        if self.get(job_id).outcome is None:
            cancelled = JobError.of(_cancelled())
            self._when_idle(job_id, lambda: self._conclude(job_id, cancelled))
        return self.get(job_id)

    def delete(self, job_id: str) -> None:
        """Stop a job and delete all that is kept of it. Raises `NotFound`.

        It writes nothing before it has deleted, since it may be wanted to make room.
        """
        self.get(job_id)
        self._when_idle(job_id, lambda: self._remove(job_id))
        _log.info("job deleted", job_id=job_id)

    def _not_live(self, request: JobRequest) -> Job:
        """A job without an outcome that this process does not work on: one that waits, or is lost.

        Lost is one that the engine gave up, for instance because the disk was full at its end.
        """
        with self._claiming:
            if self._request(request.id) is None:  # deleted meanwhile
                raise _unknown()
            workflow = DBOS.get_workflow_status(request.id)
            if workflow is None or workflow.status in _WAITING:
                return Job(request, "queued", "queued", 0.0, None)
            given_up = InternalError("The segmentation was given up.")
            self._conclude(request.id, JobError.of(given_up))
            outcome = self._outcome(request.id)
        status: Status = "failed" if outcome is None else outcome.status
        return Job(request, status, DONE, 1.0, outcome)

    def _check_succeeded(self, job_id: str) -> None:
        job = self.get(job_id)
        if job.status != "succeeded":
            raise NoResult(f"Expected a segmentation that has succeeded, found it {job.status}.")

    def _claim(self, request: JobRequest) -> LiveJob | None:
        """Take a request's id, None where it is taken. Raises `Busy` and `StorageFull`."""
        with self._claiming:
            self.check_room()
            written = request.model_dump_json().encode()
            if not self._store.create(key(request.id, REQUEST), written):
                return None
            return self._live.begin(request.id)

    def _is_repeat(self, request: JobRequest) -> bool:
        """Whether an earlier request with the same Idempotency-Key is accepted, or about to be.

        Waits until that is decided. Raises `IdempotencyConflict` where it asked for something else.
        """
        first = self._request(request.id)
        if first is None:
            return False
        if first.input_sha256 != request.input_sha256:
            raise IdempotencyConflict(
                "Expected the body and parameters that came with this key first."
            )
        live = self._live.get(request.id)
        if live is not None:
            live.accepted.wait()
        return self._request(request.id) is not None

    def _remove(self, job_id: str) -> None:
        """Delete all that is kept of a job; the request last: what is cut off can be repeated."""
        request = key(job_id, REQUEST)
        self._store.delete_all(job_id, but=request)
        try:
            DBOS.delete_workflow(job_id)
        except OperationalError as error:  # SQLite's word for a full disk
            raise StorageFull("Expected room to note that the job is deleted.") from error
        self._store.delete(request)

    def _start(self, job_id: str, spool: Spool | None) -> None:
        try:
            if spool is not None:
                self._store.put(key(job_id, INPUT), spool.chunks())
            with SetWorkflowID(job_id):
                DBOS.start_workflow(self._workflow, job_id)
        except BaseException as error:
            with suppress(Exception):  # most often it was not written
                DBOS.delete_workflow(job_id)
            self._store.delete_all(job_id)
            self._live.end(job_id)
            if isinstance(error, OperationalError):  # SQLite's word for a full disk
                raise StorageFull("Expected room for the job, found none.") from error
            raise
        _log.info("job accepted", job_id=job_id)

    def _when_idle(self, job_id: str, act: Callable[[], None]) -> None:
        """Stop the work on a job, and act while nobody can begin with it or take its id anew.

        Raises `Busy` where the work does not stop in time.
        """
        while True:
            with self._claiming:
                live = self._live.get(job_id)
                if live is None:
                    return act()
            live.stop.stop(_cancelled())
            if not live.ended.wait(STOP_S):
                raise Busy("Expected the job to stop, found it still at work.")

    def _drop_unstarted(self) -> None:
        """Delete what a process left that was killed before it had accepted a job."""
        known = {
            workflow.workflow_id
            for workflow in DBOS.list_workflows(name=WORKFLOW, load_input=False, load_output=False)
        }
        for job_id in self._store.prefixes():
            if job_id not in known:
                self._store.delete_all(job_id)

    def _request(self, job_id: str) -> JobRequest | None:
        if not _ID.fullmatch(job_id):  # it becomes a part of a key
            return None
        data = self._store.get(key(job_id, REQUEST))
        return None if data is None else JobRequest.model_validate_json(data)

    def _outcome(self, job_id: str) -> Outcome | None:
        data = self._store.get(key(job_id, OUTCOME))
        return None if data is None else Outcome.model_validate_json(data)

    def _work(self, job_id: str) -> None:
        """The workflow: also what a restarted process begins with."""
        with self._claiming:
            live = self._live.begin(job_id)
        live.accepted.set()
        try:
            request = self._request(job_id)
            if request is not None and self._outcome(job_id) is None:
                self._perform(request, live)
            self._forget_attempts(job_id)
            for name in (LABELS, INPUT, FETCHED):
                self._store.delete(key(job_id, name))
        finally:
            self._live.end(job_id)

    def _perform(self, request: JobRequest, live: LiveJob) -> None:
        run = Run(request.options, self._model, live.stop, live.advance, live.enter)
        task = Task(request, run, self._store, self._settings, self._pacs, live)
        try:
            error = None if request.origin is None else task.step("fetch", task.fetch)
            error = error or self._segment(request.id, task, live.stop)
            if error is None and request.delivery is not None:
                self._forget_attempts(request.id)  # they count what may end the process
                error = task.step("deliver", task.deliver)
        except ShuttingDown as reason:
            raise Interrupted from reason
        except ServiceError as reason:
            error = JobError.of(reason)
        ended = error

        def conclude() -> None:
            live.enter(DONE)  # first: whoever sees the end may send the next job
            try:
                persist(lambda: self._conclude(request.id, ended, run.timings_s), live.stop)
            except ServiceError as reason:  # stopped while there is no room to say so
                raise Interrupted from reason

        recorded("conclude", conclude)

    def _segment(self, job_id: str, task: Task, stop: StopSignal) -> JobError | None:
        """The steps that hold a volume in memory, which take turns."""
        turns = self._admission.turn(task.input_bytes, stop)
        with turns as turn, self._counted(job_id, stop):
            error = task.step("label", lambda: task.label(turn))
            return error or task.step("publish", task.publish)

    def _forget_attempts(self, job_id: str) -> None:
        for name in map(attempt, range(1, MAX_ATTEMPTS + 1)):
            self._store.delete(key(job_id, name))

    @contextmanager
    def _counted(self, job_id: str, stop: StopSignal) -> Iterator[None]:
        """Count a start of the job, unless the service ends it in good order.

        Raises `InternalError` where the job has begun too often.
        """
        keys = [key(job_id, attempt(number)) for number in range(1, MAX_ATTEMPTS + 1)]
        counted = persist(
            lambda: next((name for name in keys if self._store.create(name, b"")), None), stop
        )
        if counted is None:
            raise InternalError(f"The service ended {MAX_ATTEMPTS} times while it worked on this.")
        try:
            yield
        except Interrupted:
            self._store.delete(counted)
            raise

    def _conclude(
        self, job_id: str, error: JobError | None, timings_s: Mapping[str, float] | None = None
    ) -> None:
        """Write down how a job ended, unless that was done before."""
        status = "succeeded" if error is None else "failed"
        if error is not None and error.code == Cancelled.code:
            status = "cancelled"
        outcome = Outcome.model_validate(
            {"status": status, "finished_at": now(), "timings_s": timings_s or {}, "error": error}
        )
        if not self._store.create(key(job_id, OUTCOME), outcome.model_dump_json().encode()):
            return
        self._metrics.jobs.labels(status=status).inc()
        self._metrics.observe_stages(outcome.timings_s)
        _log.info(
            "job ended",
            job_id=job_id,
            status=status,
            code=error and error.code,
            stages=rounded(outcome.timings_s),
        )


def _unknown() -> NotFound:
    return NotFound("Expected the id of a segmentation, found another.")


def _cancelled() -> Cancelled:
    return Cancelled("The segmentation was cancelled by request.")


@dataclass(frozen=True)
class _Asked:
    """What a request asks for beside its files."""

    options: Options
    delivery: DeliveryOrder | None
    origin: SeriesAtOrigin | None = None

    def request(self, idempotency_key: str | None, spool: Spool | None = None) -> JobRequest:
        """Its record, under an id that follows from the Idempotency-Key where there is one."""
        job_id = uuid.uuid4().hex if idempotency_key is None else _job_id(idempotency_key)
        files = b"" if spool is None else spool.sha256.encode()
        return JobRequest(
            id=job_id,
            created_at=now(),
            options=self.options,
            file_bytes=() if spool is None else spool.sizes,
            input_sha256=hashlib.sha256(files + _ASKED.dump_json(self)).hexdigest(),
            origin=self.origin,
            delivery=self.delivery,
        )


_ASKED = TypeAdapter(_Asked)


def _job_id(idempotency_key: str) -> str:
    return hashlib.sha256(b"idempotency " + idempotency_key.encode()).hexdigest()[:32]


class _Connection(sqlite3.Connection):
    """The engine's database, whose commits wait for no disk: 0.01 ms each instead of 0.7 and more.

    Like the store it is safe against a killed process; a power cut may undo its last commits.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  # as SQLite has them
        super().__init__(*arguments, **named)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


def _engine_config(settings: Settings) -> DBOSConfig:
    return {
        "name": "liver-tumor-segmentation",
        "system_database_url": f"sqlite:///{settings.jobs_database.resolve()}",
        "db_engine_kwargs": {"connect_args": {"factory": _Connection}},
        "serializer": DBOSPortableJSONSerializer(),  # the default one stores pickles
        "application_version": FORMAT,
        "executor_id": "local",
        "use_listen_notify": False,
        # Nothing here listens for notifications; this is how long the engine takes to end.
        "notification_listener_polling_interval_sec": 0.25,
        "log_level": "CRITICAL",
        "console_log_level": "CRITICAL",
    }
