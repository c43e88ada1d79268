"""The steps of one job: label, publish; and how the workflow runs a step."""

from collections.abc import Callable, Iterator

import structlog
from dbos import DBOS

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

RETRY_S = 5.0
"""How long a job waits, when the disk is full, before it tries to write again."""

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


def run_step(name: str, job_id: str, stop: StopSignal, work: Callable[[], None]) -> JobError | None:
    """One step of the workflow; how it failed is its result, so that nothing else is kept of it.

    While the disk is full the step waits: what was accepted is finished.
    """

    def work_once_there_is_room() -> None:
        while True:
            try:
                return work()
            except StorageFull:
                _log.warning("disk full", job_id=job_id, stage=name)
                stop.pause(RETRY_S)

    def guarded() -> dict[str, object] | None:
        try:
            work_once_there_is_room()
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
