"""How a job ends, whoever says so: written down once, counted, logged, and tidied up after."""

from collections.abc import Callable, Iterable, Mapping

import structlog

from service.errors import Cancelled
from service.jobs.bus import Bus, Message
from service.jobs.records import (
    FETCHED,
    INPUT,
    LABELS,
    EndStatus,
    JobError,
    JobRow,
    Outcome,
    Progress,
    key,
    now,
)
from service.jobs.registry import Registry
from service.metrics import Metrics
from service.pipeline import rounded
from service.store import Store

_log = structlog.get_logger(__name__)


class Endings:
    """The ends of jobs as this process tells them."""

    def __init__(
        self, executor: str, registry: Registry, store: Store, bus: Bus, metrics: Metrics
    ) -> None:
        self._executor = executor
        self._registry, self._store, self._bus = registry, store, bus
        self._metrics = metrics

    def conclude(self, row: JobRow, error: JobError | None) -> None:
        """Write down how a job ended, unless that was done before.

        One that nobody holds is this process' to tidy up from now on.
        """
        self._conclude(row, error, {}, None, self._registry.conclude)

    def conclude_held(
        self,
        row: JobRow,
        error: JobError | None,
        timings_s: Mapping[str, float],
        reached: Progress,
    ) -> None:
        """The same of a job that this process works on, unless another has taken it over."""
        self._conclude(row, error, timings_s, reached, self._registry.conclude_held)

    def _conclude(
        self,
        row: JobRow,
        error: JobError | None,
        timings_s: Mapping[str, float],
        reached: Progress | None,
        write: Callable[[JobRow, Outcome, Progress | None, str], bool],
    ) -> None:
        status: EndStatus = "succeeded" if error is None else "failed"
        if error is not None and error.code == Cancelled.code:
            status = "cancelled"
        outcome = Outcome(status=status, finished_at=now(), timings_s=dict(timings_s), error=error)
        if write(row, outcome, reached, self._executor):
            seconds = outcome.finished_at.timestamp() - row.created_ms / 1000
            self._metrics.job_ended(status, None if error is None else error.code, seconds)
            self._metrics.observe_stages(outcome.timings_s)
            _log.info(
                "job ended",
                job_id=row.id,
                status=status,
                code=error and error.code,
                stages=rounded(outcome.timings_s),
            )
        self._bus.send(Message("ended", row.id))

    def tidy(self, row: JobRow) -> None:
        """Delete what only the work on a job needed, once it has ended."""
        found = self._registry.get(row.id)
        if found is None or found.folder != row.folder:
            self._store.delete_all(row.folder)
            return
        if found.finished_ms is None:  # taken over meanwhile: its input is still needed
            return
        for name in self._left_over(found):
            self._store.delete(name)
        self._registry.release(row)

    def _left_over(self, row: JobRow) -> Iterable[str]:
        """All keys of a job but those of its result."""
        if row.result_folder is None or row.status != "succeeded":
            return self._store.keys(row.folder)
        if row.claims == 1:  # no other run: no need to look
            return [key(row.folder, name) for name in (INPUT, FETCHED, LABELS)]
        keep = f"{row.result_folder}/"
        return [name for name in self._store.keys(row.folder) if not name.startswith(keep)]


def cancelled() -> Cancelled:
    """Why a job is stopped that nobody wants any more."""
    return Cancelled("The segmentation was cancelled by request.")
