"""How a job ends, whoever says so: written down once, counted, logged, and tidied up after."""

from collections.abc import Iterable, Mapping

import structlog

from service.errors import Cancelled
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


def conclude(
    registry: Registry,
    metrics: Metrics,
    row: JobRow,
    error: JobError | None,
    timings_s: Mapping[str, float] | None = None,
    reached: Progress | None = None,
    executor: str | None = None,
) -> None:
    """Write down how a job ended, unless that was done before, or `executor` does not hold it."""
    status: EndStatus = "succeeded" if error is None else "failed"
    if error is not None and error.code == Cancelled.code:
        status = "cancelled"
    outcome = Outcome(
        status=status, finished_at=now(), timings_s=dict(timings_s or {}), error=error
    )
    if not registry.conclude(row, outcome, reached, executor):
        return
    metrics.jobs.labels(status=status).inc()
    metrics.observe_stages(outcome.timings_s)
    _log.info(
        "job ended",
        job_id=row.id,
        status=status,
        code=error and error.code,
        stages=rounded(outcome.timings_s),
    )


def tidy(registry: Registry, store: Store, row: JobRow) -> None:
    """Delete what only the work on a job needed, once it has ended."""
    found = registry.get(row.id)
    if found is None or found.folder != row.folder:
        store.delete_all(row.folder)
        return
    if found.finished_ms is None:  # taken over meanwhile: its input is still needed
        return
    for name in _left_over(store, found):
        store.delete(name)
    registry.release(row)


def _left_over(store: Store, row: JobRow) -> Iterable[str]:
    """All keys of a job but those of its result."""
    if row.result_folder is None:
        return store.keys(row.folder)
    if row.claims == 1:  # no other run: no need to look
        return [key(row.folder, name) for name in (INPUT, FETCHED, LABELS)]
    keep = f"{row.result_folder}/"
    return [name for name in store.keys(row.folder) if not name.startswith(keep)]


def cancelled() -> Cancelled:
    """Why a job is stopped that nobody wants any more."""
    return Cancelled("The segmentation was cancelled by request.")
