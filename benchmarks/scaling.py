"""`python -m benchmarks.scaling`: jobs a minute of one worker, and of two on two cores.

Each worker has one thread and a core of its own; the API, PostgreSQL, the S3 server and the clients
run where there is room, on a machine of two cores beside the workers. Clients post series to the
API and wait for each result, so many that work always waits; one worker and two are timed in turn.
Beside them the bare model, in one process and in two, shows what the machine itself has to give.
"""

import http.client
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import numpy as np
import typer

from benchmarks.cluster import Parts, cpu_s, parts
from benchmarks.load import START_S, Service, service_process
from benchmarks.memory import zipped
from service.admission import SMALL_VOXELS
from service.inference.session import ModelSession
from service.phantom import Phantom, abdomen_hu
from service.settings import Settings

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

LEAST_RATIO = 1.8
JOB_S = 600
"""After which one job counts as lost."""

BARE_SLICES, BARE_SIZE = 2, 256


def main(
    slices: Annotated[int, typer.Option(min=1, help="of the series")] = 72,
    size: Annotated[int, typer.Option(min=16, help="its rows and columns")] = 256,
    jobs: Annotated[int, typer.Option(min=1, help="timed of each worker in a round")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="of one worker and then two")] = 3,
    bare_s: Annotated[float, typer.Option(help="seconds for each count of bare models")] = 10,
) -> None:
    """Print a table for docs/performance.md; ends with 1 where two workers do too little more."""
    if slices * size**2 <= SMALL_VOXELS:
        raise typer.BadParameter(f"expected more than {SMALL_VOXELS} voxels, which take turns")
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise typer.BadParameter("expected two cores, found one")
    series = zipped(Phantom.draw(7).sample(slices, size, seed=7)[0])
    bare = [bare_rate(cores[:count], bare_s) for count in (1, 2)]
    with tempfile.TemporaryDirectory() as folder, parts() as running:
        log = Path(folder) / "service.log"
        shared = {**running.settings, "device": "cpu", "threads": 1, "max_running": 1}
        with service_process(
            "serve", "--no-worker", environment=running.environment, log=log, **shared
        ) as api:
            timed = [
                [Cluster(running, api, shared, cores[:count], log).timed(series, jobs)
                 for count in (1, 2)]
                for _ in range(rounds)
            ]  # fmt: skip
    print(f"{slices} x {size} x {size}, {os.cpu_count()} cores; jobs a minute")
    raise typer.Exit(0 if report(timed, bare) >= LEAST_RATIO else 1)


@dataclass(frozen=True)
class Timed:
    """Jobs a minute, and seconds of CPU for each job by who took them."""

    a_minute: float
    cpu_s: dict[str, float]

    @property
    def beside_s(self) -> float:
        """CPU for each job of all but the workers."""
        return sum(seconds for name, seconds in self.cpu_s.items() if name != "workers")


def report(timed: Sequence[Sequence[Timed]], bare: Sequence[float]) -> float:
    """Print the tables; returns how many times as many jobs two workers did."""
    print("\n| Round | 1 worker | 2 workers | Ratio |\n| --- | --- | --- | --- |")
    for number, (one, two) in enumerate(timed, start=1):
        ratio = two.a_minute / one.a_minute
        print(f"| {number} | {one.a_minute:.2f} | {two.a_minute:.2f} | {ratio:.2f} |")
    ratio = median(two.a_minute / one.a_minute for one, two in timed)
    print("\n| What | 1 worker | 2 workers |\n| --- | --- | --- |")
    for name in timed[0][0].cpu_s:
        spent = [median(pair[place].cpu_s[name] for pair in timed) for place in (0, 1)]
        print(f"| CPU for each job, {name} | {spent[0]:.2f} s | {spent[1]:.2f} s |")
    beside = [median(pair[place].beside_s for pair in timed) for place in (0, 1)]
    print(f"| all of it but the workers' | {beside[0]:.2f} s | {beside[1]:.2f} s |")
    print(f"| bare model, a core each | {bare[0]:.2f} slices/s | {bare[1]:.2f} slices/s |")
    print(f"\nbare model, 2 processes / 1: {bare[1] / bare[0]:.2f}")
    print(f"2 workers / 1 worker: {ratio:.2f}, at least {LEAST_RATIO} demanded")
    return ratio


