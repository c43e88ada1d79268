"""Tables that an older version made: opened, completed, and read, on either database."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from cluster.harness import require
from sqlalchemy import create_engine, inspect, text

from reliability.parts import postgres
from reliability.parts.postgres import Postgres
from service.jobs.records import JobRequest, JobRow
from service.jobs.registry import Registry
from service.pipeline import Options

NEW = ("owner", "traceparent")
"""Columns that came after the first version of the tables."""


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('jobs') / 'jobs.sqlite'}"
        return
    require(postgres.missing())
    with Postgres.start() as database:
        yield database.url.replace("postgresql://", "postgresql+psycopg://")


def row(number: int, owner: str | None = None, traceparent: str | None = None) -> JobRow:
    job_id = f"{number:032x}"
    asked = JobRequest(
        id=job_id, created_at=datetime(2026, 1, 1, tzinfo=UTC), options=Options(),
        file_bytes=(1,), input_sha256="0" * 64,
    )  # fmt: skip
    return JobRow(
        id=job_id, folder=f"{job_id}-{0:08x}", created_ms=number, priority=1, lane="small",
        input_bytes=1, request=asked.model_dump_json(), owner=owner,
        traceparent=traceparent, status="receiving",
    )  # fmt: skip


def test_tables_of_an_older_version(url: str) -> None:
    """Its jobs stay, owned by nobody; new ones have owners, and the older version reads on."""
    older = Registry(url)
    assert older.add(row(1), 10, 10, 10)
    older.close()
    engine = create_engine(url)
    with engine.begin() as connection:
        for column in NEW:
            connection.execute(text(f"alter table lts_jobs drop column {column}"))
    columns = inspect(engine).get_columns("lts_jobs")
    registry = Registry(url)
    assert registry.add(row(2, "key:1", "00-1-2-01"), 10, 10, 10)
    assert registry.get(row(1).id) == row(1)
    found = registry.newest(["receiving"], 10, 0, owner="key:1")
    assert [job.id for job in found] == [row(2).id]
    assert found[0].traceparent == "00-1-2-01"
    assert [job.owner for job in registry.newest(["receiving"], 10, 0)] == ["key:1", None]
    with engine.begin() as connection:
        names = ", ".join(column["name"] for column in columns)
        read = connection.execute(text(f"select {names} from lts_jobs"))  # noqa: S608  # our own
        assert len(read.all()) == 2
    registry.close()
    engine.dispose()
