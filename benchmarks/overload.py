"""`python -m benchmarks.overload`: ten times what the service can take, for a minute.

First clients that wait for their answers find how much it takes. Then ten times as many requests a
second are sent, whatever becomes of those before: images and series, stateless and durable. Whoever
is refused must be told at once, and when to come again; whoever is accepted must get the result in
a time that follows from the lengths of the queues; and when it is over all must be as it was.
"""

import http.client
import json
import multiprocessing
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

import typer

from benchmarks.durable import phantom_png
from benchmarks.load import Service, service_process
from benchmarks.memory import reset_peak, resident_mb, zipped
from service.admission import SMALL_PLACES
from service.phantom import Phantom
from service.settings import Settings

STATELESS, DURABLE = "/v1/segment", "/v1/segmentations"

HEALTH_S = 1.0
"""`/health/live` answers within this all the time: nothing blocks the event loop."""

HEALTH_EVERY_S = 0.05

REFUSAL_P99_S = 2.0
"""A refusal costs next to nothing; this is for cores that others keep busy."""

LATER = 3.0
"""How many times longer than its queue an accepted request may take: to refuse the rest costs the
service some of its time, and the clients are on the same cores."""

LEAST_DONE = 0.4
"""Of what the service does without the rest, for the same reason."""

GROWN_PEAK_MB, GROWN_MB = 600, 200
"""How much more memory than before it may take meanwhile, and keep."""

SLOWER, SLOWER_S = 1.25, 0.05
"""How many times, and by how much beyond that, a lone request may be slower afterwards; a machine's
speed drifts."""

GAUGES = ("lts_admitted_requests", "lts_jobs_in_work")
"""Of work that goes on; 0 in the end."""

ANSWER_S, QUIET_S = 120, 300
CAPACITY_CLIENTS = 8
LONE = 7


@dataclass(frozen=True)
class Kind:
    """One kind of request."""

    name: str
    path: str
    body: bytes
    media_type: str

    @property
    def is_durable(self) -> bool:
        return self.path == DURABLE


@dataclass(frozen=True)
class Outcome:
    """What became of one request; `status` is 0 where there was no answer."""

    is_durable: bool
    status: int
    seconds: float
    retry_after: str | None = None

    @property
    def is_accepted(self) -> bool:
        return self.status in (http.client.OK, http.client.CREATED, http.client.ACCEPTED)

    @property
    def is_refused(self) -> bool:
        """As a client is to be refused who may come again."""
        may_be = self.status in (http.client.SERVICE_UNAVAILABLE, http.client.TOO_MANY_REQUESTS)
        return may_be and self.retry_after is not None


@dataclass(frozen=True)
class Load:
    """How much is sent."""

    kinds: Sequence[Kind]
    seconds: float
    capacity_s: float
    times: float
    clients: int


@dataclass(frozen=True)
class State:
    """A service that nobody uses: what it holds, and how fast it answers a lone request."""

    resident_mb: float
    lone_s: float

    @classmethod
    def of(cls, service: Service, kind: Kind) -> Self:
        taken = [ask(service.address, kind).seconds for _ in range(LONE)]
        return cls(resident_mb(service.pid, "VmRSS"), median(taken))


@dataclass(frozen=True)
class Seen:
    """What one run found; rates are in requests a second."""

    capacity: float
    sent: float
    outcomes: Sequence[Outcome]
    load_s: float
    drained_s: float
    """From the end of the load to the end of the last job."""
    job_s: Sequence[float]
    """From the acceptance of each job to its end."""
    lost_jobs: int
    health_s: Sequence[float]
    before: State
    after: State
    peak_mb: float
    left: dict[str, float] = field(default_factory=dict)

    def seconds(self, is_durable: bool) -> list[float]:
        """Of the answers that accepted a request."""
        return [
            one.seconds for one in self.outcomes if one.is_accepted and one.is_durable is is_durable
        ]

    @property
    def refusal_s(self) -> list[float]:
        return [one.seconds for one in self.outcomes if one.is_refused]

    @property
    def wrong(self) -> Counter[int]:
        """How often each status was answered that is neither a result nor a proper refusal."""
        return Counter(
            one.status for one in self.outcomes if not (one.is_accepted or one.is_refused)
        )

    @property
    def done(self) -> float:
        """Work that was accepted, by the time it took."""
        accepted = sum(one.is_accepted for one in self.outcomes)
        return accepted / (self.load_s + self.drained_s)


