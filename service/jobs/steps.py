"""The steps of one job (fetch, label, publish, deliver), and how the workflow runs a step.

What a step leaves is in the store; the registry says whose result counts. While the disk is full,
or the database or the store cannot be reached, a step waits and does not fail.
"""

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

import structlog
from dbos import DBOS
from sqlalchemy.exc import OperationalError
from typing_extensions import Buffer

from service.admission import SMALL_VOXELS, Turn
from service.decode.readable import Readable
from service.errors import (
    InternalError,
    NotFound,
    OutOfMemory,
    ServiceError,
    ShuttingDown,
    StorageFull,
    Unavailable,
    UnknownNode,
)
from service.inference.work import Labelled
from service.jobs.kept import keep, kept_instances, pack, unpack
from service.jobs.live import DELIVER, FETCH, LiveJob
from service.jobs.records import (
    FETCHED,
    INPUT,
    LABELS,
    Delivered,
    DeliveryOrder,
    FetchedInput,
    JobError,
    JobRequest,
    JobRow,
    SeriesAtOrigin,
    key,
)
from service.jobs.registry import Registry
from service.logs import place_of
from service.metrics import Metrics
from service.notices import Notice
from service.pacs.delivery import Receipt, deliver
from service.pacs.dicomweb import fetch_series
from service.pacs.nodes import Pacs
from service.pipeline import Result, Run
from service.settings import Settings
from service.spool import Spool
from service.stopping import StopSignal
from service.store import Store
from service.volume import Scan

T = TypeVar("T")

AGAIN_S = 0.5
"""How long a job waits until it looks again whether there is room, or an answer."""

_log = structlog.get_logger(__name__)


class Interrupted(BaseException):
    """The service ends: the job stays as it is and goes on at the next start.

    Not an `Exception`, since the workflow engine would write that down as the job's end.
    """


