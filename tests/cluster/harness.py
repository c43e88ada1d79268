"""Processes of one service that share a real PostgreSQL server and a real bucket."""

import http.client
import itertools
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal

import obstore
import psycopg
import pytest
from forked_service import check_log, forked
from http_helpers import ZIP
from obstore.store import ObjectStore, from_url

from benchmarks.load import free_port
from reliability.parts.postgres import Postgres
from reliability.parts.s3 import S3
from reliability.process import Answer
from service.jobs.kept import Kept, keep
from service.pipeline import Result
from service.store import MARK, Store

WAIT_S = 60
URL = "/v1/segmentations"
DEAD_S = 3
"""The least that the service takes."""

LOST_IN_THE_PROXY = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""Where the proxy begins to refuse, asyncio leaves unclosed what it accepts at that moment."""

SOON = {"Prefer": "respond-async"}
WORKING = ("queued", "running")
_NUMBERS = itertools.count()


def require(reason: str | None) -> None:
    """Fail in CI, and skip elsewhere, where something is not installed."""
    if reason is not None and os.environ.get("CI"):
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)


def until(done: Callable[[], Any], within_s: float = WAIT_S) -> Any:
    """What the call gives, once that is true."""
    deadline = time.monotonic() + within_s
    while not (found := done()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


@dataclass(frozen=True)
class Process:
    """One process of the service; changed while it runs by files that `altered_service` reads."""

    name: str
    process: ForkServerProcess
    port: int
    log: Path
    control: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        return ask(self.port, method, path, body, headers)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        text = self.ask("GET", "/metrics").body.decode()
        return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)))

    def hold(self) -> None:
        """Take no job from now on."""
        (self.control / "hold").touch()

    def release(self) -> None:
        (self.control / "hold").unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        self.hold()
        try:
            yield
        finally:
            self.release()

    @contextmanager
    def slow(self, seconds: float, what: Literal["slow", "slow-put"] = "slow") -> Iterator[None]:
        """Let each batch take so much longer, or the last document of each result."""
        written = self.control / "new"
        written.write_text(str(seconds))
        written.rename(self.control / what)
        try:
            yield
        finally:
            (self.control / what).unlink()

    def wait_ready(self) -> None:
        until(self._is_ready)

    def _is_ready(self) -> bool:
        answer = self.health()
        assert answer is None or b"invalid_model" not in answer.body, answer
        return answer is not None and answer.status == 200

    def health(self) -> Answer | None:
        """Whether it is ready, in its own words; None before it listens."""
        assert self.process.is_alive(), f"{self.name} ended"
        with suppress(OSError, http.client.HTTPException):
            return self.ask("GET", "/health/ready")
        return None

    def wait(self, within_s: float = WAIT_S) -> int:
        """Its exit code, once it has ended."""
        self.process.join(within_s)
        assert self.process.exitcode is not None, f"{self.name} did not end"
        return self.process.exitcode

    def wait_killed(self) -> None:
        """Until it has ended by `kill -9`."""
        assert self.wait() == -signal.SIGKILL

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self.process.is_alive():
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def terminate(self) -> None:
        self.process.terminate()

    def end(self, within_s: float = WAIT_S) -> int:
        """SIGTERM; the exit code."""
        self.terminate()
        return self.wait(within_s)


@dataclass
class Cluster:
    """Starts processes, and looks at what they share."""

    database: Postgres
    bucket: S3
    folder: Path
    model: Path
    processes: list[Process] = field(default_factory=list)

    def begin(self, *command: str, held: bool = False, **environment: object) -> Process:
        """Start `python -m service COMMAND` in a folder of its own; it may not be ready yet.

        One that is `held` takes no job until it is released.
        """
        name = f"{command[0]}-{next(_NUMBERS)}"
        control, log, port = (
            self.folder / f"{name}.control",
            self.folder / f"{name}.log",
            free_port(),
        )
        control.mkdir()
        if held:
            (control / "hold").touch()
        settings = {
            "LTS_PORT": port, "LTS_DATA_DIR": self.folder / name, "LTS_DEVICE": "cpu",
            "LTS_MODEL": self.model, "LTS_THREADS": 1, "LTS_BATCH_SLICES": 1,
            "LTS_DATABASE_URL": self.database.url, "LTS_STORE_URL": self.bucket.url,
            "LTS_DEAD_S": DEAD_S, "CONTROL": control,
        }  # fmt: skip
        process = forked(command, self.bucket.environment | settings | environment, log)
        self.processes.append(Process(name, process, port, log, control))
        return self.processes[-1]

    def start(self, *command: str, held: bool = False, **environment: object) -> Process:
        process = self.begin(*command, held=held, **environment)
        process.wait_ready()
        return process

    def close(self) -> None:
        """End all processes; fails where one of their logs names the patient."""
        for process in self.processes:
            process.thaw()
            process.kill()
        for process in self.processes:
            check_log(process.log)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database answers."""
        with psycopg.connect(self.database.url, autocommit=True) as connection:
            return connection.execute(query, values).fetchall()

    def row(self, job_id: str) -> dict[str, Any]:
        """What the registry knows of a job."""
        ((row,),) = self.rows("select to_json(j) from lts_jobs j where id = %s", job_id)
        return row

    def wait_tidy(self, job_id: str) -> None:
        """Until nothing is left to do for a job that has ended."""
        until(lambda: self.row(job_id)["executor"] is None)

    @property
    def _store(self) -> ObjectStore:
        return from_url(self.bucket.url, **self.bucket.options())

    def put(self, key: str, data: bytes) -> None:
        """Write into the bucket as somebody else would."""
        obstore.put(self._store, key, data)

    def everything(self) -> dict[str, bytes]:
        """The objects in the bucket, by key, but for the service's mark."""
        store = self._store
        found = {}
        for path in [item["path"] for batch in obstore.list(store) for item in batch]:
            with suppress(FileNotFoundError):  # deleted since
                if path == MARK:
                    continue
                found[path] = bytes(obstore.get(store, path).bytes())
        return found

    def folders(self) -> set[str]:
        """The first parts of all keys in the bucket."""
        return {path.partition("/")[0] for path in self.everything()}

    def kept(self, job_id: str) -> dict[str, bytes]:
        """What the bucket holds of a job, by run and file."""
        return {
            path.partition("/")[2]: content
            for path, content in self.everything().items()
            if path.startswith(f"{job_id}-")
        }

    def result(self, job_id: str) -> dict[str, bytes]:
        """The files of the one result that the bucket holds of a job, and nothing else, once the
        work on it is tidied up.
        """
        self.wait_tidy(job_id)
        found = self.kept(job_id)
        assert len({path.partition("/")[0] for path in found}) == 1, sorted(found)
        return {path.partition("/")[2]: content for path, content in found.items()}


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        connection.close()


