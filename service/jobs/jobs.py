"""Durable segmentations as the API sees them: accept, watch, read, cancel, delete.

    request -> registry (a row) + store (the input) -> a worker, here or elsewhere -> result

What was accepted is finished whatever happens to the processes meanwhile. Each part has a file of
its own: the registry of all jobs, the engine that runs steps, the worker that takes jobs, the bus
between processes, the housekeeping by the clock.
"""

import copy
import hashlib
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import structlog
from pydantic import TypeAdapter, ValidationError

from service import tracing
from service.access.caller import ANYONE, Caller
from service.admission import SMALL_BYTES, SMALL_PLACES, SMALL_VOXELS, Admission
from service.decode.readable import Readable
from service.errors import (
    Busy,
    IdempotencyConflict,
    NoDicomSource,
    NoResult,
    NotFound,
    StorageFull,
    Unavailable,
)
from service.inference.segment import Segmenter
from service.inference.work import Loaded
from service.jobs.bus import Bus, Listening, Message, open_bus
from service.jobs.endings import Endings, cancelled
from service.jobs.engine import Engine
from service.jobs.housekeeping import Housekeeping
from service.jobs.kept import RESULT, Kept
from service.jobs.live import QUEUED
from service.jobs.records import (
    INPUT,
    PRIORITIES,
    Delivered,
    DeliveryOrder,
    JobError,
    JobRequest,
    JobRow,
    Lane,
    Outcome,
    Progress,
    SeriesAtOrigin,
    Status,
    Urgency,
    key,
    now,
)
from service.jobs.registry import Registry
from service.jobs.steps import Fresh
from service.jobs.worker import Worker
from service.metrics import Metrics
from service.pacs.nodes import Pacs
from service.pipeline import Options, check_files
from service.settings import Settings
from service.spool import Spool
from service.store import Store

MAX_DELIVERING = 1000
"""Results that wait for a PACS: each holds a thread, no volume, and no place of `max_jobs`."""

STOP_S = 60
"""How long to wait for a running job to notice that it was stopped, in this process."""

STOP_ELSEWHERE_S = 5
"""The same in another, which deletes by itself what it writes later."""

RECEIVE_S = 5
"""How long a repeated request waits for the first one, whose input is still being stored."""

STATUSES: tuple[Status, ...] = ("queued", "running", "succeeded", "failed", "cancelled")

_POLL_S = 0.05

_ID = re.compile("[0-9a-f]{32}")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Job:
    """A job as it stands now."""

    row: JobRow
    request: JobRequest
    status: Status
    progress: Progress
    outcome: Outcome | None

    @property
    def delivered(self) -> Delivered | None:
        """What became of the objects that were sent, None where none were, or not yet."""
        sent = self.row.delivered
        return None if sent is None else Delivered.model_validate_json(sent)

    @property
    def deadline_at(self) -> datetime | None:
        return None if self.row.deadline_ms is None else _moment(self.row.deadline_ms)


