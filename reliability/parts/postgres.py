"""A real PostgreSQL server that may be stopped, restarted and killed on the same data.

    with Postgres.start() as database:
        service = Server.start(folder, database_url=database.url)

It writes through to the disk as in a hospital (fsync), asks for a password, and listens on loopback
only, with no Unix socket. Programs: Debian's postgresql; they need not be in the PATH.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import psycopg
from psycopg import sql

from reliability.parts.hosting import (
    LOOPBACK,
    READY_S,
    Account,
    accepts,
    end,
    held_port,
    kill_with_children,
    own_folder,
    wait_until,
)

USER = DATABASE = "lts"
OWNER = "postgres"
"""The superuser, as Debian calls it; also the account that the server runs under for root."""

_PROGRAMS = ("initdb", "postgres")

_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
"""Of a stop: end what runs, or end as in a crash and recover at the next start."""


def find() -> Path | None:
    """The folder of the newest initdb and postgres installed."""
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    newest = sorted(debian, key=lambda path: path.parent.name.zfill(4), reverse=True)
    in_path = shutil.which("initdb")
    places = newest + ([Path(in_path).resolve().parent] if in_path else [])
    whole = (place for place in places if all((place / name).exists() for name in _PROGRAMS))
    return next(whole, None)


def missing() -> str | None:
    """What must be installed, None where nothing is missing."""
    return None if find() else f"not installed: {', '.join(_PROGRAMS)} (Debian: postgresql)"


def _account() -> Account:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return Account()
    known = {entry.pw_name for entry in pwd.getpwall()}
    return Account(OWNER if OWNER in known else "nobody")


@dataclass
class Postgres:
    """A cluster of databases in a folder, and the server that runs on it."""

    folder: Path
    port: int
    password: str
    settings: Mapping[str, object]
    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextmanager
    def start(cls, folder: Path | None = None, **settings: object) -> Iterator[Self]:
        """Make a cluster in an empty folder, start it, and create the user and the database.

        `settings` are PostgreSQL's own, such as max_connections=20. Root must give a folder that
        other accounts may reach, which pytest's tmp_path is not, or none for a temporary one.
        Raises FileNotFoundError where PostgreSQL is not installed, PermissionError for the folder.
        """
        if reason := missing():
            raise FileNotFoundError(reason)
        with own_folder(folder) as place, held_port() as port:
            database = cls(place, port, secrets.token_urlsafe(12), settings)
            try:
                database._create()
                yield database
            finally:
                database._close()

    @property
    def url(self) -> str:
        """For the service: a user that owns its database and nothing else."""
        return self._url(USER, DATABASE)

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start_again(self) -> None:
        """Start on what a stop or a kill left, on the same port, and wait until it is ready.

        Nothing happens where it runs.
        """
        if not self.is_running:
            self._serve()
            self.wait_ready()

    def wait_ready(self, within_s: float = READY_S) -> None:
        """Until it answers a query. Raises RuntimeError where it ended, and TimeoutError."""
        if self._process is None:
            raise RuntimeError("the server was never started")
        wait_until(self._answers, self._process, self.log, within_s)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Close every connection and stop. Raises TimeoutError; nothing happens where it is down.

        Immediate leaves the recovery to the next start, as a kill does.
        """
        if self._process is not None:
            end(self._process, _SIGNALS[mode])

    def restart(self) -> None:
        """As an update of the database server does."""
        self.stop()
        self.start_again()

    def kill(self) -> None:
        """`kill -9` of the postmaster and all its children, as when the machine's memory is out."""
        if self._process is not None:
            kill_with_children(self._process)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Refuse every write while the block runs, as a server does that only follows another."""
        name = "default_transaction_read_only"
        options = f"-c {name}=off"
        url = self._url(OWNER, "postgres")
        with psycopg.connect(url, autocommit=True, options=options) as connection:
            connection.execute(f"ALTER SYSTEM SET {name} = on")
            connection.execute("SELECT pg_reload_conf()")
            try:
                yield
            finally:
                connection.execute(f"ALTER SYSTEM RESET {name}")
                connection.execute("SELECT pg_reload_conf()")

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _create(self) -> None:
        _account().check_reach(self._data)
        self._data.mkdir(mode=0o700)
        _account().give(self._data)
        with tempfile.NamedTemporaryFile("w", suffix=".password") as secret:
            secret.write(self.password)
            secret.flush()
            _account().give(Path(secret.name))
            # Nothing needs to survive a power cut yet, and initdb would wait for all of its files.
            making = self._run(
                "initdb", "-D", self._data, "--no-sync", f"--username={OWNER}", "--encoding=UTF8",
                "--locale=C.UTF-8", "--auth=scram-sha-256", f"--pwfile={secret.name}",
            )  # fmt: skip
            try:
                status = making.wait(READY_S)
            finally:
                kill_with_children(making)
        if status != 0:
            raise RuntimeError(f"initdb ended with {status}: {self.log.read_text()}")
        self.start_again()
        self._create_database()

    def _create_database(self) -> None:
        user, database = sql.Identifier(USER), sql.Identifier(DATABASE)
        login = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(user, self.password)
        with psycopg.connect(self._url(OWNER, "postgres"), autocommit=True) as connection:
            connection.execute(login)
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, user))

    def _url(self, user: str, database: str) -> str:
        return f"postgresql://{user}:{self.password}@{LOOPBACK}:{self.port}/{database}"

    def _answers(self) -> bool:
        try:
            url = self._url(OWNER, "postgres")
            with psycopg.connect(url, connect_timeout=2) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    def _serve(self) -> subprocess.Popen[bytes]:
        options = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            # A recovery first writes all files through: at once takes 0.1 s, one by one 2 to 3 s.
            "recovery_init_sync_method": "syncfs",
            **self.settings,
        }
        flags = [f"--{name}={value}" for name, value in options.items()]
        self._process = self._run("postgres", "-D", self._data, *flags)
        return self._process

    def _run(self, name: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """A program of PostgreSQL; the PG variables of whoever runs the test do not count."""
        programs = find()
        if programs is None:
            raise FileNotFoundError(missing())
        plain = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
        return _account().popen([programs / name, *arguments], self.log, plain, self._data)

    def _close(self) -> None:
        """Stop it for good.

        One that was killed is started once more, though not until it has recovered: the end of a
        postmaster gives back its shared memory, and its start that of the one before.
        """
        if self._process is None:
            return
        if not self.is_running:
            process = self._serve()
            with suppress(RuntimeError, TimeoutError):
                wait_until(lambda: accepts(self.port), process, self.log)
        self.stop("immediate")
