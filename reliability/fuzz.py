"""`make fuzz`: damaged requests of every format through the pipeline and every encoder.

    make fuzz                    10,000 requests
    make fuzz N=500 SEED=3       others
    make fuzz SECONDS=60         as many as a minute allows, as CI does

Each request follows from SEED and its number. Worker processes take them, so that a crash of a
native decoder, a hang, or memory out of bounds is known by its request. What the service should not
have done is made smaller, written to `reliability/corpus/`, and replayed by `make test` for ever.
"""

import hashlib
import multiprocessing
import random
import resource
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.memory import reset_peak, resident_mb
from reliability.case import Case
from reliability.judge import Verdict, judge
from reliability.mutate import make_case
from reliability.seeds import one_zip, seeds
from service import logs, memory
from service.pipeline import Options

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Bounds:
    """Of one request, in the decoders and encoders together.

    The slowest honest ones, a thousand lesions of noise, take some 5 s of CPU. Time by the clock is
    for one that sleeps; other work on the machine slows the others down. Memory counts above idle.
    """

    cpu_s: float = 10
    wall_s: float = 60
    peak_mb: float = 400


ADDRESS_SPACE_BYTES = 2 * 1024**3
"""Above the worker's own: an allocation beyond it fails at once."""

START_S = 120

SHRINK_S = 20
"""For making one finding smaller."""


@dataclass(frozen=True)
class Ended:
    """How one request ended, and what it took."""

    verdict: Verdict
    seconds: float = 0.0
    peak_mb: float = 0.0


class Worker:
    """A process that judges requests one by one; started anew after one that killed it."""

    def __init__(
        self, judge: Callable[[Case], Verdict] = judge, bounds: Bounds | None = None
    ) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._judge, self._bounds = judge, bounds or Bounds()
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=work, args=(theirs, self._judge, self._bounds.cpu_s), daemon=True
        )
        self._process.start()
        theirs.close()
        if not self._pipe.poll(START_S) or self._pipe.recv() is not None:
            raise TimeoutError(f"a worker did not start within {START_S} s")

    def judge(self, case: Case) -> Ended:
        """The worker's verdict, or what became of the worker."""
        try:
            self._pipe.send(case)
            if self._pipe.poll(self._bounds.wall_s):
                ended: Ended = self._pipe.recv()
                if ended.peak_mb > self._bounds.peak_mb:
                    finding = f"over {self._bounds.peak_mb:g} MB"
                    return replace(ended, verdict=Verdict("memory", finding))
                return ended
            finding = f"no end within {self._bounds.wall_s:g} s"
        except (EOFError, ConnectionError):
            finding = ""
        self.close()
        code = self._process.exitcode
        if not finding:
            killed_for_time = code == -signal.SIGPROF
            finding = (
                f"over {self._bounds.cpu_s:g} s of CPU" if killed_for_time else f"exit code {code}"
            )
        self._start()
        return Ended(Verdict("crash", finding))

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def work(pipe: Connection, judge: Callable[[Case], Verdict], cpu_s: float) -> None:
    """Judge requests until the pipe closes."""
    logs.configure()
    memory.collect_rarely()  # as the service does
    idle_mb = _bounded()
    own = multiprocessing.current_process().pid or 0
    pipe.send(None)  # begun
    while True:
        try:
            case: Case = pipe.recv()
        except EOFError:
            return
        reset_peak(own)
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        started = time.perf_counter()
        verdict = judge(case)
        seconds = time.perf_counter() - started
        signal.setitimer(signal.ITIMER_PROF, 0)
        pipe.send(Ended(verdict, seconds, resident_mb(own, "VmHWM") - idle_mb))


def _bounded() -> float:
    """Bound this process's address space, and give the memory it takes idle, in MB."""
    own = multiprocessing.current_process().pid or 0
    judge(Case("warm up", one_zip(), Options(), "threshold"))
    virtual = int(resident_mb(own, "VmSize") * 1e6)
    resource.setrlimit(resource.RLIMIT_AS, (virtual + ADDRESS_SPACE_BYTES,) * 2)
    return resident_mb(own, "VmRSS")