class Jobs:
    """The durable segmentations of a service. Methods block; none belongs on the event loop."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        model: Loaded,
        segmenter: Segmenter | None,
        admission: Admission,
        metrics: Metrics,
        pacs: Pacs,
    ) -> None:
        """Open what all processes share; with a `segmenter` this process works on jobs, too.

        Raises `Unavailable` where the database cannot be reached.
        """
        self._settings, self._store, self._model = settings, store, model
        self._caller = ANYONE
        self._pacs = pacs
        metrics.know_nodes(pacs.nodes)
        self._fresh = Fresh(2 * SMALL_PLACES if segmenter else 0)
        self._executor = executor = _executor()
        self._worker: Worker | None = None
        with ExitStack() as opened:
            self._registry = Registry(settings.registry_url)
            opened.callback(self._registry.close)
            store.mark(self._registry.service_id)
            self._bus: Bus = open_bus(settings.registry_url)
            opened.callback(self._bus.close)
            self._endings = Endings(executor, self._registry, store, self._bus, metrics)
            if segmenter is not None:
                self._worker = Worker(
                    executor, settings, self._registry, store, self._bus, self._endings, segmenter,
                    admission, pacs, self._fresh, metrics,
                )  # fmt: skip
            self._engine = Engine(settings.engine_url, executor, self._work if segmenter else None)
            opened.callback(self._engine.close)
            self._housekeeping = Housekeeping(
                executor, settings, self._registry, store, self._bus, self._engine, self._endings,
                metrics, self._worker,
            )  # fmt: skip
            self._housekeeping.begin()
            if self._worker is not None:
                self._worker.begin(self._engine)
            self._opened = opened.pop_all()

    def stop_claiming(self) -> None:
        """The service is to end: take no further job. Does not block."""
        if self._worker is not None:
            self._worker.stop_claiming()

    def drain(self, grace_s: float) -> None:
        """Finish for so long what runs; the rest waits for another process, or the next start."""
        if self._worker is not None:
            self._worker.drain(grace_s)

    def close(self) -> None:
        """Let go of all that is open, and of what still runs."""
        if self._worker is not None:
            self._worker.drain(0)
            self._worker.close()
        self._housekeeping.close()
        self._opened.close()

    @property
    def in_work(self) -> int:
        """Jobs that this process works on."""
        return 0 if self._worker is None else len(self._worker.live)

    @property
    def is_claiming(self) -> bool:
        """Whether this process takes jobs that wait."""
        return self._worker is not None and self._worker.is_claiming

    def seen_by(self, caller: Caller) -> Self:
        """The same jobs as one caller sees them: its own, and no others'; to an admin all."""
        view = copy.copy(self)
        view._caller = caller
        return view

    # Accepting

    def check_room(self, idempotency_key: str | None = None) -> None:
        """Raise `Busy` or `StorageFull` where no job can be taken, before anything is read.

        A repeat of an earlier request needs no room.
        """
        owner = self._caller.owner
        if idempotency_key is not None and self._registry.get(_job_id(idempotency_key, owner)):
            return
        self._registry.check_room(*self._bounds)
        self._store.check_space()

    def accept(
        self,
        spool: Spool,
        options: Options,
        idempotency_key: str | None,
        delivery: DeliveryOrder | None = None,
        urgency: Urgency | None = None,
        is_transient: bool = False,
    ) -> str:
        """Write a job down and start it; returns its id, which is the first one's for a repeat.

        One that `is_transient` is listed to nobody, and deleted soon should the caller not do so.

        Raises `BadRequest` for what fails the checks of container, limits, headers and geometry,
        `UnknownNode`, `NoDicomSource` for other data whose objects are to be delivered,
        `IdempotencyConflict`, `Busy`, `Unavailable` and `StorageFull`; then there is no job.
        """
        asked = _Asked(options, delivery, urgency or Urgency())
        request = asked.request(idempotency_key, self._caller.owner, spool)
        if idempotency_key is not None and self._is_repeat(request):
            return request.id
        self._check_order(delivery)
        self._store.check_space(spool.total_bytes)
        with tracing.span("inspect"):
            readable = check_files(spool.files(), options, self._model, self._settings)
        if delivery is not None and readable.format != "dicom":
            raise NoDicomSource(f"Expected DICOM to be delivered, found {readable.format}.")
        is_small = spool.total_bytes <= SMALL_BYTES and readable.voxels <= SMALL_VOXELS
        if not is_small:  # it is read again, not to wait in memory
            return self._begin(request, "large", spool, None, is_transient)
        return self._begin(request, "small", spool, readable, is_transient)

    def accept_series(
        self,
        origin: SeriesAtOrigin,
        options: Options,
        idempotency_key: str | None,
        delivery: DeliveryOrder | None,
        urgency: Urgency | None = None,
    ) -> str:
        """The same for a series that is fetched from a PACS. Raises `UnknownNode`, `Busy` ..."""
        asked = _Asked(options, delivery, urgency or Urgency(), origin)
        request = asked.request(idempotency_key, self._caller.owner)
        if idempotency_key is not None and self._is_repeat(request):
            return request.id
        self._pacs.origin(origin.node)
        self._check_order(delivery)
        return self._begin(request, "fetch", None, None)

    # Reading

    def get(self, job_id: str) -> Job:
        """A job as it stands. Raises `NotFound`."""
        job = self._job(self._accepted(job_id))
        if job is None:
            raise NotFound("Expected a segmentation of this version of the service, found another.")
        return job

    def list(
        self, limit: int, offset: int, statuses: Sequence[Status] = ()
    ) -> tuple[list[Job], bool]:
        """So many jobs of these statuses (all, if none), the newest first; and whether more follow.

        One that another job's turn comes before may be listed as running a moment early.
        """
        owner = None if self._caller.sees_all else self._caller.owner
        rows = self._registry.newest(statuses or STATUSES, limit + 1, offset, owner)
        found = [self._job(row) for row in rows[:limit]]
        return [job for job in found if job is not None], len(rows) > limit

    def result(self, job: Job) -> bytes | None:
        """The JSON of a result without its contours, None where there is no result."""
        folder = job.row.result_folder
        if job.status != "succeeded" or folder is None:
            return None
        return self._store.get(key(folder, RESULT))

    def expires_at(self, job: Job) -> datetime | None:
        """When all that is kept of a job is deleted, None where that is not known yet."""
        if job.outcome is None or not self._settings.retention_h:
            return None
        return job.outcome.finished_at + timedelta(hours=self._settings.retention_h)

    def part(self, job_id: str, name: str) -> bytes | None:
        """One of the files of a result, None where the result has no such file.

        Raises `NotFound` for a job that there is not, `NoResult` for one without a result.
        """
        return self._store.get(key(self._result_folder(job_id), name))

    def kept(self, job_id: str) -> Kept:
        """What is drawn from a result on demand. Raises as `part` does."""
        return Kept(self._store, self._result_folder(job_id))

    def has_ended(self, job_id: str) -> bool:
        """Whether nothing more will happen to a job; so it is where there is none."""
        row = self._row(job_id)
        return row is None or row.finished_ms is not None

    def listening(self, job_id: str, callback: Callable[[], None]) -> Listening:
        """Call back, from any thread, when the job ends while the block runs.

        That it ended before, or while the connection to the database was lost, is not told: look.
        """

        def hear(message: Message) -> None:
            if message.word == "ended" and message.job_id == job_id:
                callback()

        return self._bus.listening(hear)

    # Ending

    def cancel(self, job_id: str) -> Job:
        """Stop a job that is not finished; another stays as it is. Raises `NotFound`."""
        job = self.get(job_id)
        if job.outcome is None:
            self._stop(job.row)
        return self.get(job_id)

    def delete(self, job_id: str) -> None:
        """Stop a job and delete all that is kept of it. Raises `NotFound`, and `Busy` where the
        work on it does not stop.

        The row goes last: what is cut off can be repeated.
        """
        row = self._accepted(job_id)
        if row.finished_ms is None:
            with suppress(StorageFull):  # it may be deleted to make room
                self._stop(row)
        self._await_idle(row)
        self._store.delete_all(row.folder)
        self._engine.forget(job_id)
        self._registry.remove(job_id, row.folder)
        _log.info("job deleted", job_id=job_id)

    # Plumbing

    def _work(self, job_id: str) -> None:
        if self._worker is not None:
            self._worker.work(job_id)

    @property
    def _bounds(self) -> tuple[int, int, int]:
        return self._settings.max_jobs, self._settings.max_jobs_bytes, MAX_DELIVERING

    def _check_order(self, delivery: DeliveryOrder | None) -> None:
        if delivery is not None:
            self._pacs.node(delivery.node)

    def _begin(
        self,
        request: JobRequest,
        lane: Lane,
        spool: Spool | None,
        readable: Readable | None,
        is_transient: bool = False,
    ) -> str:
        """Write a job down, unless one with its id came at the same moment."""
        size = 0 if spool is None else spool.total_bytes
        row = _new_row(request, lane, size, is_transient, self._executor, self._caller.owner)
        with self._housekeeping.receiving(row.folder):
            while not self._registry.add(row, *self._bounds):
                if self._is_repeat(request):
                    return request.id
            try:
                if spool is not None:
                    self._store.put(key(row.folder, INPUT), spool.content())
                if readable is not None:
                    self._fresh.put(row.folder, readable)
                self._registry.confirm(row)
            except BaseException:
                self._fresh.take(row.folder)
                with suppress(Exception):  # else housekeeping finds it
                    self._withdraw(row)
                raise
        self._bus.send(Message("waits", request.id))
        _log.info("job accepted", job_id=request.id)
        return request.id

    def _withdraw(self, row: JobRow) -> None:
        """Leave nothing of a job that was not taken in; the row goes last, to be found again.

        One that was, though its database could not say so, is needed.
        """
        if self._registry.drop(row):
            self._store.delete_all(row.folder)
            self._registry.remove(row.id, row.folder)

    def _is_repeat(self, request: JobRequest) -> bool:
        """Whether an earlier request with the same Idempotency-Key is accepted.

        Waits until that is decided. Raises `IdempotencyConflict` where it asked for something else,
        and `Busy` where the first one is still arriving.
        """
        deadline = time.monotonic() + RECEIVE_S
        while (row := self._registry.get(request.id)) is not None:
            if row.asked.input_sha256 != request.input_sha256:
                raise IdempotencyConflict(
                    "Expected the body and parameters that came with this key first."
                )
            if not row.is_arriving:
                return True
            if time.monotonic() >= deadline:
                raise Busy("Expected the first request with this key to be taken in, found not.")
            time.sleep(_POLL_S)
        return False

    def _stop(self, row: JobRow) -> None:
        """End a job as cancelled, whoever works on it; that it was, counts from now on."""
        try:
            self._endings.conclude(row, JobError.of(cancelled()))
        finally:
            self._bus.send(Message("stop", row.id))
        found = self._row(row.id)
        live = None if self._worker is None else self._worker.live.get(row.id)
        if found is not None and found.executor == self._executor and live is None:  # nobody did
            with suppress(Unavailable, StorageFull):  # found again by the housekeeping
                self._endings.tidy(found)

    def _await_idle(self, row: JobRow) -> None:
        """Until nobody works on a job that has ended."""
        live = None if self._worker is None else self._worker.live.get(row.id)
        if live is not None and live.row.folder == row.folder:
            if not live.ended.wait(STOP_S):
                raise Busy("Expected the job to stop, found it still at work.")
            return
        deadline = time.monotonic() + STOP_ELSEWHERE_S
        while time.monotonic() < deadline:
            found = self._row(row.id)
            if found is None or found.executor is None:
                return
            time.sleep(_POLL_S)

    def _row(self, job_id: str) -> JobRow | None:
        return self._registry.get(job_id) if _ID.fullmatch(job_id) else None

    def _accepted(self, job_id: str) -> JobRow:
        row = self._row(job_id)
        if row is None or row.is_arriving or not self._caller.sees(row.owner):
            raise NotFound("Expected the id of a segmentation, found another.")
        return row

    def _job(self, row: JobRow) -> Job | None:
        """A row as the API sees it, None where another version of the service wrote it."""
        try:
            request, outcome = row.asked, row.ended
        except ValidationError:
            return None
        live = None if self._worker is None else self._worker.live.get(row.id)
        progress = row.progress
        if row.finished_ms is None and live is not None and live.row.folder == row.folder:
            progress = live.progress
        status: Status = next((known for known in STATUSES if known == row.status), "queued")
        if status == "running" and progress.stage == QUEUED:  # taken, but it waits for its turn
            status = "queued"
        return Job(row, request, status, progress, outcome)

    def _result_folder(self, job_id: str) -> str:
        job = self.get(job_id)
        folder = job.row.result_folder
        if job.status != "succeeded" or folder is None:
            raise NoResult(f"Expected a segmentation that has succeeded, found it {job.status}.")
        return folder


