"""The steps of one job: label, publish; and how the workflow runs a step."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import structlog
from dbos import DBOS
from sqlalchemy.exc import OperationalError

from service.admission import Turn
from service.decode.readable import Readable
from service.errors import InternalError, NotFound, ServiceError, ShuttingDown, StorageFull
from service.inference.work import Labelled
from service.jobs.kept import keep, pack, unpack
from service.jobs.live import LiveJob
from service.jobs.records import INPUT, LABELS, JobError, JobRequest, key
from service.logs import place_of
from service.pipeline import Run
from service.settings import Settings
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
        self, request: JobRequest, run: Run, store: Store, settings: Settings, live: LiveJob
    ) -> None:
        self._request, self._run = request, run
        self._store, self._settings = store, settings
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

    def label(self, turn: Turn) -> None:
        """Decode the input and store what the model says of it."""
        readable = self._live.readable or self._inspect()
        self._live.readable = None
        turn.settle(readable.voxels, self._run.stop)
        self._scan = self._run.read(readable)
        del readable  # and with it the files
        self._labelled = self._run.label(self._scan)
        packed = pack(self._labelled)
        persist(lambda: self._store.put(key(self._request.id, LABELS), packed), self._run.stop)

    def publish(self) -> None:
        """Measure, and store every output."""
        scan = self._scan or self._run.read(self._inspect())
        labelled = self._labelled or self._stored_labels() or self._run.label(scan)
        result = self._run.finish(scan, labelled)
        self._live.enter("publish")
        self._run.stop.check()
        request = self._request
        persist(lambda: keep(self._store, request.id, result, request.created_at), self._run.stop)

    def _inspect(self) -> Readable:
        return self._run.inspect(self._files(), self._settings)

    def _files(self) -> Iterator[bytes]:
        start = 0
        for size in self._request.file_bytes:
            data = self._store.get_range(key(self._request.id, INPUT), start, size)
            if data is None:
                raise NotFound("Expected the job's input, found it deleted.")
            yield data
            start += size

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