@dataclass
class Report:
    """Counts over all requests; from any thread."""

    codes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    findings: dict[str, Case] = field(default_factory=dict)
    slowest: tuple[float, str] = (0.0, "")
    largest: tuple[float, str] = (0.0, "")
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, number: int, case: Case, ended: Ended) -> bool:
        """Count a request; says whether its finding is new."""
        with self.lock:
            self.codes[ended.verdict.code] += 1
            self.formats[case.name.split()[0]] += 1
            self.slowest = max(self.slowest, (ended.seconds, f"{number}, {case.name}"))
            self.largest = max(self.largest, (ended.peak_mb, f"{number}, {case.name}"))
            is_new = bool(ended.verdict.finding) and ended.verdict.finding not in self.findings
            if is_new:
                self.findings[ended.verdict.finding] = case
            return is_new

    def print(self, requests: int, seconds: float) -> None:
        print(f"\n{requests} requests in {seconds:.0f} s")
        print(f"slowest: {self.slowest[0]:.2f} s (request {self.slowest[1]})")
        print(f"most memory above idle: {self.largest[0]:.0f} MB (request {self.largest[1]})")
        for title, counts in (("Seed", self.formats), ("End", self.codes)):
            print(f"\n| {title} | Requests |\n| --- | --- |")
            for name, count in counts.most_common():
                print(f"| {name} | {count} |")
        print(f"\nfindings: {len(self.findings)}")
        for finding, case in self.findings.items():
            print(f"- {finding} ({case.name})")


def main(
    n: Annotated[int, typer.Option("--n", help="requests")] = 10_000,
    seconds: Annotated[int, typer.Option(help="stop after so many; 0: never")] = 0,
    seed: Annotated[int, typer.Option(help="decides every request")] = 1,
    first: Annotated[int, typer.Option(help="number of the first request")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 2,
) -> None:
    """Fuzz, print a report, and end with 1 where anything was found."""
    warnings.simplefilter("ignore")  # of the libraries that damage files
    print(f"seed {seed}, requests from {first}, {workers} workers", flush=True)
    started = time.monotonic()
    deadline = started + seconds if seconds else float("inf")
    numbers = iter(range(first, first + n))
    report, valid = Report(), seeds()
    lock = threading.Lock()

    def next_number() -> int | None:
        with lock:
            return None if time.monotonic() > deadline else next(numbers, None)

    def serve() -> None:
        with closing(Worker()) as worker:
            while (number := next_number()) is not None:
                case = numbered_case(seed, number, valid)
                ended = worker.judge(case)
                if report.add(number, case, ended):
                    finding = ended.verdict.finding
                    print(f"request {number}, {case.name}: {finding}", flush=True)
                    write(shrunk(case, finding, worker), finding)

    with ThreadPoolExecutor(workers) as pool:
        for served in [pool.submit(serve) for _ in range(workers)]:
            served.result()
    report.print(report.codes.total(), time.monotonic() - started)
    raise typer.Exit(1 if report.findings else 0)


def numbered_case(seed: int, number: int, valid: dict[str, tuple[bytes, ...]]) -> Case:
    """The request of this number."""
    names = sorted(valid)
    rng = random.Random(f"{seed} {number}")
    return make_case(names[number % len(names)], valid, rng)


def write(case: Case, finding: str) -> None:
    """Add a case to the corpus."""
    text = case.to_json(finding)
    CORPUS.mkdir(exist_ok=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    (CORPUS / f"{name}.json").write_text(text)


def shrunk(case: Case, finding: str, worker: Worker) -> Case:
    """The case with fewer files and bytes, as far as it is found the same way, for a while."""
    deadline = time.monotonic() + SHRINK_S
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(case):
            if time.monotonic() > deadline:
                return case
            if worker.judge(candidate).verdict.finding == finding:
                case, smaller = candidate, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    files = case.files
    if len(files) > 1:
        for index in range(len(files)):
            yield replace(case, files=files[:index] + files[index + 1 :])
    for index, data in enumerate(files):
        for parts in (2, 4, 8, 16):
            size = max(len(data) // parts, 1)
            for at in range(0, len(data), size):
                less = data[:at] + data[at + size :]
                yield replace(case, files=(*files[:index], less, *files[index + 1 :]))


if __name__ == "__main__":
    typer.run(main)
