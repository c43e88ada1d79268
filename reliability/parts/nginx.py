"""A real nginx in front of several replicas of the service, as a hospital would run it.

    with Nginx.start(["127.0.0.1:8001", "127.0.0.1:8002"]) as balancer:
        requests.get(f"{balancer.url}/health/ready")

How it balances is in nginx.conf.template, which can be read. Program: Debian's nginx-light.
"""

import os
import shutil
import signal
import string
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from reliability.parts.hosting import (
    LOOPBACK,
    Account,
    accepts,
    children,
    end,
    held_port,
    own_folder,
    wait_until,
)

TEMPLATE = Path(__file__).with_name("nginx.conf.template")

_PLACES = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/local/nginx/sbin"

_MAIN = """\
# The process; how it balances is in balance.conf.
daemon off;
pid $folder/nginx.pid;
error_log $folder/error.log notice;
worker_processes 2;

events { worker_connections 1024; }

http {
    # No request is written down: addresses may name studies.
    access_log off;
    server_tokens off;
    client_body_temp_path $folder/temp-body;
    proxy_temp_path $folder/temp-proxy;
    fastcgi_temp_path $folder/temp-fastcgi;
    uwsgi_temp_path $folder/temp-uwsgi;
    scgi_temp_path $folder/temp-scgi;
    include $folder/balance.conf;
}
"""


def find() -> Path | None:
    """The program, also outside of the PATH of a user."""
    found = shutil.which("nginx") or shutil.which("nginx", path=_PLACES)
    return Path(found) if found else None


def missing() -> str | None:
    """What must be installed, None where nothing is missing."""
    return None if find() else "not installed: nginx (Debian: nginx-light)"


def balanced(listen: str, upstreams: Sequence[str]) -> str:
    """The template for these addresses (host:port)."""
    servers = "\n    ".join(f"server {address} max_fails=0;" for address in upstreams)
    words = {"LTS_LISTEN": listen, "LTS_SERVERS": servers}
    return string.Template(TEMPLATE.read_text()).safe_substitute(words)


@dataclass(frozen=True)
class Nginx:
    """A running one; root's workers run as Debian's www-data."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    @classmethod
    @contextmanager
    def start(cls, upstreams: Sequence[str], folder: Path | None = None) -> Iterator[Self]:
        """Start one that balances over these addresses (host:port); at least one.

        Raises FileNotFoundError where nginx is not installed.
        """
        program = find()
        if program is None:
            raise FileNotFoundError(missing())
        with own_folder(folder) as place, held_port() as port:
            _write(place, port, upstreams)
            process = _start(program, place)
            try:
                running = cls(process, port, place)
                wait_until(running._is_up, process, place / "error.log")
                yield running
            finally:
                end(process, signal.SIGTERM)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def balance(self, upstreams: Sequence[str]) -> None:
        """Balance over other addresses from now on; what runs is finished by the old workers.

        Raises TimeoutError, also for addresses that nginx does not take: then the old ones hold.
        """
        old = set(children(self.process.pid))
        _write(self.folder, self.port, upstreams)
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self._replaced(old), self.process, self.folder / "error.log")

    def _is_up(self) -> bool:
        """Whether it has workers, too: it listens before it knows what to do with a signal."""
        return accepts(self.port) and bool(children(self.process.pid))

    def _replaced(self, old: set[int]) -> bool:
        """Whether new workers are there and the old ones take no more connections."""
        now = set(children(self.process.pid))
        return bool(now - old) and all(_is_leaving(pid) for pid in now & old)


def _is_leaving(pid: int) -> bool:
    try:
        return b"shutting down" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def _write(folder: Path, port: int, upstreams: Sequence[str]) -> None:
    (folder / "nginx.conf").write_text(string.Template(_MAIN).substitute(folder=folder))
    (folder / "balance.conf").write_text(balanced(f"{LOOPBACK}:{port}", upstreams))


def _start(program: Path, folder: Path) -> subprocess.Popen[bytes]:
    log = folder / "error.log"
    command: list[str | Path] = [program, "-p", folder, "-c", folder / "nginx.conf", "-e", log]
    return Account().popen(command, log, {"PATH": os.defpath}, folder)
