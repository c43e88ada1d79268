"""Where a stream runs: the processes of a service, and the real parts that they stand on."""

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from obstore.store import from_url

from benchmarks.memory import resident_mb
from reliability.parts.hosting import held_port
from reliability.parts.nginx import Nginx
from reliability.parts.postgres import Postgres
from reliability.parts.s3 import S3
from reliability.process import ask, check, launch, log_of
from service.settings import Settings
from service.store import Store

DEAD_S = 4
"""Of silence, until others take over: the sooner, the more often that happens here."""

GRACE_S = 5
END_S = 2 * GRACE_S + 20
"""From SIGTERM to the end: what runs may end, then it is told to, and all of that on few cores."""

READY_S = 120
"""Until a process is ready on a machine that is busy."""


@dataclass
class Node:
    """One process of the service, on a port and a data folder that stay while it is down."""

    name: str
    role: Sequence[str]
    folder: Path
    port: int
    settings: Mapping[str, object]
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and do not wait until it is ready."""
        self.process = launch(
            self.folder, self.port, self.settings, self.role, environment=self.environment
        )

    def kill(self) -> None:
        """`kill -9`, whether it runs, is stopped or has ended."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(END_S)

    def send(self, number: signal.Signals) -> None:
        self._running.send_signal(number)

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def is_ready(self) -> bool:
        """Whether it says so within a second."""
        try:
            return ask(self.port, "GET", "/health/ready", within_s=1).status == 200
        except (OSError, HTTPException):
            return False

    def wait_ready(self) -> None:
        """Raises `Wrong` where it has ended, or is not ready for long."""
        deadline = time.monotonic() + READY_S
        while not self.is_ready:
            self.check_running()
            check(time.monotonic() < deadline, f"{self.name} is not ready after {READY_S} s")
            time.sleep(0.1)

    def check_running(self) -> None:
        """Raise `Wrong` where it ended although nobody ended it."""
        code = self._running.poll()
        check(code is None, f"{self.name} ended by itself with {code}: {log_of(self.folder)}")

    @property
    def peak_mb(self) -> float:
        """The most memory that it held since its start."""
        return resident_mb(self.pid, "VmHWM")

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self.process


@dataclass(frozen=True)
class Cluster:
    """Processes that share jobs, where clients find them, and what they share.

    `store` is a second way to the same objects, `registry_url` and `engine_url` to the databases.
    """

    nodes: tuple[Node, ...]
    port: int
    store: Store
    registry_url: str
    engine_url: str
    database: Postgres | None = None
    bucket: S3 | None = None


@contextmanager
def several(folder: Path, model: Path) -> Iterator[Cluster]:
    """Two workers and two APIs behind nginx, on PostgreSQL and a bucket."""
    folder.chmod(0o755)  # PostgreSQL and nginx run as others where we are root
    with ExitStack() as stack:
        database = stack.enter_context(Postgres.start(folder / "postgres"))
        bucket = stack.enter_context(S3.start(folder / "s3"))
        settings = {
            "database_url": database.url, "store_url": bucket.url, "dead_s": DEAD_S,
            "grace_s": GRACE_S, "threads": 1, "model": model,
        }  # fmt: skip
        names = ("worker 1", "worker 2", "API 1", "API 2")
        nodes = []
        for name in names:
            role = ["worker"] if name.startswith("worker") else ["serve", "--no-worker"]
            port = stack.enter_context(held_port())
            at = folder / name.replace(" ", "-")
            nodes.append(Node(name, role, at, port, settings, bucket.environment))
        apis = [f"127.0.0.1:{node.port}" for node in nodes if node.role != ["worker"]]
        balancer = stack.enter_context(Nginx.start(apis, folder / "nginx"))
        stack.enter_context(running(nodes))
        objects = from_url(bucket.url, **bucket.options(read_timeout="20s"))
        store = Store(objects, folder, 0)
        shared = Settings(database_url=database.url, store_url=bucket.url)
        yield Cluster(
            tuple(nodes), balancer.port, store, shared.registry_url, shared.engine_url,
            database, bucket,
        )  # fmt: skip


@contextmanager
def single(folder: Path, model: Path) -> Iterator[Cluster]:
    """One process with SQLite and a folder."""
    at = folder / "service"
    with held_port() as port:
        settings = {"grace_s": GRACE_S, "threads": 1, "model": model}
        node = Node("the process", ["serve"], at, port, settings)
        own = Settings(data_dir=at)
        with running([node]):
            # Only opened here: the service has made it, and clears it at each start.
            store = Store.open(f"file://{own.store_folder}", own.store_folder, folder, 0)
            yield Cluster((node,), port, store, own.registry_url, own.engine_url)


@contextmanager
def running(nodes: Sequence[Node]) -> Iterator[None]:
    """Start all and wait until they are ready; leaving the block kills them, however it is left."""
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_ready()
        yield
    finally:
        for node in nodes:
            node.kill()
