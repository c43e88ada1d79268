"""A real service process on loopback, and clients that keep it busy for a bounded time."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S = 60
REQUEST_S = 300


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Service:
    """A service process that is ready, and the seconds that took from its start."""

    address: str
    pid: int
    ready_s: float


@contextmanager
def running_service(**settings: object) -> Iterator[str]:
    """Start `python -m service serve` with these LTS_ settings; gives its address once ready."""
    with service_process(**settings) as service:
        yield service.address


@contextmanager
def service_process(
    *command: str,
    environment: Mapping[str, str] | None = None,
    cores: Collection[int] = (),
    log: Path | None = None,
    **settings: object,
) -> Iterator[Service]:
    """The same, with what is known of the process.

    `command` is what follows `python -m service`, by default `serve`. With `cores` the process runs
    on these alone; what it writes goes to `log`, by default to where ours goes.
    """
    port = free_port()
    words = [sys.executable, "-m", "service", *(command or ("serve",))]
    with tempfile.TemporaryDirectory() as data_dir, ExitStack() as open_files:
        sink = None if log is None else open_files.enter_context(log.open("ab"))
        variables = {**os.environ, **(environment or {})}
        variables |= {"LTS_PORT": str(port), "LTS_DATA_DIR": data_dir}
        variables |= {f"LTS_{name.upper()}": str(value) for name, value in settings.items()}
        started = time.perf_counter()
        with _on_cores(cores):
            process = subprocess.Popen(words, env=variables, stdout=sink, stderr=sink)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until_ready(process, f"{address}/health/ready")
            yield Service(address, process.pid, time.perf_counter() - started)
        finally:
            end(process)


@contextmanager
def _on_cores(cores: Collection[int]) -> Iterator[None]:
    """Hold the calling thread to these cores, and what it starts meanwhile for good."""
    before = os.sched_getaffinity(0) if cores else frozenset()
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, before)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL where that does not help."""
    process.terminate()
    try:
        process.wait(timeout=START_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=START_S)


def post(address: str, data: bytes, accept: str = "application/json") -> bytes:
    """Segment one zip; raises urllib.error.HTTPError for anything but 200."""
    request = urllib.request.Request(  # noqa: S310  # the address is ours, on loopback
        f"{address}/v1/segment",
        data=data,
        headers={"Content-Type": "application/zip", "Accept": accept},
    )
    with urllib.request.urlopen(request, timeout=REQUEST_S) as response:  # noqa: S310
        return bytes(response.read())


def requests_per_second(address: str, data: bytes, clients: int, requests: int) -> float:
    """Rate of `requests` sent by `clients` at once, after one to warm up."""
    return calls_per_second(lambda: post(address, data), clients, requests)


def calls_per_second(call: Callable[[], object], clients: int, calls: int) -> float:
    """The same for any call."""
    call()
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda _: call(), range(calls)))
    return calls / (time.perf_counter() - started)


def ct_zip(path: Path | None) -> bytes:
    """The given CT, else the real one of LTS_TEST_DATA. Raises FileNotFoundError."""
    data = Path(os.environ.get("LTS_TEST_DATA", "../shared/data"))
    return (path or data / "ct" / "hcc-tace-seg-015-arterial.zip").read_bytes()


def wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    """Until the address answers with success.

    Raises RuntimeError for a process that ended, TimeoutError for one that is never ready.
    """
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode} before it was ready")
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310
                return
        except OSError:
            time.sleep(0.02)
    raise TimeoutError(f"the server was not ready within {START_S} s")
