"""A service process that may be stopped and started on the same data, and its clients."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.load import free_port, wait_until_ready

ROOT = Path(__file__).parent.parent
ANSWER_S = 120


class Wrong(Exception):
    """The service did what it must not do."""


def check(condition: object, message: str) -> None:
    """Raise `Wrong` unless the condition holds."""
    if not condition:
        raise Wrong(message)


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, its body whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    within_s: float = ANSWER_S,
) -> Answer:
    """One request to loopback on a connection of its own. Raises OSError or HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=within_s)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        connection.close()


def log_of(folder: Path) -> Path:
    """Where the process that has this data folder logs: beside it."""
    return folder.with_suffix(".log")


def launch(
    folder: Path,
    port: int,
    settings: Mapping[str, object],
    role: Sequence[str] = ("serve",),
    prefix: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `python -m service` on this data folder, and do not wait until it is ready.

    `prefix` stands before python, `environment` beside the settings.
    """
    variables = {**os.environ, **(environment or {})}
    variables |= {"LTS_PORT": str(port), "LTS_DATA_DIR": str(folder)}
    variables |= {"LTS_DEVICE": "cpu", "PYTHONPATH": str(ROOT)}
    variables |= {f"LTS_{name.upper()}": str(value) for name, value in settings.items()}
    command = [*prefix, sys.executable, "-m", "service", *role]
    with log_of(folder).open("ab") as sink:
        return subprocess.Popen(command, env=variables, cwd=ROOT, stdout=sink, stderr=sink)


@dataclass(frozen=True)
class Server:
    """A running `python -m service serve` on loopback; leaving its block kills it."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @classmethod
    def start(cls, folder: Path, prefix: Iterable[str] = (), **settings: object) -> Self:
        """Start on this data folder and wait until it is ready; `prefix` stands before python.

        Its log goes to a file beside the folder.
        """
        port = free_port()
        process = launch(folder, port, settings, prefix=prefix)
        try:
            wait_until_ready(process, f"http://127.0.0.1:{port}/health/ready")
        except BaseException:
            process.kill()
            process.wait()
            raise
        return cls(process, port, log_of(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """`kill -9`; nothing happens where it has ended."""
        self.process.kill()
        self.process.wait(ANSWER_S)

    def terminate(self, within_s: float) -> int:
        """SIGTERM; the exit code, or TimeoutExpired."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own. Raises OSError or HTTPException."""
        return ask(self.port, method, path, body, headers)