@dataclass(frozen=True)
class Demand:
    """What is demanded, what was found, and whether that is enough."""

    what: str
    limit: str
    found: str
    holds: bool


def main(
    seconds: Annotated[float, typer.Option(min=1, help="of the load")] = 60,
    capacity_s: Annotated[float, typer.Option(min=1, help="to find what it can take")] = 20,
    times: Annotated[float, typer.Option(min=1, help="as much is sent")] = 10,
    image: Annotated[int, typer.Option(min=16, help="rows and columns of the image")] = 512,
    slices: Annotated[int, typer.Option(min=1, help="of the series")] = 12,
    series: Annotated[int, typer.Option(min=16, help="its rows and columns")] = 128,
    clients: Annotated[int, typer.Option(min=1, help="threads that send")] = 256,
) -> None:
    """Print a table for docs/performance.md; ends with 1 where anything is not as it must be."""
    load = Load(kinds(image, slices, series), seconds, capacity_s, times, clients)
    seen = overloaded(load)
    demands = judged(seen, times)
    print(f"{seconds:g} s of {len(seen.outcomes)} requests\n\n| What | Limit | Found |")
    print("| --- | --- | --- |")
    for one in demands:
        print(f"| {one.what} | {one.limit} | {one.found}{'' if one.holds else ' **WRONG**'} |")
    raise typer.Exit(0 if all(one.holds for one in demands) else 1)


def kinds(image: int, slices: int, size: int) -> tuple[Kind, ...]:
    """An image and a series, each stateless and durable."""
    picture = phantom_png(image)
    series = zipped(Phantom.draw(7).sample(slices, size, seed=7)[0])
    return (
        Kind("image", STATELESS, picture, "image/png"),
        Kind("durable image", DURABLE, picture, "image/png"),
        Kind("series", STATELESS, series, "application/zip"),
        Kind("durable series", DURABLE, series, "application/zip"),
    )