def post(api: Process, body: bytes, headers: Mapping[str, str] = SOON) -> str:
    """The id of a job that was accepted."""
    answer = api.ask("POST", URL, body, {**ZIP, **headers})
    assert answer.status in (201, 202), answer
    return answer.json()["id"]


def get(api: Process, job_id: str) -> dict:
    answer = api.ask("GET", f"{URL}/{job_id}")
    assert answer.status == 200, answer
    return answer.json()


def ended(api: Process, job_id: str, within_s: float = WAIT_S) -> dict:
    """A job once it has ended."""
    deadline = time.monotonic() + within_s
    while (job := get(api, job_id))["status"] in WORKING:
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
    return job


def at_work(api: Process, job_id: str) -> dict:
    """A job once some of its slices are labelled and others are not."""

    def look() -> dict | None:
        job = get(api, job_id)
        assert job["status"] in WORKING, job
        progress = job["progress"]
        return job if 0 < progress["slices_done"] < progress["slices_total"] else None

    return until(look)


@dataclass(frozen=True)
class Expected:
    """What a job with this input must keep, by the same flow in this process."""

    undisturbed: Result
    folder: Path

    def files(self, job: dict) -> dict[str, bytes]:
        folder = self._keep(job)
        return {path.name: path.read_bytes() for path in (self.folder / folder).iterdir()}

    def overlays(self, job: dict) -> bytes:
        return Kept(self._store, self._keep(job)).overlays_zip()

    @property
    def _store(self) -> Store:
        return Store.open(None, self.folder, self.folder, 0)

    def _keep(self, job: dict) -> str:
        made_at = datetime.fromisoformat(job["created_at"])
        keep(self._store, job["id"], self.undisturbed, made_at)
        return job["id"]


@dataclass
class Event:
    name: str
    data: dict
    at: float


class Watching(threading.Thread):
    """A client of a job's events."""

    def __init__(self, port: int, job_id: str) -> None:
        super().__init__(daemon=True)
        self.events: list[Event] = []
        self.status = 0
        self._port, self._job_id = port, job_id
        self.start()

    def run(self) -> None:
        name = ""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)
        connection.request("GET", f"{URL}/{self._job_id}/events")
        response = connection.getresponse()
        self.status = response.status
        while line := response.readline().decode().strip("\r"):
            key, _, value = line.rstrip("\n").partition(": ")
            if key == "event":
                name = value
            elif key == "data":
                self.events.append(Event(name, json.loads(value), time.monotonic()))
        connection.close()

    def wait(self) -> list[Event]:
        """All events, once the stream has ended."""
        self.join(WAIT_S)
        assert not self.is_alive()
        return self.events