@dataclass(frozen=True)
class _Asked:
    """What a request asks for beside its files."""

    options: Options
    delivery: DeliveryOrder | None
    urgency: Urgency
    origin: SeriesAtOrigin | None = None

    def request(
        self, idempotency_key: str | None, owner: str | None, spool: Spool | None = None
    ) -> JobRequest:
        """Its record, under an id that follows from the owner's Idempotency-Key, if any."""
        job_id = uuid.uuid4().hex if idempotency_key is None else _job_id(idempotency_key, owner)
        files = b"" if spool is None else spool.sha256.encode()
        return JobRequest(
            id=job_id,
            created_at=now(),
            options=self.options,
            file_bytes=() if spool is None else spool.sizes,
            input_sha256=hashlib.sha256(files + _ASKED.dump_json(self)).hexdigest(),
            urgency=self.urgency,
            origin=self.origin,
            delivery=self.delivery,
        )


_ASKED = TypeAdapter(_Asked)


def _job_id(idempotency_key: str, owner: str | None) -> str:
    """Two callers may choose the same key, and then mean different jobs."""
    whose = b"" if owner is None else owner.encode() + b"\0"
    return hashlib.sha256(b"idempotency " + whose + idempotency_key.encode()).hexdigest()[:32]


def _new_row(
    request: JobRequest,
    lane: Lane,
    size_bytes: int,
    is_transient: bool,
    executor: str,
    owner: str | None,
) -> JobRow:
    created_ms = round(request.created_at.timestamp() * 1000)
    deadline_s = request.urgency.deadline_s
    return JobRow(
        id=request.id,
        folder=f"{request.id}-{uuid.uuid4().hex[:8]}",
        created_ms=created_ms,
        priority=PRIORITIES[request.urgency.priority],
        lane=lane,
        input_bytes=size_bytes,
        deadline_ms=None if deadline_s is None else created_ms + int(deadline_s * 1000),
        request=request.model_dump_json(exclude_none=True),  # readable by who knows fewer fields
        is_transient=is_transient,
        owner=owner,
        traceparent=tracing.traceparent(),
        status="receiving",
        executor=executor,
    )


def _executor() -> str:
    """The name of this process among all that share a database: new with each start."""
    return f"{socket.gethostname()[:60]}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