def overloaded(load: Load, **settings: object) -> Seen:
    """One run, on a service of its own with these LTS_ settings."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "service.log"
        with service_process(device="cpu", log=log, **settings) as service:
            for kind in load.kinds:
                expect(ask(service.address, kind), kind)
            capacity = capacity_of(service.address, load)
            before = State.of(service, load.kinds[0])
            reset_peak(service.pid)
            known = {job["id"] for job in jobs(service.address)}
            with watched_health(service.address) as health_s:
                started = time.perf_counter()
                outcomes = send(service.address, load, capacity * load.times)
                load_s = time.perf_counter() - started
                drained_s = drain(service.address)
            ended = [job for job in jobs(service.address) if job["id"] not in known]
            succeeded = [job for job in ended if job["status"] == "succeeded"]
            accepted = sum(one.is_accepted and one.is_durable for one in outcomes)
            return Seen(
                capacity=capacity,
                sent=len(outcomes) / load.seconds,
                outcomes=outcomes,
                load_s=load_s,
                drained_s=drained_s,
                job_s=[_seconds(job) for job in succeeded],
                lost_jobs=accepted - len(succeeded),
                health_s=health_s,
                peak_mb=resident_mb(service.pid, "VmHWM"),
                before=before,
                after=State.of(service, load.kinds[0]),
                left=gauges(service.address),
            )


def judged(seen: Seen, times: float) -> list[Demand]:
    """What is demanded of a service under load, and whether it was so."""
    settings = Settings()
    places = settings.max_running + settings.max_waiting
    turns = (places + SMALL_PLACES) / seen.capacity
    """Seconds until everyone who holds a place or waits for one had a turn."""
    stateless_s = LATER * turns
    durable_s = LATER * (settings.max_jobs / SMALL_PLACES) * turns
    peak_mb = seen.peak_mb - seen.before.resident_mb
    kept_mb = seen.after.resident_mb - seen.before.resident_mb
    lone_ms = [state.lone_s * 1000 for state in (seen.before, seen.after)]
    stateless, accepting = seen.seconds(is_durable=False), seen.seconds(is_durable=True)
    return [
        Demand("capacity, clients that wait", "", f"{seen.capacity:.1f}/s", seen.capacity > 0),
        Demand(f"sent, times that, for {times:g}", f"{0.8 * times:g}",
               f"{seen.sent / seen.capacity:.1f}", seen.sent >= 0.8 * times * seen.capacity),
        Demand("accepted, refused", "some of each",
               f"{len(stateless)} + {len(accepting)} jobs, {len(seen.refusal_s)}",
               bool(stateless and accepting and seen.refusal_s)),
        Demand("neither a result nor 503 or 429 with Retry-After", "none",
               str(dict(seen.wrong)) if seen.wrong else "none", not seen.wrong),
        Demand("done, of the capacity", f"{LEAST_DONE}", f"{seen.done / seen.capacity:.2f}",
               seen.done >= LEAST_DONE * seen.capacity),
        _within("stateless", stateless, stateless_s),
        _within("jobs, acceptance to end", seen.job_s, durable_s),
        _within("answer 202", accepting, stateless_s),
        _within("refusal", seen.refusal_s, REFUSAL_P99_S),
        Demand("jobs lost", "0", str(seen.lost_jobs), seen.lost_jobs == 0),
        Demand("/health/live, most", f"{HEALTH_S:g} s",
               f"{max(seen.health_s):.3f} s of {len(seen.health_s)}",
               max(seen.health_s) <= HEALTH_S),
        Demand("memory above before, peak and after", f"{GROWN_PEAK_MB}, {GROWN_MB} MB",
               f"{peak_mb:.0f}, {kept_mb:.0f} MB (before {seen.before.resident_mb:.0f})",
               peak_mb <= GROWN_PEAK_MB and kept_mb <= GROWN_MB),
        Demand("lone image, before and after", f"{SLOWER} times + {SLOWER_S * 1000:.0f} ms",
               f"{lone_ms[0]:.0f}, {lone_ms[1]:.0f} ms",
               seen.after.lone_s <= SLOWER * seen.before.lone_s + SLOWER_S),
        Demand("left in work", "0", str(seen.left), not any(seen.left.values())),
    ]  # fmt: skip


def _within(what: str, seconds: Sequence[float], limit_s: float) -> Demand:
    """Of the slowest hundredth."""
    if len(seconds) < 2:
        return Demand(f"{what}: p50, p99", f"p99 {limit_s:.1f} s", "too few", holds=False)
    p99 = quantiles(seconds, n=100)[98]
    found = f"{median(seconds):.2f}, {p99:.2f} s"
    return Demand(f"{what}: p50, p99", f"p99 {limit_s:.1f} s", found, p99 <= limit_s)


def ask(address: str, kind: Kind, prefer: str = f"wait={ANSWER_S}") -> Outcome:
    """One request on a connection of its own; its answer is read to the end."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=ANSWER_S)
    headers = {"Content-Type": kind.media_type, "Prefer": prefer}
    status, retry_after = 0, None
    try:
        connection.request("POST", kind.path, kind.body, headers)
        answer = connection.getresponse()
        answer.read()
        status, retry_after = answer.status, answer.headers["Retry-After"]
    except (OSError, http.client.HTTPException):
        pass  # counted as no answer
    finally:
        connection.close()
    return Outcome(kind.is_durable, status, time.perf_counter() - started, retry_after)


