"""The database of jobs and keys: SQLite for a service of one process, PostgreSQL for several.

The statements are the same for both; what differs is how a transaction begins, whose clock counts,
and how each says that it cannot go on.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import structlog
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    Table,
    cast,
    create_engine,
    event,
    func,
    inspect,
    literal,
    text,
)
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.errors import StorageFull, Unavailable

_KEPT, _MORE = 4, 12
"""Connections to PostgreSQL that are kept, and how many more there may be for a while."""

_WAIT_S = 10
"""For a connection from the pool, a row's lock, or the database's answer to a new connection."""

_LOCK = 0x175
"""Of PostgreSQL's advisory locks the one held while tables are made or a job is taken in."""

_READ_ONLY = "25006"
"""PostgreSQL's word for a write to a server that only follows another."""


START_S = 60
"""How long a process waits at its start for a database, or a shared store, that does not answer."""

T = TypeVar("T")

_log = structlog.get_logger(__name__)


def once_reachable(open_it: Callable[[], T], is_over: Callable[[], bool] = lambda: False) -> T:
    """What is opened, once database and store answer.

    Raises `Unavailable` where they do not for long, or where it is over.
    """
    deadline = time.monotonic() + START_S
    while True:
        try:
            return open_it()
        except Unavailable as error:
            if time.monotonic() >= deadline or is_over():
                raise
            _log.warning("waiting for the database or the store", code=error.code)
            time.sleep(1)


class Database:
    """Transactions on one database. They block, and raise `Unavailable` or `StorageFull`."""

    def __init__(self, url: str) -> None:
        self._is_sqlite = url.startswith("sqlite")
        self._engine = _sqlite_engine(url) if self._is_sqlite else _postgres_engine(url)

    def close(self) -> None:
        self._engine.dispose()

    @staticmethod
    def make(connection: Connection, tables: MetaData) -> None:
        """Make the tables that are missing, and the columns that an older version's tables lack.

        Such a column is empty in the rows that are there.
        """
        tables.create_all(connection)
        for table in tables.sorted_tables:
            _add_columns(connection, table)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Statements that see what is committed, each for itself."""
        with self._mapped(), self._engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def writing(self, exclusive: bool = False) -> Iterator[Connection]:
        """A transaction; `exclusive` lets one process in at a time."""
        with self._mapped(), self._engine.begin() as connection:
            if exclusive and not self._is_sqlite:  # SQLite has one writer anyway
                connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            yield connection

    @property
    def now_ms(self) -> ColumnElement[int]:
        """The database's clock, which all processes share."""
        if self._is_sqlite:
            return literal(int(time.time() * 1000), BigInteger)
        return cast(func.extract("epoch", func.clock_timestamp()) * 1000, BigInteger)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            if self._is_sqlite and "locked" in str(error):
                raise Unavailable("Expected the database to answer, found it locked.") from error
            if self._is_sqlite:  # its word for a full disk
                raise StorageFull("Expected room to note this, found none.") from error
            raise Unavailable("Expected the database to answer, found it unreachable.") from error
        except DBAPIError as error:
            if getattr(error.orig, "sqlite_errorname", None) == "SQLITE_NOTADB":
                found = "a file that is none"
            elif error.connection_invalidated:
                found = "it ending"
            elif getattr(error.orig, "sqlstate", None) == _READ_ONLY:  # while another takes over
                found = "it read-only"
            else:
                raise
            raise Unavailable(f"Expected the database to answer, found {found}.") from error


def _add_columns(connection: Connection, table: Table) -> None:
    known = {column["name"] for column in inspect(connection).get_columns(table.name)}
    for column in table.columns:
        if column.name not in known:
            kind = column.type.compile(connection.dialect)
            connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}"))


class _Connection(sqlite3.Connection):
    """Commits wait for no disk: 0.01 ms each instead of 0.7 and more.

    Like the store it is safe against a killed process; a power cut may undo its last commits.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  # as SQLite has them
        super().__init__(*arguments, **named)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


SQLITE_ARGUMENTS: dict[str, Any] = {"factory": _Connection, "timeout": 30}
"""For every connection to an SQLite file of the service."""


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(url, connect_args=SQLITE_ARGUMENTS)

    # A transaction that reads before it writes would fail where another one writes between.
    @event.listens_for(engine, "connect")
    def _no_own_begin(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _postgres_engine(url: str) -> Engine:
    return create_engine(
        url,
        pool_size=_KEPT,
        max_overflow=_MORE,
        pool_timeout=_WAIT_S,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": _WAIT_S,
            # A process that is frozen or gone inside a transaction would hold its locks.
            "options": f"-c lock_timeout={_WAIT_S}s -c statement_timeout={3 * _WAIT_S}s "
            f"-c idle_in_transaction_session_timeout={_WAIT_S}s -c tcp_keepalives_idle=10 "
            "-c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 1000 * _WAIT_S,
        },
    )
