"""What must be true of a stream once all is left alone: each accepted job has one right result.

The registry and the store are looked at directly, not through the API, which might hide what is
left.
"""

import time
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import create_engine, inspect, text

from reliability.fault.bench import AT
from reliability.process import ask, check
from service.jobs.records import JobRow
from service.jobs.registry import Registry
from service.store import MARK, Store

EVERYTHING = ("receiving", "queued", "running", "succeeded", "failed", "cancelled")

SETTLE_S = 30
"""For what the service deletes by itself, some of it by the clock."""

_ENGINE_TABLES = ("workflow_status", "operation_outputs")


def all_rows(registry: Registry) -> list[JobRow]:
    """Every job there is, whatever became of it."""
    return registry.newest(EVERYTHING, 1_000_000, 0)


def settled(registry: Registry) -> list[JobRow]:
    """Every job, once no process has anything left to do for one. Raises `Wrong`."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        rows = all_rows(registry)
        held = [f"{row.id} ({row.status})" for row in rows if row.executor is not None]
        if not held:
            return rows
        check(time.monotonic() < deadline, f"jobs are still held: {held}")
        time.sleep(0.1)


def check_jobs(rows: Collection[JobRow], accepted: Collection[str]) -> None:
    """Exactly the accepted jobs are there, and each has succeeded with a result. Raises `Wrong`."""
    found = {row.id for row in rows}
    lost = set(accepted) - found
    check(not lost, f"accepted jobs are lost: {sorted(lost)}")
    check(found == set(accepted), f"jobs that nobody posted: {sorted(found - set(accepted))}")
    check(len(rows) == len(found), "a job is written down twice")
    for row in rows:
        check(row.status == "succeeded", f"job {row.id} is {row.status}: {row.outcome}")
        check(row.result is not None, f"job {row.id} has no result")
        check(row.outcome is not None, f"job {row.id} has no outcome")


def check_documents(rows: Collection[JobRow], documents: Mapping[str, Any]) -> None:
    """A job has ended once: as its client saw it, whatever came afterwards. Raises `Wrong`."""
    for row in rows:
        seen = documents.get(row.id)
        check(seen is not None, f"job {row.id} was accepted, and its client never saw its end")
        ended = row.ended
        at = None if ended is None else ended.finished_at
        was_at = datetime.fromisoformat(seen["finished_at"])
        check(at == was_at, f"job {row.id} has ended twice: at {was_at} and at {at}")


def orphans(store: Store, rows: Collection[JobRow]) -> set[str]:
    """Folders in the store that belong to no job."""
    return set(store.prefixes()) - {row.folder for row in rows}


def keys_of_jobs(store: Store) -> list[str]:
    """All keys but the service's mark."""
    return [name for name in store.keys("") if name != MARK]


def check_folders(
    store: Store, rows: Collection[JobRow], within_s: float = SETTLE_S
) -> dict[str, list[str]]:
    """The keys of each job, by its id, once nothing but one result of each is in the store.

    Raises `Wrong` for folders of no job, a second result, and what only the work needed.
    """
    wanted = {f"{row.result_folder}/": row.id for row in rows}
    deadline = time.monotonic() + within_s
    while True:
        found: dict[str, list[str]] = {row.id: [] for row in rows}
        left = []
        for name in keys_of_jobs(store):
            job_id = wanted.get(name[: name.rfind("/") + 1])
            if job_id is None:
                left.append(name)
            else:
                found[job_id].append(name)
        if not left:
            return found
        check(
            time.monotonic() < deadline,
            f"{len(left)} objects beside the results, as {left[0]}: {_why_left(left[0], rows)}",
        )
        time.sleep(0.5)


def _why_left(name: str, rows: Collection[JobRow]) -> str:
    folder = name.partition("/")[0]
    row = next((row for row in rows if row.folder == folder), None)
    return "of no job" if row is None else f"of job {row.id}, whose result is {row.result}"


def check_bytes(
    store: Store, row: JobRow, keys: Collection[str], expected: Mapping[str, bytes]
) -> None:
    """What is kept of a job is what an undisturbed run makes. Raises `Wrong`."""
    found = {key.rpartition("/")[2]: store.get(key) or b"" for key in keys}
    wrong = differing(found, expected)
    check(not wrong, f"job {row.id}: other bytes than an undisturbed run's in {wrong}")


def differing(found: Mapping[str, bytes], expected: Mapping[str, bytes]) -> list[str]:
    """Names of objects that are missing, too many, or other ones."""
    names = found.keys() | expected.keys()
    return sorted(name for name in names if found.get(name) != expected.get(name))


def delete_all(port: int, job_ids: Collection[str]) -> None:
    """DELETE each job, which must work at once. Raises `Wrong`."""
    for job_id in job_ids:
        answer = ask(port, "DELETE", f"{AT}/{job_id}")
        check(answer.status == 204, f"DELETE of {job_id}: {answer.status} {answer.body[:200]!r}")


def check_nothing_left(registry: Registry, store: Store, engine_url: str) -> None:
    """After all was deleted: no row, no object, nothing noted of a step. Raises `Wrong`."""
    rows = all_rows(registry)
    check(not rows, f"{len(rows)} deleted jobs are written down, as {[row.id for row in rows[:1]]}")
    keys = keys_of_jobs(store)
    check(not keys, f"{len(keys)} objects are left, as {keys[:1]}")
    noted = engine_notes(engine_url)
    check(not any(noted.values()), f"the engine remembers deleted jobs: {noted}")


def engine_notes(url: str) -> dict[str, int]:
    """How many rows the engine's tables have."""
    engine = create_engine(url)
    schema = None if url.startswith("sqlite") else "dbos"
    try:
        with engine.connect() as connection:
            known = inspect(connection).get_table_names(schema)
            prefix = "" if schema is None else f"{schema}."
            return {
                name: connection.execute(text(f"select count(*) from {prefix}{name}")).scalar_one()  # noqa: S608  # of our own list
                for name in _ENGINE_TABLES
                if name in known
            }
    finally:
        engine.dispose()
