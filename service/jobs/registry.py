"""What is known of every job and of every process that works on them: two tables, shared by all.

SQLite for a service of one process, PostgreSQL for several; the statements are the same. A job's
row decides what may happen once: who works on it, which result counts, how it ended. The store
holds its bytes, the engine which of its steps are done.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    func,
    select,
)
from sqlalchemy.exc import IntegrityError

from service.database import Database
from service.errors import Busy, Unavailable
from service.jobs.records import JobRow, Lane, Outcome, Progress, now_ms

SUSPECT_AFTER = 2
"""Attempts after which a job runs alone: it may be what ended its process, others beside it not."""

_META = MetaData()

_JOBS = Table(
    "lts_jobs",
    _META,
    Column("id", String(32), primary_key=True),
    Column("folder", String(64), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("lane", String(8), nullable=False),
    Column("input_bytes", BigInteger, nullable=False),
    Column("deadline_ms", BigInteger),
    Column("request", Text, nullable=False),
    Column("is_transient", Boolean, nullable=False, default=False),
    Column("owner", String(64)),
    Column("traceparent", String(64)),
    Column("status", String(16), nullable=False),
    Column("executor", String(128)),
    Column("attempts", Integer, nullable=False, default=0),
    Column("claims", Integer, nullable=False, default=0),
    Column("stage", String(16), nullable=False, default="queued"),
    Column("fraction", Float, nullable=False, default=0.0),
    Column("slices_done", Integer, nullable=False, default=0),
    Column("slices_total", Integer, nullable=False, default=0),
    Column("result", String(16)),
    Column("delivered", Text),
    Column("outcome", Text),
    Column("finished_ms", BigInteger),
    Index("lts_jobs_waiting", "status", "lane", "priority", "created_ms"),
    Index("lts_jobs_created", "created_ms"),
    Index("lts_jobs_finished", "finished_ms"),
    Index("lts_jobs_executor", "executor"),
)

_EXECUTORS = Table(
    "lts_executors",
    _META,
    Column("id", String(128), primary_key=True),
    Column("seen_ms", BigInteger, nullable=False),
)

_SERVICE = Table("lts_service", _META, Column("id", String(32), primary_key=True))
"""One row: whose jobs these are, which the store is marked with."""

_NOT_BEGUN: dict[str, Any] = {
    "stage": "queued", "fraction": 0.0, "slices_done": 0, "slices_total": 0,
}  # fmt: skip

_UNFINISHED = _JOBS.c.finished_ms.is_(None)
_DELIVERING = _JOBS.c.stage == "deliver"


class Buried(NamedTuple):
    """Of a dead executor: how many jobs wait again, and those that it has left untidy, since it was
    taking them in, or they had ended.
    """

    waiting: int
    untidy: list[JobRow]


class Registry:
    """The tables of the service `service_id`.

    Methods block, and raise `Unavailable` or `StorageFull`.
    """

    def __init__(self, url: str) -> None:
        """Connect, and make the tables where they are missing."""
        self._database = Database(url)
        with self._database.writing(exclusive=True) as connection:
            self._database.make(connection, _META)
            if (known := connection.execute(select(_SERVICE.c.id)).scalar()) is None:
                known = uuid.uuid4().hex
                connection.execute(_SERVICE.insert().values(id=known))
        self.service_id: str = known

    def close(self) -> None:
        self._database.close()

    # Taking jobs in

    def add(self, row: JobRow, max_jobs: int, max_bytes: int, max_delivering: int) -> bool:
        """Write a job down as `receiving`; false where its id is taken.

        Raises `Busy` where that would be more than the bounds of unfinished jobs, of their input's
        bytes, or of results that wait for a PACS. One process at a time is let in.
        """
        with self._database.writing(exclusive=True) as connection:
            if self._row(connection, row.id) is not None:
                return False
            _check_room(_load(connection), row.input_bytes, max_jobs, max_bytes, max_delivering)
            try:
                connection.execute(_JOBS.insert(), row.model_dump(exclude_none=True))
            except IntegrityError:
                return False
        return True

    def check_room(self, max_jobs: int, max_bytes: int, max_delivering: int) -> None:
        """Raise `Busy` where no further job would be taken, however small."""
        with self._database.reading() as connection:
            _check_room(_load(connection), 0, max_jobs, max_bytes, max_delivering)

    def confirm(self, row: JobRow) -> None:
        """The job's input is stored: from now on it will be finished whatever happens."""
        receiving = [*_same(row), _JOBS.c.status == "receiving"]
        if not self._update(receiving, status="queued", executor=None):
            raise Unavailable("Expected the job to be received, found this process taken for dead.")

    def drop(self, row: JobRow) -> bool:
        """Let nobody confirm a job that is still being taken in; says whether it is."""
        open_ = _JOBS.c.status.in_(("receiving", "dropped"))
        return self._update([*_same(row), open_], status="dropped")

    def remove(self, job_id: str, folder: str) -> bool:
        """Forget a job, if it is still this one; says whether it was."""
        mine = (_JOBS.c.id == job_id) & (_JOBS.c.folder == folder)
        with self._database.writing() as connection:
            return connection.execute(_JOBS.delete().where(mine)).rowcount > 0

    # Reading

    def get(self, job_id: str) -> JobRow | None:
        """One job, None where there is none."""
        with self._database.reading() as connection:
            return self._row(connection, job_id)

    def newest(
        self, statuses: Sequence[str], limit: int, offset: int, owner: str | None = None
    ) -> list[JobRow]:
        """Jobs of these statuses, of one owner if any, the newest first; no transient ones."""
        wanted = select(_JOBS).where(_JOBS.c.status.in_(statuses) & ~_JOBS.c.is_transient)
        if owner is not None:
            wanted = wanted.where(_JOBS.c.owner == owner)
        by_age = wanted.order_by(_JOBS.c.created_ms.desc(), _JOBS.c.id.desc())
        return self._rows(by_age.limit(limit).offset(offset))

    def counts(self) -> dict[tuple[str, str], int]:
        """How many unfinished jobs there are, by status and lane."""
        groups = (_JOBS.c.status, _JOBS.c.lane)
        query = select(*groups, func.count()).where(_UNFINISHED).group_by(*groups)
        with self._database.reading() as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(query)}

    def oldest_waiting_ms(self) -> int | None:
        """When the oldest job was accepted that nobody works on, None where there is none."""
        query = select(func.min(_JOBS.c.created_ms)).where(_JOBS.c.status == "queued")
        with self._database.reading() as connection:
            return connection.execute(query).scalar()

    def overdue(self, limit: int) -> list[JobRow]:
        """Jobs that wait although their deadline has passed."""
        late = (_JOBS.c.status == "queued") & (_JOBS.c.deadline_ms < now_ms())
        return self._rows(select(_JOBS).where(late).limit(limit))

    def finished_before(
        self, before_ms: int, limit: int, only_transient: bool = False
    ) -> list[JobRow]:
        """Jobs that ended before a moment, the oldest first."""
        old = select(_JOBS).where(_JOBS.c.finished_ms < before_ms)
        if only_transient:
            old = old.where(_JOBS.c.is_transient)
        return self._rows(old.order_by(_JOBS.c.finished_ms).limit(limit))

    def of_executor(self, executor: str) -> list[JobRow]:
        """Jobs that this executor takes in, works on, or has yet to tidy up."""
        return self._rows(select(_JOBS).where(_JOBS.c.executor == executor))

    def folders(self) -> set[str]:
        """The folders of all jobs."""
        with self._database.reading() as connection:
            return set(connection.execute(select(_JOBS.c.folder)).scalars())

    def ended_of_several_runs(self, since_ms: int) -> list[JobRow]:
        """Jobs that have ended since a moment, and were worked on more than once."""
        ended = _JOBS.c.finished_ms >= since_ms
        return self._rows(select(_JOBS).where(ended & (_JOBS.c.claims > 1)))

    # Working

    def claim(self, executor: str, places: Mapping[Lane, int], is_idle: bool) -> list[JobRow]:
        """Take waiting jobs, by priority and age, as many as there are places for in each lane.

        One that was tried `SUSPECT_AFTER` times is taken only by an executor that is idle, and then
        alone; while one waits, nothing else is taken.
        """
        waits = _JOBS.c.status == "queued"
        suspect = _JOBS.c.attempts >= SUSPECT_AFTER
        by_turn = (_JOBS.c.priority, _JOBS.c.created_ms, _JOBS.c.id)
        with self._database.writing() as connection:
            ids: list[str] = []
            query = select(_JOBS.c.id).order_by(*by_turn).with_for_update(skip_locked=True)
            if connection.execute(select(_JOBS.c.id).where(waits & suspect).limit(1)).first():
                if is_idle:
                    ids += connection.execute(query.where(waits & suspect).limit(1)).scalars()
            else:
                for lane, free in places.items():
                    if free > 0:
                        of_lane = query.where(waits & (_JOBS.c.lane == lane)).limit(free)
                        ids += connection.execute(of_lane).scalars()
            if not ids:
                return []
            claimed = _JOBS.update().where(_JOBS.c.id.in_(ids))
            connection.execute(
                claimed.values(
                    status="running",
                    executor=executor,
                    attempts=_JOBS.c.attempts + 1,
                    claims=_JOBS.c.claims + 1,
                    **_NOT_BEGUN,
                )
            )
            rows = connection.execute(select(_JOBS).where(_JOBS.c.id.in_(ids)).order_by(*by_turn))
            return [_job(row) for row in rows]

    def hand_back(self, row: JobRow, executor: str, was_tried: bool) -> None:
        """Let a job wait again; one that was handed back in good order was not tried."""
        self._update(
            [*_held(row, executor), _JOBS.c.status == "running"],
            status="queued",
            executor=None,
            **_NOT_BEGUN,
            attempts=_JOBS.c.attempts - (0 if was_tried else 1),
        )

    def release(self, row: JobRow) -> None:
        """Nothing is left to do for a job that has ended."""
        self._update([*_same(row), _JOBS.c.finished_ms.is_not(None)], executor=None)

    def tell(self, executor: str, progress: Mapping[str, Progress]) -> None:
        """Note how far jobs are that this executor works on."""
        with self._database.writing() as connection:
            for job_id, reached in progress.items():
                mine = (_JOBS.c.id == job_id) & (_JOBS.c.executor == executor) & _UNFINISHED
                connection.execute(_JOBS.update().where(mine).values(**reached._asdict()))

    def begin_delivery(self, row: JobRow, executor: str) -> None:
        """A job's result is there, and its PACS is waited for: what follows ends no process."""
        self._update(_held(row, executor), stage="deliver", attempts=1)

    def choose_result(self, row: JobRow, run: str) -> bool:
        """Let one run's result be the job's; false where another's is, or the job is gone."""
        if self._update([*_same(row), _JOBS.c.result.is_(None)], result=run):
            return True
        found = self.get(row.id)
        return found is not None and found.folder == row.folder and found.result == run

    def set_delivered(self, row: JobRow, delivered: str) -> None:
        """Note what became of the objects that were sent."""
        self._update([*_same(row)], delivered=delivered)

    def conclude(
        self, row: JobRow, outcome: Outcome, reached: Progress | None, executor: str
    ) -> bool:
        """Write down how a job ended, unless that was done before; says whether it was now.

        A job that nobody holds is held by `executor` then, until it is released.
        """
        return self._conclude(_same(row), outcome, reached, executor)

    def conclude_held(
        self, row: JobRow, outcome: Outcome, reached: Progress | None, executor: str
    ) -> bool:
        """The same, unless `executor` does not hold the job."""
        return self._conclude(_held(row, executor), outcome, reached, executor)

    def _conclude(
        self,
        where: Sequence[ColumnElement[bool]],
        outcome: Outcome,
        reached: Progress | None,
        executor: str,
    ) -> bool:
        finished_ms = int(outcome.finished_at.timestamp() * 1000)
        slices = (
            {}
            if reached is None
            else {"slices_done": reached.slices_done, "slices_total": reached.slices_total}
        )
        return self._update(
            [*where, _UNFINISHED],
            executor=func.coalesce(_JOBS.c.executor, executor),
            outcome=outcome.model_dump_json(),
            status=outcome.status,
            stage="done",
            fraction=1.0,
            finished_ms=finished_ms,
            **slices,
        )

    # Executors

    def beat(self, executor: str) -> bool:
        """Say that this executor lives; false where it was new, or was taken for dead."""
        alive = {"seen_ms": self._database.now_ms}
        with self._database.writing() as connection:
            known = _EXECUTORS.update().where(_EXECUTORS.c.id == executor).values(alive)
            if connection.execute(known).rowcount:
                return True
            connection.execute(_EXECUTORS.insert().values(id=executor, **alive))
        return False

    def silent(self, seconds: float) -> list[str]:
        """Executors that have not been heard of for so long."""
        before = self._database.now_ms - int(seconds * 1000)
        query = select(_EXECUTORS.c.id).where(_EXECUTORS.c.seen_ms < before)
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def unlisted(self) -> list[str]:
        """Executors that hold a job and are not among those that were heard of."""
        holders = select(_JOBS.c.executor).where(_JOBS.c.executor.is_not(None)).distinct()
        unlisted = holders.where(_JOBS.c.executor.not_in(select(_EXECUTORS.c.id)))
        with self._database.reading() as connection:
            return [str(name) for name in connection.execute(unlisted).scalars()]

    def others(self, executor: str) -> list[str]:
        """All other executors that were ever heard of, or hold a job."""
        known = select(_EXECUTORS.c.id).union(
            select(_JOBS.c.executor).where(_JOBS.c.executor.is_not(None))
        )
        with self._database.reading() as connection:
            return [name for name in connection.execute(known).scalars() if name != executor]

    def bury(self, executor: str) -> Buried:
        """Let the jobs wait again that a dead executor worked on."""
        held = _JOBS.c.executor == executor
        with self._database.writing() as connection:
            waiting = connection.execute(
                _JOBS.update().where(held & (_JOBS.c.status == "running")).values(
                    status="queued", executor=None, **_NOT_BEGUN
                )
            )  # fmt: skip
            left = connection.execute(select(_JOBS).where(held))
            return Buried(waiting.rowcount, [_job(row) for row in left])

    def forget(self, executor: str) -> None:
        """Nothing is left of a dead executor."""
        with self._database.writing() as connection:
            connection.execute(_EXECUTORS.delete().where(_EXECUTORS.c.id == executor))

    # Plumbing

    def _update(self, where: Sequence[ColumnElement[bool]], **values: Any) -> bool:  # noqa: ANN401
        with self._database.writing() as connection:
            return connection.execute(_JOBS.update().where(*where).values(**values)).rowcount > 0

    @staticmethod
    def _row(connection: Connection, job_id: str) -> JobRow | None:
        found = connection.execute(select(_JOBS).where(_JOBS.c.id == job_id)).first()
        return None if found is None else _job(found)

    def _rows(self, query: Any) -> list[JobRow]:  # noqa: ANN401  # of SQLAlchemy's many kinds
        with self._database.reading() as connection:
            return [_job(row) for row in connection.execute(query)]


