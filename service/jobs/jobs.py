"""The durable workflow around the pipeline: accept, run, watch, cancel, delete.

A job is a DBOS workflow of three steps (label, publish, conclude). What a step leaves is in the
store; DBOS keeps which steps are done, never a volume. A step that is cut off runs again and writes
the same bytes over what it left. The store's `outcome.json`, written once, says how a job ended.
"""

import hashlib
import re
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import structlog
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID
from pydantic import TypeAdapter
from sqlalchemy.exc import OperationalError

from service.admission import SMALL_VOXELS, Admission, Turn
from service.decode.readable import Readable
from service.errors import (
    Busy,
    Cancelled,
    IdempotencyConflict,
    InternalError,
    NoResult,
    NotFound,
    ServiceError,
    ShuttingDown,
    StorageFull,
)
from service.inference.segment import Segmenter
from service.inference.work import Labelled
from service.jobs.kept import RESULT, Kept, keep, pack, unpack
from service.jobs.live import LiveJob, LiveJobs
from service.jobs.records import (
    INPUT,
    LABELS,
    OUTCOME,
    REQUEST,
    JobError,
    JobRequest,
    Outcome,
    Status,
    key,
    now,
)
from service.logs import place_of
from service.metrics import Metrics
from service.pipeline import Options, Run
from service.settings import Settings
from service.spool import Spool
from service.store import Store
from service.volume import Scan

WORKFLOW = "segmentation"

FORMAT = "1"
"""Of what is written down of a job; a service goes on with unfinished jobs of its own format."""

MAX_ATTEMPTS = 5
"""Starts of one job: a job that ends its process as often is given up."""

STOP_S = 60
"""How long to wait for a running job to notice that it was stopped."""

_ID = re.compile("[0-9a-f]{32}")

_OPTIONS = TypeAdapter(Options)

_log = structlog.get_logger(__name__)


class Interrupted(BaseException):
    """The service ends: the job stays as it is and goes on at the next start.

    Not an `Exception`, since the workflow engine would write that down as the job's end.
    """


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
    ) -> None:
        """Open the workflow engine, and go on with every job that was not finished."""
        self._settings, self._store = settings, store
        self._model, self._admission = model, admission
        self._metrics = metrics
        self._live = LiveJobs()
        self._accepting = threading.Lock()
        DBOS(config=_engine_config(settings))

        @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=MAX_ATTEMPTS)
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

    def check_room(self) -> None:
        """Raise `Busy` or `StorageFull` where no job can be taken, before anything is read."""
        if len(self._live) >= self._settings.max_jobs:
            raise Busy(f"Expected at most {self._settings.max_jobs} unfinished jobs, found more.")
        self._store.check_space()

    def accept(self, spool: Spool, options: Options, idempotency_key: str | None) -> str:
        """Write a job down and start it; returns its id, which is the first one's for a repeat.

        Raises `BadRequest` for what fails the checks of container, limits, headers and geometry,
        `IdempotencyConflict`, `Busy` and `StorageFull`; then there is no job.
        """
        request = _request(spool, options, idempotency_key)
        first = self._request(request.id)
        if first is not None:
            return _same(first, request)
        self._store.check_space(spool.total_bytes)
        readable = Run(options, self._model).inspect(spool.files(), self._settings)
        with self._accepting:
            self.check_room()
            if not self._store.create(key(request.id, REQUEST), request.model_dump_json().encode()):
                first = self._request(request.id)  # a repeat that came at the same moment
                return _same(first or request, request)
            live = self._live.begin(request.id)
        if readable.voxels <= SMALL_VOXELS:
            live.readable = readable  # a large one is read again, not to wait in memory
        self._start(request.id, spool)
        return request.id

    def get(self, job_id: str) -> Job:
        """A job as it stands. Raises `NotFound`."""
        request = self._request(job_id)
        if request is None:
            raise NotFound("Expected the id of a segmentation, found another.")
        outcome = self._outcome(job_id)
        live = self._live.get(job_id)
        if outcome is not None:
            return Job(request, outcome.status, "done", 1.0, outcome)
        if live is None:
            return Job(request, "queued", "queued", 0.0, None)
        status: Status = "queued" if live.stage == "queued" else "running"
        return Job(request, status, live.stage, live.fraction, None)

    def list(self, limit: int, offset: int) -> list[Job]:
        """Jobs, the newest first."""
        found = DBOS.list_workflows(
            name=WORKFLOW,
            limit=limit,
            offset=offset,
            sort_desc=True,
            load_input=False,
            load_output=False,
        )
        jobs = []
        for workflow in found:
            try:
                jobs.append(self.get(workflow.workflow_id))
            except NotFound:  # deleted since it was listed
                continue
        return jobs

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
        job = self.get(job_id)
        if job.outcome is None:
            self._stop(job_id)
        return self.get(job_id)

    def delete(self, job_id: str) -> None:
        """Stop a job and delete all that is kept of it. Raises `NotFound`."""
        self.cancel(job_id)
        self._store.delete_all(job_id)
        DBOS.delete_workflow(job_id)
        _log.info("job deleted", job_id=job_id)

    def _check_succeeded(self, job_id: str) -> None:
        job = self.get(job_id)
        if job.status != "succeeded":
            raise NoResult(f"Expected a segmentation that has succeeded, found it {job.status}.")

    def _start(self, job_id: str, spool: Spool) -> None:
        try:
            self._store.put(key(job_id, INPUT), spool.chunks())
            with SetWorkflowID(job_id):
                DBOS.start_workflow(self._workflow, job_id)
        except BaseException as error:
            self._store.delete_all(job_id)
            self._live.end(job_id)
            if isinstance(error, OperationalError):  # SQLite's word for a full disk
                raise StorageFull("Expected room for the job, found none.") from error
            raise
        _log.info("job accepted", job_id=job_id)

    def _stop(self, job_id: str) -> None:
        reason = Cancelled("The segmentation was cancelled by request.")
        live = self._live.get(job_id)
        if live is None:
            self._conclude(job_id, {}, JobError.of(reason))
            return
        live.stop.stop(reason)
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
        live = self._live.begin(job_id)
        try:
            request = self._request(job_id)
            if request is not None and self._outcome(job_id) is None:
                self._perform(request, live)
            self._store.delete(key(job_id, INPUT))
            self._store.delete(key(job_id, LABELS))
        finally:
            self._live.end(job_id)

    def _perform(self, request: JobRequest, live: LiveJob) -> None:
        run = Run(request.options, self._model, live.stop, live.advance, live.enter)
        task = _Task(request, run, self._store, self._settings, live)
        try:
            with self._admission.turn(sum(request.file_bytes), live.stop) as turn:
                error = _step("label", request.id, lambda: task.label(turn))
                error = error or _step("publish", request.id, task.publish)
        except ShuttingDown as reason:
            raise Interrupted from reason
        except ServiceError as reason:
            error = JobError.of(reason)
        DBOS.run_step({"name": "conclude"}, self._conclude, request.id, run.timings_s, error)

    def _conclude(self, job_id: str, timings_s: dict[str, float], error: JobError | None) -> None:
        status = "succeeded" if error is None else "failed"
        if error is not None and error.code == Cancelled.code:
            status = "cancelled"
        outcome = Outcome.model_validate(
            {"status": status, "finished_at": now(), "timings_s": timings_s, "error": error}
        )
        self._store.create(key(job_id, OUTCOME), outcome.model_dump_json().encode())
        self._metrics.jobs.labels(status=status).inc()
        self._metrics.observe_stages(timings_s)
        _log.info("job ended", job_id=job_id, status=status, code=error and error.code)


