"""The steps of one job (fetch, label, publish, deliver), and how the workflow runs a step."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

import structlog
from dbos import DBOS
from sqlalchemy.exc import OperationalError
from typing_extensions import Buffer

from service.admission import Turn
from service.decode.readable import Readable
from service.errors import (
    InternalError,
    NotFound,
    ServiceError,
    ShuttingDown,
    StorageFull,
    UnknownNode,
)
from service.inference.work import Labelled
from service.jobs.kept import keep, kept_instances, pack, unpack
from service.jobs.live import DELIVER, LiveJob
from service.jobs.records import (
    DELIVERY,
    FETCHED,
    INPUT,
    LABELS,
    Delivered,
    FetchedInput,
    JobError,
    JobRequest,
    SeriesAtOrigin,
    key,
)
from service.logs import place_of
from service.notices import Notice
from service.pacs.delivery import Receipt, deliver
from service.pacs.dicomweb import fetch_series
from service.pacs.nodes import Pacs
from service.pipeline import Run
from service.settings import Settings
from service.spool import Spool
from service.stopping import StopSignal
from service.store import Store
from service.volume import Scan

T = TypeVar("T")

FULL_S = 0.5
"""How long a job waits until it looks again whether there is room on the disk."""

_log = structlog.get_logger(__name__)


class Interrupted(BaseException):
    """The service ends: the job stays as it is and goes on at the next start.

    Not an `Exception`, since the workflow engine would write that down as the job's end.
    """


class Task:
    """The steps of one run of one job; a step takes what the one before left, here or stored."""

    def __init__(
        self,
        request: JobRequest,
        run: Run,
        store: Store,
        settings: Settings,
        pacs: Pacs,
        live: LiveJob,
    ) -> None:
        self._request, self._run = request, run
        self._store, self._settings, self._pacs = store, settings, pacs
        self._live = live
        self._scan: Scan | None = None
        self._labelled: Labelled | None = None

    def step(self, name: str, work: Callable[[], None]) -> JobError | None:
        """One step of the workflow; how it failed is its result: nothing else is kept of that."""

        def guarded() -> dict[str, object] | None:
            try:
                work()
                persist(self._store.check_records, self._run.stop)  # for the engine's own notes
            except ShuttingDown as reason:
                raise Interrupted from reason
            except ServiceError as error:
                return JobError.of(error).model_dump()
            except Exception as error:
                _log.error("job failed", job_id=self._request.id, place=place_of(error))
                failure = InternalError("Please report the segmentation's id.")
                return JobError.of(failure).model_dump()
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
        self._live.enter("fetch")
        persist(lambda: self._fetch(origin), run.stop)

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
            )
            self._put(INPUT, spool.chunks())
            dropped = came.foreign + came.repeated + came.unreadable
            fetched = FetchedInput(file_bytes=spool.sizes, dropped=dropped)
        self._put(FETCHED, fetched.model_dump_json().encode())

    def label(self, turn: Turn) -> None:
        """Decode the input and store what the model says of it."""
        readable = self._live.readable or self._inspect()
        self._live.readable = None
        turn.settle(readable.voxels, self._run.stop)
        self._scan = self._read(readable)
        del readable  # and with it the files
        self._labelled = self._run.label(self._scan)
        packed = pack(self._labelled)
        persist(lambda: self._put(LABELS, packed), self._run.stop)

    def publish(self) -> None:
        """Measure, and store every output."""
        scan = self._scan or self._read(self._inspect())
        labelled = self._labelled or self._stored_labels() or self._run.label(scan)
        result = self._run.finish(scan, labelled)
        self._live.enter("publish")
        self._run.stop.check()
        request = self._request
        self._scan = self._labelled = None  # what follows may wait for long
        objects = () if request.delivery is None else request.delivery.objects
        persist(
            lambda: keep(self._store, request.id, result, request.created_at, objects),
            self._run.stop,
        )

    def deliver(self) -> None:
        """Send the objects that were asked for, and write down what became of each."""
        order = self._request.delivery
        if order is None:
            return
        self._live.enter(DELIVER)
        instances = kept_instances(self._store, self._request.id, order.objects)
        try:
            node = self._pacs.node(order.node)
        except UnknownNode as error:  # the settings changed since; the result stays what it is
            receipts = tuple(
                Receipt.of(instance, "failed", error.code, str(error)) for instance in instances
            )
        else:
            receipts = deliver(node, instances, self._settings, self._run.stop)
        delivered = Delivered(node=order.node, receipts=receipts).model_dump_json().encode()
        persist(lambda: self._put(DELIVERY, delivered), self._run.stop)

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
            data = self._store.get_range(key(self._request.id, INPUT), start, size)
            if data is None:
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
        data = self._store.get(key(self._request.id, FETCHED))
        if data is None:
            raise NotFound("Expected the job's input, found it deleted.")
        return FetchedInput.model_validate_json(data)

    def _put(self, name: str, data: Buffer | Iterable[Buffer]) -> None:
        self._store.put(key(self._request.id, name), data)

    def _stored_labels(self) -> Labelled | None:
        data = self._store.get(key(self._request.id, LABELS))
        return None if data is None else unpack(data)


def persist(write: Callable[[], T], stop: StopSignal) -> T:
    """Do what needs room on the disk, as often as it takes. Raises the reason of `stop`."""
    while True:
        try:
            return write()
        except StorageFull:
            stop.pause(FULL_S)


def recorded(name: str, work: Callable[[], T]) -> T:
    """A step of the workflow, whose result the engine notes."""
    try:
        return DBOS.run_step({"name": name}, work)
    except OperationalError as error:  # SQLite found no room after all: goes on at the next start
        raise Interrupted from error