@dataclass
class Cluster:
    """An API and so many workers, each on its core."""

    parts: Parts
    api: Service
    settings: dict[str, object]
    cores: Sequence[int]
    log: Path
    ended: list[float] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def timed(self, series: bytes, jobs: int) -> Timed:
        """Start the workers, give them work until each has done so many jobs, and end them."""
        with ExitStack() as stack:
            workers = [
                stack.enter_context(
                    service_process(
                        "worker", environment=self.parts.environment, cores=[core], log=self.log,
                        **self.settings,
                    )
                )
                for core in self.cores
            ]  # fmt: skip
            clients = 2 * len(workers)
            with ThreadPoolExecutor(clients) as pool:
                posting = [pool.submit(self._post_on, series) for _ in range(clients)]
                try:
                    timed = self._window(workers, jobs * len(workers))
                finally:
                    self.over.set()
                for one in posting:
                    one.result()
        return timed

    def _window(self, workers: Sequence[Service], jobs: int) -> Timed:
        """From the end of the last job to warm up to that of so many more."""
        self._await(2 * len(workers))
        first, before = len(self.ended), self._cpu_s(workers)
        self._await(first + jobs)
        last, after = len(self.ended), self._cpu_s(workers)
        seconds, done = self.ended[last - 1] - self.ended[first - 1], last - first
        spent = {name: (after[name] - before[name]) / done for name in before}
        return Timed(60 * done / seconds, spent)

    def _await(self, jobs: int) -> None:
        deadline = time.monotonic() + JOB_S
        while len(self.ended) < jobs:
            if self.over.is_set():
                raise RuntimeError("a job did not succeed")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.ended)} of {jobs} jobs ended within {JOB_S} s")
            time.sleep(0.005)

    def _post_on(self, series: bytes) -> None:
        """One client: the next series as soon as the last one's result is there."""
        try:
            while not self.over.is_set():
                post_durable(self.api.address, series)
                self.ended.append(time.monotonic())
        finally:
            self.over.set()

    def _cpu_s(self, workers: Sequence[Service]) -> dict[str, float]:
        own = {"workers": sum(cpu_s(one.pid) for one in workers), "API": cpu_s(self.api.pid)}
        return own | self.parts.cpu_s()


def post_durable(address: str, series: bytes) -> None:
    """Post one series and wait for its result. Raises RuntimeError where there is none in time."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=JOB_S)
    headers = {"Content-Type": "application/zip", "Prefer": f"wait={JOB_S}"}
    try:
        connection.request("POST", "/v1/segmentations", series, headers)
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    if answer.status != http.client.CREATED:
        raise RuntimeError(f"expected a result, found status {answer.status}")


def bare_rate(cores: Sequence[int], seconds: float) -> float:
    """Slices a second of the bare model, in a process of one thread on each core."""
    spawn = multiprocessing.get_context("spawn")
    begin, rates = spawn.Barrier(len(cores)), spawn.Queue()
    loops = [
        spawn.Process(target=_bare, args=(core, seconds, begin, rates), daemon=True)
        for core in cores
    ]
    for loop in loops:
        loop.start()
    found = [rates.get(timeout=START_S + 2 * seconds) for _ in loops]
    for loop in loops:
        loop.join(START_S)
    return float(sum(found))


def _bare(core: int, seconds: float, begin: "Barrier", rates: "Queue[float]") -> None:
    os.sched_setaffinity(0, {core})
    model = ModelSession.open(Settings().model, "cpu", threads=1)
    drawn = abdomen_hu(seed=7, slices=BARE_SLICES, size=BARE_SIZE)
    hu = np.repeat(drawn[..., None], model.contract.context.slices, axis=-1)
    begin.wait(START_S)
    runs, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        model.run(hu)
        runs += 1
    rates.put(runs * BARE_SLICES / spent)


if __name__ == "__main__":
    typer.run(main)
