"""A real S3 server (moto's) in a process of its own, that clients may lose for a while.

    with S3.start() as bucket:
        store = obstore.store.from_url(bucket.url, **bucket.options(connect_timeout="1s"))

Clients reach it through a proxy of ours, so that it can be out of reach and keep its content, which
it holds in memory and in temporary files. Needs `moto[s3,server]`.
"""

import http.client
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from reliability.parts.hosting import (
    LOOPBACK,
    Account,
    accepts,
    end,
    held_port,
    own_folder,
    wait_until,
)
from reliability.parts.proxy import Proxy

BUCKET, PREFIX = "lts", "segmentations"
REGION = "us-east-1"  # the only one in which a bucket is made without saying where
KEY_ID, SECRET = "lts", "not-a-secret"  # of a server that lives for a test

Loss = Literal["refuses", "hangs", "loses answers"]
"""How a server is lost: no connection, a connection without an answer, work without an answer."""

_ROOT = Path(__file__).parents[2]


def missing() -> str | None:
    """What must be installed, None where nothing is missing."""
    wanted = ("moto", "flask", "werkzeug")
    lacking = [name for name in wanted if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(lacking)} (pip: moto[s3,server])" if lacking else None


@dataclass(frozen=True)
class S3:
    """A running one, with one empty bucket."""

    process: subprocess.Popen[bytes]
    proxy: Proxy
    log: Path

    @classmethod
    @contextmanager
    def start(cls, folder: Path | None = None) -> Iterator[Self]:
        """Start one whose log and temporary files are in the folder.

        Raises ModuleNotFoundError where moto is not installed.
        """
        if reason := missing():
            raise ModuleNotFoundError(reason)
        with own_folder(folder) as place, held_port() as port, Proxy.start(port) as proxy:
            log = place / "s3.log"
            process = _start(port, place, log)
            try:
                wait_until(lambda: accepts(port), process, log)
                _make_bucket(port)
                yield cls(process, proxy, log)
            finally:
                process.send_signal(signal.SIGCONT)
                end(process, signal.SIGTERM)

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.proxy.port}"

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}/{PREFIX}"

    @property
    def environment(self) -> dict[str, str]:
        """For a process that takes the settings of S3 from its environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_ALLOW_HTTP": "true",
        }

    def options(self, **client: Any) -> dict[str, Any]:
        """The same for `obstore.store.from_url` and `S3Store`, with further client options.

        Not AWS_ALLOW_HTTP in small letters: obstore 0.12 panics where that is a keyword.
        """
        return {
            "endpoint": self.endpoint,
            "access_key_id": KEY_ID,
            "secret_access_key": SECRET,
            "region": REGION,
            "client_options": {"allow_http": True, **client},
        }

    @contextmanager
    def unreachable(self, at_most_s: float = 60, how: Loss = "refuses") -> Iterator[None]:
        """Lose it until the block ends or the seconds are over; its content stays.

        In the one that loses answers, the server does what it is asked.
        """
        back = threading.Timer(at_most_s, self._restore)
        self._lose(how)
        back.start()
        try:
            yield
        finally:
            back.cancel()
            back.join()
            self._restore()

    def _lose(self, how: Loss) -> None:
        match how:
            case "refuses":
                self.proxy.refuse()
            case "hangs":
                self.process.send_signal(signal.SIGSTOP)
            case "loses answers":
                self.proxy.lose_answers()

    def _restore(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.proxy.accept()


def _start(port: int, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    module = "reliability.parts.moto_server"
    command = [sys.executable, "-m", module, "-H", LOOPBACK, "-p", str(port)]
    environment = {**_plain(os.environ), "TMPDIR": str(folder)}
    return Account().popen(command, log, environment, _ROOT)


def _plain(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what is meant for other servers of S3."""
    others = ("AWS_", "MOTO_")
    return {name: value for name, value in environment.items() if not name.startswith(others)}


def _make_bucket(port: int) -> None:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
    try:
        connection.request("PUT", f"/{BUCKET}")
        status = connection.getresponse().status
    finally:
        connection.close()
    if status != 200:
        raise RuntimeError(f"Expected 200 for the new bucket, found {status}.")
