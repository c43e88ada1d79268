"""What a process does by the clock: say that it lives, take over from the dead, and delete the old.

Every process does all of it; that two do the same at once changes nothing.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import structlog

from service.errors import DeadlineExceeded, StorageFull, Unavailable
from service.jobs.bus import Bus, Message
from service.jobs.endings import Endings
from service.jobs.engine import Engine
from service.jobs.records import FOLDER, JobError, JobRow, now_ms
from service.jobs.registry import Registry
from service.jobs.worker import Worker
from service.logs import place_of
from service.metrics import Metrics
from service.settings import Settings
from service.store import Store

BEAT_S = 1.0
COUNT_S = 5.0
SWEEP_S = 60.0
ORPHANS_S = 3600.0

TRANSIENT_S = 600.0
"""How long a job is kept that its own request deletes, where that request came to nothing."""

_LATE_RESULTS_S = 24 * 3600.0
"""For how long after a job's end results are looked for that came too late."""

_PAGE = 200

_log = structlog.get_logger(__name__)


class Housekeeping:
    """Three threads, until they are closed: one beats, one takes over and tidies up, and one
    deletes what has expired, which may take long.
    """

    def __init__(
        self,
        executor: str,
        settings: Settings,
        registry: Registry,
        store: Store,
        bus: Bus,
        engine: Engine,
        endings: Endings,
        metrics: Metrics,
        worker: Worker | None,
    ) -> None:
        self._executor, self._settings = executor, settings
        self._registry, self._store, self._bus = registry, store, bus
        self._engine, self._endings, self._metrics = engine, endings, metrics
        self._worker = worker
        self._receiving: set[str] = set()
        self._is_shared = settings.database_url is not None
        self._closed = threading.Event()
        self._heard_since = time.monotonic()
        self._counts_at = self._orphans_at = 0.0
        self._told: dict[str, object] = {}
        self._unlisted_since: dict[str, float] = {}
        self._is_forgotten = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (
                ("heartbeat", self._beat_on),
                ("housekeeping", self._keep_on),
                ("retention", self._sweep_on),
            )
        ]

    def begin(self) -> None:
        """Beat from now on. What a process left that had this folder to itself is taken over."""
        if not self._is_shared:
            for dead in self._registry.others(self._executor):
                self._take_over(dead)
            self._delete_orphans()
        self._registry.beat(self._executor)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Beat no more, and leave nothing for others to find out."""
        self._closed.set()
        for thread in self._threads:
            thread.join(2 * BEAT_S)
        with suppress(Unavailable, StorageFull):
            for row in self._registry.bury(self._executor).untidy:
                self._tidy_after(row)

    def receiving(self, folder: str) -> "_Receiving":
        """While the block runs, the job of this folder is being taken in by this process."""
        return _Receiving(self._receiving, folder)

    def _beat_on(self) -> None:
        """Say that this process lives, and how far its jobs are; nothing here takes long."""
        while not self._closed.wait(BEAT_S):
            try:
                if not self._registry.beat(self._executor):
                    self._is_forgotten.set()
                if self._is_shared:
                    self._tell()
                self._metrics.database_up.set(1)
            except (Unavailable, StorageFull):
                self._metrics.database_up.set(0)
                self._heard_since = time.monotonic()
            except Exception as error:
                _log.error("no heartbeat", place=place_of(error))

    def _keep_on(self) -> None:
        while not self._closed.wait(BEAT_S):
            try:
                self._keep()
            except (Unavailable, StorageFull) as error:
                self._heard_since = time.monotonic()
                _log.warning("housekeeping waits", code=error.code, why=str(error))
            except Exception as error:
                _log.error("housekeeping failed", place=place_of(error))

    def _keep(self) -> None:
        moment = time.monotonic()
        if self._is_forgotten.is_set():  # it was taken for dead, and lives
            self._is_forgotten.clear()
            self._engine.open_queue()
        # After a time in which nobody could beat, the others are given as long to be heard.
        if self._is_shared and moment - self._heard_since > self._settings.dead_s:
            for dead in (*self._registry.silent(self._settings.dead_s), *self._unheard(moment)):
                self._take_over(dead)
        if self._worker is not None:
            self._worker.check()
        self._tidy_own()
        self._end_overdue()
        if moment >= self._counts_at:
            self._counts_at = moment + COUNT_S
            self._metrics.unfinished_are(
                self._registry.counts(), self._registry.oldest_waiting_ms()
            )

    def _sweep_on(self) -> None:
        while not self._closed.wait(min(SWEEP_S, BEAT_S) if not self._orphans_at else SWEEP_S):
            try:
                self._metrics.store_up.set(self._store.is_reachable())
                self._delete_expired()
                if time.monotonic() >= self._orphans_at:
                    self._delete_orphans()
                    self._orphans_at = time.monotonic() + ORPHANS_S
            except (Unavailable, StorageFull) as error:
                _log.warning("nothing is deleted for now", code=error.code, why=str(error))
            except Exception as error:
                _log.error("retention failed", place=place_of(error))

    def _unheard(self, moment: float) -> list[str]:
        """Executors that have held a job for long and never beaten, or not since their burial."""
        since = self._unlisted_since
        self._unlisted_since = {name: since.get(name, moment) for name in self._registry.unlisted()}
        longest = self._settings.dead_s
        return [name for name, first in self._unlisted_since.items() if moment - first > longest]

    def _tell(self) -> None:
        """How far the jobs of this process are, for those who ask another one."""
        if self._worker is None:
            return
        reached = {job.row.id: job.progress for job in self._worker.live.all()}
        news = {job_id: one for job_id, one in reached.items() if self._told.get(job_id) != one}
        if news:
            self._registry.tell(self._executor, news)
        self._told = dict(reached)

    def _take_over(self, dead: str) -> None:
        buried = self._registry.bury(dead)
        self._metrics.recovered_jobs.inc(buried.waiting)
        for row in buried.untidy:
            try:
                self._tidy_after(row)
            except (Unavailable, StorageFull):  # the store is away: the next round tries again
                return self._bus.send(Message("waits", ""))
        self._engine.forget_executor(dead)
        self._registry.forget(dead)  # last: what is cut off is done again
        self._bus.send(Message("waits", ""))
        if buried.waiting:
            _log.info("jobs of a dead process wait again")
        return None

    def _tidy_after(self, row: JobRow) -> None:
        """Of a job that a dead process was taking in nothing is left; an ended one is tidied."""
        if row.is_arriving:
            if self._registry.drop(row):  # else it was confirmed meanwhile
                self._store.delete_all(row.folder)
                self._registry.remove(row.id, row.folder)
        else:
            self._endings.tidy(row)

    def _tidy_own(self) -> None:
        """What this process took in or ended, when the database or the store went away."""
        for row in self._registry.of_executor(self._executor):
            is_left = row.status == "receiving" and row.folder not in self._receiving
            has_ended = row.finished_ms is not None and not self._is_live(row)
            if is_left or has_ended or row.status == "dropped":
                with suppress(Unavailable, StorageFull):  # what follows does not wait for it
                    self._tidy_after(row)

    def _is_live(self, row: JobRow) -> bool:
        live = None if self._worker is None else self._worker.live.get(row.id)
        return live is not None and live.row.folder == row.folder

    def _end_overdue(self) -> None:
        for row in self._registry.overdue(_PAGE):
            allowed_s = ((row.deadline_ms or 0) - row.created_ms) / 1000
            error = DeadlineExceeded(f"Expected a result within {allowed_s:g} s.")
            self._endings.conclude(row, JobError.of(error))  # tidied up by `_tidy_own`

    def _delete_expired(self) -> None:
        before_ms = now_ms() - int(TRANSIENT_S * 1000)
        self._delete(partial(self._registry.finished_before, before_ms, _PAGE, True))
        if self._settings.retention_h:
            before_ms = now_ms() - int(self._settings.retention_h * 3_600_000)
            self._delete(partial(self._registry.finished_before, before_ms, _PAGE))

    def _delete(self, expired: Callable[[], list[JobRow]]) -> None:
        """Page by page, until nothing is left, or nothing of a page can be deleted."""
        gone = 1
        while gone and not self._closed.is_set():
            gone = sum(self._is_deleted(row) for row in expired())

    def _is_deleted(self, row: JobRow) -> bool:
        try:
            self._store.delete_all(row.folder)
            self._engine.forget(row.id)
        except (Unavailable, StorageFull):  # others may be: one does not hold them up
            return False
        _log.info("job deleted", job_id=row.id, reason="retention")
        return self._registry.remove(row.id, row.folder)

    def _delete_orphans(self) -> None:
        """Folders of no job: a process died while it deleted one, or wrote after that was done.

        A registry that knows no job at all is rather a new one beside an old store.
        """
        # First: a job's row is older than its folder. And a bucket may hold what is not ours.
        found = {name for name in self._store.prefixes() if FOLDER.fullmatch(name)}
        known = self._registry.folders()
        if found and not known:
            _log.warning("folders of unknown jobs are kept", folders=len(found))
            return
        for folder in found - known:
            self._store.delete_all(folder)
        # And second results, of a process that was taken for dead, wrote one, and died.
        for row in self._registry.ended_of_several_runs(now_ms() - int(_LATE_RESULTS_S * 1000)):
            self._endings.tidy(row)


class _Receiving:
    def __init__(self, folders: set[str], folder: str) -> None:
        self._folders, self._folder = folders, folder

    def __enter__(self) -> None:
        self._folders.add(self._folder)

    def __exit__(self, *_: object) -> None:
        self._folders.discard(self._folder)