def expect(outcome: Outcome, kind: Kind) -> None:
    """Raise RuntimeError unless this is a result."""
    if outcome.status not in (http.client.OK, http.client.CREATED):
        raise RuntimeError(f"expected a result of {kind.name}, found status {outcome.status}")


def capacity_of(address: str, load: Load) -> float:
    """Requests of the mix that a second takes, from few clients that wait for each result."""
    turns, done = count(), []
    started = time.perf_counter()

    def post_on() -> None:
        while time.perf_counter() - started < load.capacity_s:
            kind = load.kinds[next(turns) % len(load.kinds)]
            expect(ask(address, kind), kind)
            done.append(time.perf_counter())

    in_threads(post_on, CAPACITY_CLIENTS)
    return len(done) / (max(done) - started)


def send(address: str, load: Load, rate: float) -> list[Outcome]:
    """So many requests a second, each at its time whatever becomes of the others, as far as there
    are threads.
    """
    turns, outcomes = count(), []
    started = time.perf_counter()

    def post_on() -> None:
        while (due_s := (turn := next(turns)) / rate) < load.seconds:
            wait_s = started + due_s - time.perf_counter()
            time.sleep(max(0.0, wait_s))
            if time.perf_counter() - started >= load.seconds:
                return  # too late for those that are behind
            kind = load.kinds[turn % len(load.kinds)]
            outcomes.append(ask(address, kind, prefer="respond-async"))

    in_threads(post_on, load.clients)
    return outcomes


def in_threads(work: Callable[[], None], number: int) -> None:
    """Do it in so many threads at once; raises the first error of any."""
    errors: list[Exception] = []

    def guarded() -> None:
        try:
            work()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@contextmanager
def watched_health(address: str) -> Iterator[list[float]]:
    """Seconds of each `/health/live` meanwhile, asked by another process; there after the block."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    watcher = spawn.Process(
        target=_watch_health, args=(address, theirs), daemon=True
    )  # fmt: skip
    watcher.start()
    theirs.close()  # else nobody would notice that it has ended
    seconds: list[float] = []
    try:
        yield seconds
        ours.send(None)
        seconds += ours.recv()
    finally:
        watcher.terminate()
        watcher.join()


def _watch_health(address: str, pipe: Connection) -> None:
    """Seconds of each request, until told to end; infinite for one without the right answer."""
    seconds = []
    while not pipe.poll(HEALTH_EVERY_S):
        started = time.perf_counter()
        try:
            _read(address, "/health/live")
            seconds.append(time.perf_counter() - started)
        except (OSError, http.client.HTTPException, RuntimeError):
            seconds.append(float("inf"))
    pipe.send(seconds)


def drain(address: str) -> float:
    """Seconds until no job is unfinished. Raises TimeoutError."""
    started = time.perf_counter()
    while _get(address, f"{DURABLE}?limit=1&status=queued&status=running")["items"]:
        if time.perf_counter() - started > QUIET_S:
            raise TimeoutError(f"jobs were unfinished {QUIET_S} s after the load")
        time.sleep(0.2)
    return time.perf_counter() - started


def jobs(address: str) -> list[dict[str, Any]]:
    """The documents of all jobs."""
    found, page = [], f"{DURABLE}?limit=200"
    while page is not None:
        listed = _get(address, page)
        found += listed["items"]
        page = listed["next"]
    return found


def gauges(address: str) -> dict[str, float]:
    """What the service says of work that goes on."""
    lines = _read(address, "/metrics").decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(values[name]) for name in GAUGES}


def _get(address: str, path: str) -> dict[str, Any]:
    return dict(json.loads(_read(address, path)))


def _read(address: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=ANSWER_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise RuntimeError(f"expected {path}, found status {answer.status}")
    return body


def _seconds(job: dict[str, Any]) -> float:
    created, finished = (datetime.fromisoformat(job[f"{what}_at"]) for what in
                         ("created", "finished"))  # fmt: skip
    return (finished - created).total_seconds()


if __name__ == "__main__":
    typer.run(main)