class Fresh:
    """Small inputs that were checked in this process a moment ago: no need to read them again."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._readables: dict[str, Readable] = {}
        self._lock = threading.Lock()

    def put(self, folder: str, readable: Readable) -> None:
        """Keep one by its job's folder, since an id may come again with another input.

        Above so many the oldest is let go: its job may have been taken by another process.
        """
        with self._lock:
            self._readables[folder] = readable
            while len(self._readables) > self._most:
                self._readables.pop(next(iter(self._readables)))

    def take(self, folder: str) -> Readable | None:
        with self._lock:
            return self._readables.pop(folder, None)


class Task:
    """The steps of one run of one job; a step takes what the one before left, here or stored."""

    def __init__(
        self,
        row: JobRow,
        request: JobRequest,
        run: Run,
        store: Store,
        settings: Settings,
        pacs: Pacs,
        live: LiveJob,
        registry: Registry,
        metrics: Metrics,
        readable: Readable | None,
    ) -> None:
        self._row, self._request, self._run = row, request, run
        self._store, self._settings, self._pacs = store, settings, pacs
        self._live, self._registry, self._metrics = live, registry, metrics
        self._readable = readable
        self._scan: Scan | None = None
        self._labelled: Labelled | None = None

    def step(self, name: str, work: Callable[[], None]) -> JobError | None:
        """One step of the workflow; how it failed is its result: nothing else is kept of that."""

        def guarded() -> dict[str, object] | None:
            try:
                persist(work, self._run.stop, but=StorageFull)  # which its own writes wait for
                persist(self._store.check_records, self._run.stop)  # for the engine's own notes
            except ShuttingDown as reason:
                raise Interrupted from reason
            except ServiceError as error:
                return JobError.of(error).model_dump()
            except MemoryError:
                failure = OutOfMemory("Expected memory for the volume, found too little.")
                return JobError.of(failure).model_dump()
            except Exception as error:
                _log.error("job failed", job_id=self._request.id, place=place_of(error))
                return JobError.of(
                    InternalError("Please report the segmentation's id.")
                ).model_dump()
            return None

        failed = recorded(name, guarded)
        return None if failed is None else JobError.model_validate(failed)

    @property
    def input_bytes(self) -> int:
        """Of the input, once it is there."""
        return sum(self._file_bytes())

    def fetch(self) -> None:
        """Store the series that the origin has."""
        origin, run = self._request.origin, self._run
        if origin is None:
            return
        run.stage(FETCH, lambda: persist(lambda: self._fetch(origin), run.stop))

    def _fetch(self, origin: SeriesAtOrigin) -> None:
        run = self._run
        node = self._pacs.origin(origin.node)
        with Spool(self._settings.spool_folder) as spool:
            came = fetch_series(
                node,
                origin.study_instance_uid,
                origin.series_instance_uid,
                spool,
                self._settings,
                run.stop,
                partial(self._tried, node.name, FETCH),
            )
            self._put(INPUT, spool.chunks())
            dropped = came.foreign + came.repeated + came.unreadable
            fetched = FetchedInput(file_bytes=spool.sizes, dropped=dropped)
        self._put(FETCHED, fetched.model_dump_json().encode())

    def label(self, turn: Turn) -> None:
        """Decode the input and store what the model says of it."""
        readable = self._readable or self._inspect()
        self._readable = None
        if readable.voxels > SMALL_VOXELS:
            self._live.lane = "large"
        turn.settle(readable.voxels, self._run.stop)
        self._scan = self._read(readable)
        del readable  # and with it the files
        self._labelled = self._run.label(self._scan)
        packed = pack(self._labelled, self._run.model)
        persist(lambda: self._put(LABELS, packed), self._run.stop)

    def publish(self) -> None:
        """Measure, and store every output; the first run to have done so has made the result.

        Another may be at it too, in a process that was taken for dead: each writes into a folder of
        its own, and the registry says which of them counts.
        """
        scan = self._scan or self._read(self._inspect())
        labelled = self._labelled or self._stored_labels() or self._run.label(scan)
        result = self._run.finish(scan, labelled)
        self._scan = self._labelled = None  # what follows may wait for long
        self._run.stage("publish", lambda: self._keep(result))

    def _keep(self, result: Result) -> None:
        request = self._request
        objects = () if request.delivery is None else request.delivery.objects
        run = uuid.uuid4().hex[:8]
        folder, made_at = key(self._row.folder, run), request.created_at
        persist(lambda: keep(self._store, folder, result, made_at, objects), self._run.stop)
        if not persist(lambda: self._registry.choose_result(self._row, run), self._run.stop):
            self._store.delete_all(folder)

    def deliver(self) -> None:
        """Send the objects that were asked for, and write down what became of each."""
        order = self._request.delivery
        if order is None:
            return
        self._run.stage(DELIVER, lambda: self._deliver(order))

    def _deliver(self, order: DeliveryOrder) -> None:
        found = self._registry.get(self._row.id)
        if found is None or found.result_folder is None:
            raise NotFound("Expected the job's result, found it deleted.")
        instances = kept_instances(self._store, found.result_folder, order.objects)
        try:
            node = self._pacs.node(order.node)
        except UnknownNode as error:  # the settings changed since; the result stays what it is
            receipts = tuple(
                Receipt.of(instance, "failed", error.code, str(error)) for instance in instances
            )
        else:
            tried = partial(self._tried, node.name, DELIVER)
            receipts = deliver(node, instances, self._settings, self._run.stop, tried)
            for receipt in receipts:
                self._metrics.pacs_objects.labels(node.name, receipt.status).inc()
        delivered = Delivered(node=order.node, receipts=receipts).model_dump_json()
        persist(lambda: self._registry.set_delivered(self._row, delivered), self._run.stop)

    def _tried(self, node: str, operation: str, outcome: str) -> None:
        self._metrics.pacs_attempts.labels(node, operation, outcome).inc()

    def _inspect(self) -> Readable:
        return self._run.inspect(self._files(), self._settings)

    def _read(self, readable: Readable) -> Scan:
        """The scan; what the origin sent beside it is told as a warning."""
        scan = self._run.read(readable)
        fetched = self._fetched()
        if fetched is None or not fetched.dropped:
            return scan
        message = f"{fetched.dropped} object(s) from the PACS were of another series or no DICOM."
        return replace(scan, notices=(*scan.notices, Notice("objects_left_out", message)))

    def _files(self) -> Iterator[bytes]:
        start = 0
        for size in self._file_bytes():
            data = self._store.get_range(key(self._row.folder, INPUT), start, size)
            if data is None:
                self._store.check_mark()
                raise NotFound("Expected the job's input, found it deleted.")
            yield data
            start += size

    def _file_bytes(self) -> tuple[int, ...]:
        fetched = self._fetched()
        return self._request.file_bytes if fetched is None else fetched.file_bytes

    def _fetched(self) -> FetchedInput | None:
        """What the fetch left, None for a job that has none. Raises `NotFound`."""
        if self._request.origin is None:
            return None
        data = self._store.get(key(self._row.folder, FETCHED))
        if data is None:
            self._store.check_mark()
            raise NotFound("Expected the job's input, found it deleted.")
        return FetchedInput.model_validate_json(data)

    def _put(self, name: str, data: Buffer | Iterable[Buffer]) -> None:
        self._store.put(key(self._row.folder, name), data)

    def _stored_labels(self) -> Labelled | None:
        data = self._store.get(key(self._row.folder, LABELS))
        return None if data is None else unpack(data, self._run.model)


def persist(write: Callable[[], T], stop: StopSignal, but: type[ServiceError] | None = None) -> T:
    """Do what needs room on the disk, the database or the store, as often as it takes.

    Raises the reason of `stop`, and `but` at once.
    """
    while True:
        try:
            return write()
        except (StorageFull, Unavailable) as error:
            if but is not None and isinstance(error, but):
                raise
            stop.pause(AGAIN_S)


def recorded(name: str, work: Callable[[], T]) -> T:
    """A step of the workflow, whose result the engine notes."""
    try:
        return DBOS.run_step({"name": name}, work)
    except OperationalError as error:  # SQLite found no room after all: goes on at the next start
        raise Interrupted from error