class _Task:
    """The steps of one run of one job; a step takes what the one before left, here or stored."""

    def __init__(
        self, request: JobRequest, run: Run, store: Store, settings: Settings, live: LiveJob
    ) -> None:
        self._request, self._run = request, run
        self._store, self._settings = store, settings
        self._live = live
        self._scan: Scan | None = None
        self._labelled: Labelled | None = None

    def label(self, turn: Turn) -> None:
        """Decode the input and store what the model says of it."""
        readable = self._live.readable or self._inspect()
        self._live.readable = None
        turn.settle(readable.voxels, self._run.stop)
        self._scan = self._run.read(readable)
        del readable  # and with it the files
        self._labelled = self._run.label(self._scan)
        self._store.put(key(self._request.id, LABELS), pack(self._labelled))

    def publish(self) -> None:
        """Measure, and store every output."""
        scan = self._scan or self._run.read(self._inspect())
        labelled = self._labelled or self._stored_labels() or self._run.label(scan)
        result = self._run.finish(scan, labelled)
        self._live.enter("publish")
        self._run.stop.check()
        keep(self._store, self._request.id, result, self._request.created_at)

    def _inspect(self) -> Readable:
        data = self._store.get(key(self._request.id, INPUT))
        if data is None:
            raise NotFound("Expected the job's input, found it deleted.")
        return self._run.inspect(_split(data, self._request.file_bytes), self._settings)

    def _stored_labels(self) -> Labelled | None:
        data = self._store.get(key(self._request.id, LABELS))
        return None if data is None else unpack(data)


def _split(data: bytes, sizes: tuple[int, ...]) -> Iterator[bytes]:
    start = 0
    for size in sizes:
        yield data[start : start + size]
        start += size


def _step(name: str, job_id: str, work: Callable[[], None]) -> JobError | None:
    """One step of the workflow; how it failed is its result, so that nothing else is kept of it."""

    def guarded() -> dict[str, object] | None:
        try:
            work()
        except ShuttingDown as reason:
            raise Interrupted from reason
        except ServiceError as error:
            return JobError.of(error).model_dump()
        except Exception as error:
            _log.error("job failed", job_id=job_id, place=place_of(error))
            return JobError.of(InternalError("Please report the segmentation's id.")).model_dump()
        return None

    failed = DBOS.run_step({"name": name}, guarded)
    return None if failed is None else JobError.model_validate(failed)


def _request(spool: Spool, options: Options, idempotency_key: str | None) -> JobRequest:
    """What was asked, under an id that follows from the Idempotency-Key where there is one."""
    if idempotency_key is None:
        job_id = uuid.uuid4().hex
    else:
        job_id = hashlib.sha256(b"idempotency " + idempotency_key.encode()).hexdigest()[:32]
    asked = spool.sha256.encode() + _OPTIONS.dump_json(options)
    return JobRequest(
        id=job_id,
        created_at=now(),
        options=options,
        file_bytes=spool.sizes,
        input_sha256=hashlib.sha256(asked).hexdigest(),
    )


def _same(first: JobRequest, request: JobRequest) -> str:
    """The first request's id. Raises `IdempotencyConflict` where this one asks for another."""
    if first.input_sha256 != request.input_sha256:
        raise IdempotencyConflict("Expected the body and parameters that came with this key first.")
    return first.id


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
