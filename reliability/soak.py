"""`make soak`: clients of every kind at once, for a while, and a look at what they leave.

    make soak                    one minute
    make soak SECONDS=600
    make soak MINUTES=30

Locust's clients (`benchmarks/soak/locustfile.py`) work in a process of their own, another asks the
service for its health every 50 ms, and this one looks every second at what the service's process
holds. Every answer must be right and the same as the first, 503 may only be `busy`, health must
answer within 100 ms (p99), memory, threads and descriptors must not grow, and at the end all jobs
and files must be gone, and the service must have counted what the clients have.
"""

import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Annotated

import typer

from benchmarks.load import START_S
from benchmarks.soak.report import Report
from reliability.growth import Footprint, Growth, growth, minutes_of
from reliability.process import ROOT, Server, ask
from reliability.settled import left, requests_by_status

HEALTH_EVERY_S = 0.05
HEALTH_P99_S = 0.1

WARM_UP_S = 30
"""Of the same load, in which pools and caches grow to their size; growth is measured after it."""

FINISH_S = 300
"""For what clients are at when they are told to stop."""

UPLOAD_GRACE_S = 5
"""The service's, so that a body that stalls ends soon."""

REPORT, LOG = "report.json", "clients.log"

FIGURES = {"RSS, MB": "resident_mb", "threads": "threads", "files": "files"}


@dataclass(frozen=True)
class Seen:
    """One load, from all sides; moments are those of CLOCK_MONOTONIC."""

    idle: Footprint
    report: Report
    health: list[tuple[float, float]]
    """When health was asked, and after how many seconds it answered."""

    footprints: list[tuple[float, Footprint]]
    """One for each second."""

    @property
    def health_s(self) -> list[float]:
        """Health's seconds while the clients were at work."""
        began_s, ended_s = self.report.began_s, self.report.ended_s
        return [seconds for at_s, seconds in self.health if began_s <= at_s <= ended_s]

    @property
    def samples(self) -> list[Footprint]:
        """The footprints of that time, without the warm-up's."""
        began_s, ended_s = self.report.began_s + WARM_UP_S, self.report.ended_s
        return [footprint for at_s, footprint in self.footprints if began_s <= at_s <= ended_s]