def _load(connection: Connection) -> tuple[int, int, int]:
    """Unfinished jobs and their bytes, and beside them those whose PACS is waited for."""
    working = _UNFINISHED & ~_DELIVERING
    jobs, size = connection.execute(
        select(func.count(), func.coalesce(func.sum(_JOBS.c.input_bytes), 0)).where(working)
    ).one()
    delivering = connection.execute(
        select(func.count()).where(_UNFINISHED & _DELIVERING)
    ).scalar_one()
    return int(jobs), int(size), int(delivering)


def _check_room(
    load: tuple[int, int, int], more_bytes: int, max_jobs: int, max_bytes: int, max_delivering: int
) -> None:
    jobs, size, delivering = load
    if jobs >= max_jobs:
        raise Busy(f"Expected at most {max_jobs} unfinished jobs, found more.")
    if jobs and size + more_bytes > max_bytes:  # one alone is bounded as a request
        raise Busy(f"Expected at most {max_bytes} bytes of unfinished jobs, found more.")
    if delivering >= max_delivering:
        raise Busy(f"Expected at most {max_delivering} results to be delivered, found more.")


def _same(row: JobRow) -> tuple[ColumnElement[bool], ...]:
    """A job of this id may be another one by now, deleted and sent anew."""
    return _JOBS.c.id == row.id, _JOBS.c.folder == row.folder


def _held(row: JobRow, executor: str) -> tuple[ColumnElement[bool], ...]:
    return (*_same(row), _JOBS.c.executor == executor)


def _job(row: Row[Any]) -> JobRow:
    return JobRow.model_validate(dict(row._mapping))