def main(
    seconds: Annotated[int, typer.Option(help="of load; 0: a minute")] = 0,
    minutes: Annotated[float, typer.Option(help="the same in minutes")] = 0,
) -> None:
    """Load the service, print what was seen, and end with 1 where anything was wrong."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    load_s = round(max(seconds, 60 * minutes)) or 60
    folder = Path(tempfile.mkdtemp(prefix="lts-soak-"))
    wrong = ["the soak was cut off"]
    try:
        with Server.start(folder / "data", upload_grace_s=UPLOAD_GRACE_S) as server:
            print(f"{load_s} s of load after {WARM_UP_S} s of warm-up", flush=True)
            wrong = soaked(server, folder, load_s)
    finally:
        for sentence in wrong:
            print(f"WRONG: {sentence}")
        if wrong:
            print(f"logs in {folder}")
        else:
            shutil.rmtree(folder)
    print("" if wrong else "\nnothing wrong")
    raise typer.Exit(1 if wrong else 0)


def soaked(server: Server, folder: Path, load_s: int) -> list[str]:
    """Load this service and print what was seen; gives a sentence for each thing that is wrong."""
    before = requests_by_status(server)
    seen = load(server, folder, load_s)
    print_requests(seen)
    if seen.report.wrong:
        return list(seen.report.wrong)
    grown = growth(seen.samples)
    print_footprints(seen, grown)
    answered = before + Counter(seen.report.statuses) + Counter({"200": len(seen.health)})
    after = left(server, folder / "data", answered, seen.report.unanswered)
    return [*unfit(seen), *grown.wrong(), *after]


def load(server: Server, folder: Path, load_s: int) -> Seen:
    """Let the clients work for the warm-up and so many seconds more, and watch meanwhile."""
    pid, footprints = server.process.pid, list[tuple[float, Footprint]]()
    idle = Footprint.of(pid)
    with (
        health_watched(server.port) as health,
        clients(f"http://127.0.0.1:{server.port}", WARM_UP_S + load_s, folder) as process,
    ):
        for moment_s in _seconds(START_S + WARM_UP_S + load_s + FINISH_S):
            if process.poll() is not None:
                break
            with suppress(OSError, ValueError):  # the service has ended, as the clients will say
                footprints.append((moment_s, Footprint.of(pid)))
    return Seen(idle, reported(folder), health, footprints)


def _seconds(most: int) -> Iterator[float]:
    """The time, every second."""
    began_s = time.monotonic()
    for second in range(most):
        time.sleep(max(0.0, began_s + second - time.monotonic()))
        yield time.monotonic()


@contextmanager
def clients(
    address: str, seconds: int, folder: Path, *classes: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Locust's process, which loads this address for so long and reports to the folder.

    With `classes` only these clients are at work.
    """
    command = [
        sys.executable, "-m", "locust", "--headless", "--only-summary",
        "--locustfile", str(ROOT / "benchmarks" / "soak" / "locustfile.py"),
        "--host", address, "--run-time", f"{seconds}s",
        "--stop-timeout", str(FINISH_S), "--report", str(folder / REPORT), *classes,
    ]  # fmt: skip
    variables = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    with (folder / LOG).open("wb") as sink:
        process = subprocess.Popen(
            command, env=variables, cwd=folder, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def reported(folder: Path) -> Report:
    """What the clients have reported; their failure to do so is wrong, too."""
    if (folder / REPORT).exists():
        return Report.read(folder / REPORT)
    last = (folder / LOG).read_text().strip().rpartition("\n")[2]
    return Report(0, 0, (), {}, {}, (f"the clients ended without a report: {last}",))


@contextmanager
def health_watched(port: int) -> Iterator[list[tuple[float, float]]]:
    """Have a process ask for health while the block runs; the list is filled at its end."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    watcher = context.Process(target=watch_health, args=(port, theirs), daemon=True)
    watcher.start()
    asked = list[tuple[float, float]]()
    try:
        yield asked
    finally:
        ours.send(None)
        asked += ours.recv()
        watcher.join()


def watch_health(port: int, pipe: Connection) -> None:
    """When health was asked, and the seconds of its answer, until told to end."""
    asked = []
    while not pipe.poll(HEALTH_EVERY_S):
        started_s = time.monotonic()
        healthy = False
        with suppress(OSError, HTTPException):
            healthy = ask(port, "GET", "/health/live").body == b'{"status":"live"}'
        asked.append((started_s, time.monotonic() - started_s if healthy else math.inf))
    pipe.send(asked)


def unfit(seen: Seen) -> Iterator[str]:
    """A sentence for clients that never came to an end, and for health that was slow."""
    idle = sorted(name for name, rounds in seen.report.rounds.items() if not rounds)
    if idle:
        yield f"clients that never came to an end: {', '.join(idle)}"
    if failed := seen.health_s.count(math.inf):
        yield f"health gave no answer {failed} times"
    elif (p99_s := quantiles(seen.health_s, n=100)[98]) > HEALTH_P99_S:
        yield f"health answered within {p99_s * 1000:.0f} ms (p99)"


def print_requests(seen: Seen) -> None:
    """A table of what the clients have asked, and how soon it was answered."""
    print("\n| Requests | Count | p50, ms | p99, ms | Most, ms |\n| --- | --- | --- | --- | --- |")
    for kind in seen.report.kinds:
        print(f"| {kind.name} | {kind.count} | {kind.p50_ms:.0f} | {kind.p99_ms:.0f} "
              f"| {kind.most_ms:.0f} |")  # fmt: skip
    if len(health_s := seen.health_s) > 1:
        p50, p99, most = median(health_s), quantiles(health_s, n=100)[98], max(health_s)
        print(f"| health, by a process of its own | {len(health_s)} | {p50 * 1000:.1f} "
              f"| {p99 * 1000:.1f} | {most * 1000:.1f} |")  # fmt: skip


def print_footprints(seen: Seen, grown: Growth) -> None:
    """Two tables of what the service's process held: minute by minute, and what is judged."""
    print("\n| Minute | RSS, MB | Threads | Files |\n| --- | --- | --- | --- |")
    for minute, footprint in enumerate(minutes_of(seen.samples), 1):
        print(f"| {minute} | {footprint.resident_mb:.0f} | {footprint.threads:.0f} "
              f"| {footprint.files:.0f} |")  # fmt: skip
    print(f"\n| What | Idle | {' | '.join(map(str.capitalize, grown.names))} |")
    print("| --- | --- | --- | --- |")
    for name, field_name in FIGURES.items():
        figures = (getattr(item, field_name) for item in (seen.idle, grown.early, grown.late))
        print(f"| {name} | {' | '.join(f'{figure:.0f}' for figure in figures)} |")


if __name__ == "__main__":
    typer.run(main)
