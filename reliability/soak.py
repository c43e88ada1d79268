"""`make soak`: clients of every kind at once, for a while, and a look at what they leave.

    make soak                    one minute
    make soak SECONDS=600

Pictures, series of 60 slices, durable segmentations with their parts, bad files, cancels and
deletes go to one service; beside them a process of its own asks for its health every 50 ms. Every
answer must be right and the same as the first, 503 may only be `busy`, health must answer within
100 ms (p99), and at the end memory, threads, descriptors and files must be back where they were.
"""

import http.client
import multiprocessing
import random
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from http.client import HTTPException
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Annotated, Any

import typer

from benchmarks.memory import resident_mb
from reliability.process import Answer, Server, Wrong, check
from reliability.studies import Study, studies

AT = "/v1/segmentations"

HEALTH_EVERY_S = 0.05
HEALTH_P99_S = 0.1

WARM_UP_S = 30
"""Of the same load, in which pools and caches grow to their size; growth is measured after it."""

GROWN_MB = 64
"""How much more memory the last quarter may take than the second."""

GROWN_THREADS = 8
"""A pool's threads come and go with how many of the eight clients happen to be served at once. One
lost in a hundred requests would be 25 by the end of a minute."""

GROWN_FILES = 4
"""Of connections that happen to be open."""

QUIET_S = 120
"""For what is unfinished when the clients stop."""

PARTS = ("mask.nii.gz", "image.nii.gz", "preview.png", "contours", "masks/0.png", "overlays/3.png")

BAD: tuple[tuple[str, bytes, int], ...] = (
    ("text", b"no image at all", 415),
    ("an empty archive", b"PK\x05\x06" + bytes(18), 400),
    ("a cut picture", b"\x89PNG\r\n\x1a\n" + bytes(20), 422),
    ("nothing", b"", 400),
)


@dataclass
class Soak:
    """One run: what the clients share, from any thread."""

    server: Server
    small: list[Study]
    series: Study
    over: threading.Event = field(default_factory=threading.Event)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    first: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def ask(
        self, method: str, path: str, body: bytes | None = None, media_type: str | None = None,
        **headers: str,
    ) -> Answer:  # fmt: skip
        """One request, counted; waits and asks again where the service says that it is busy."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if media_type is not None:
            names["Content-Type"] = media_type
        while True:
            answer = self.server.ask(method, path, body, names)
            self.count("answers")
            if answer.status != 503:
                check(answer.status < 500, f"{method} {path}: {answer.status}")
                return answer
            check(answer.json()["code"] == "busy", f"503 {answer.json()['code']}")
            check("retry-after" in answer.headers, "503 without Retry-After")
            self.count("503 busy")
            time.sleep(0.2)

    def same(self, study: Study, document: Mapping[str, Any]) -> None:
        """Check that a study's numbers are those of its first answer."""
        found = document["findings"]
        with self.lock:
            expected = self.first.setdefault(study.name, found)
        check(found == expected, f"{study.name}: other numbers than at first")


def stateless(soak: Soak, _: random.Random) -> None:
    """A picture, answered in the response."""
    study = soak.small[-1]
    answer = soak.ask("POST", "/v1/segment", study.body, study.media_type)
    check(answer.status == 200, f"a picture: {answer.status}")
    soak.same(study, answer.json())
    soak.count("pictures")


def volume(soak: Soak, rng: random.Random) -> None:
    """A series of 60 slices, as JSON, as SEG, or as everything."""
    accept = rng.choice(("application/json", "application/dicom", "application/zip"))
    study = soak.series
    answer = soak.ask("POST", "/v1/segment", study.body, study.media_type, Accept=accept)
    check(answer.status == 200, f"a series: {answer.status}")
    if accept == "application/json":
        soak.same(study, answer.json())
    soak.count("series")


def durable(soak: Soak, rng: random.Random) -> None:
    """Accepted, watched until it has succeeded, read in parts, deleted."""
    study = rng.choice(soak.small[:-1])
    at = _accepted(soak, study)
    deadline = time.monotonic() + QUIET_S
    while (job := soak.ask("GET", at).json())["status"] in ("queued", "running"):
        check(time.monotonic() < deadline, f"{study.name}: still {job['status']}")
        time.sleep(0.1)
    check(job["status"] == "succeeded", f"{study.name}: {job['status']}, {job['error']}")
    soak.same(study, job)
    for part in PARTS:
        answer = soak.ask("GET", f"{at}/{part}")
        check(answer.status == 200 and answer.body, f"{study.name}: {part} {answer.status}")
    _delete(soak, at)
    soak.count("durable segmentations")


def cancelled(soak: Soak, rng: random.Random) -> None:
    """Accepted, and cancelled or deleted at some moment."""
    at = _accepted(soak, rng.choice([*soak.small, soak.series]))
    time.sleep(rng.uniform(0, 1))
    if rng.random() < 0.5:
        job = soak.ask("POST", f"{at}/cancel", b"").json()
        check(job["status"] in ("cancelled", "succeeded"), f"cancelled: {job['status']}")
    _delete(soak, at)
    soak.count("cancelled or deleted early")


def bad(soak: Soak, rng: random.Random) -> None:
    """Files that are refused, and addresses that there are not."""
    name, body, status = rng.choice(BAD)
    path = rng.choice(("/v1/segment", AT))
    answer = soak.ask("POST", path, body, "application/octet-stream")
    check(answer.status == status, f"{name}: {answer.status}")
    check(soak.ask("GET", f"{AT}/{'0' * 32}").status == 404, "an unknown id is known")
    soak.count("bad requests")
    time.sleep(0.05)


def _accepted(soak: Soak, study: Study) -> str:
    answer = soak.ask("POST", AT, study.body, study.media_type, Prefer="respond-async")
    check(answer.status in (201, 202), f"{study.name}: {answer.status}")
    return answer.headers["location"]


def _delete(soak: Soak, at: str) -> None:
    check(soak.ask("DELETE", at).status == 204, "DELETE failed")
    check(soak.ask("GET", at).status == 404, "a deleted segmentation is found")


CLIENTS: tuple[Callable[[Soak, random.Random], None], ...] = (
    stateless, stateless, volume, volume, durable, durable, cancelled, bad,
)  # fmt: skip


def client(soak: Soak, work: Callable[[Soak, random.Random], None], number: int) -> None:
    """One client, until the time is over or anything was wrong."""
    rng = random.Random(number)
    while not soak.over.is_set() and not soak.wrong:
        try:
            work(soak, rng)
        except (Wrong, OSError, HTTPException) as error:
            soak.wrong.append(f"{work.__name__}: {type(error).__name__}: {error}")


def watch_health(port: int, pipe: Connection) -> None:
    """In a process of its own: seconds of each health request, until told to end."""
    seconds = []
    while not pipe.poll(HEALTH_EVERY_S):
        started = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/health/live")
        healthy = connection.getresponse().read() == b'{"status":"live"}'
        connection.close()
        seconds.append(time.perf_counter() - started if healthy else float("inf"))
    pipe.send(seconds)


@dataclass(frozen=True)
class Footprint:
    """What the service's process holds."""

    resident_mb: float
    threads: int
    files: int

    @classmethod
    def of(cls, pid: int) -> "Footprint":
        status = Path(f"/proc/{pid}/status").read_text()
        threads = int((re.search(r"^Threads:\s+(\d+)", status, re.MULTILINE) or [0, 0])[1])
        files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        return cls(resident_mb(pid, "VmRSS"), threads, files)


def main(
    seconds: Annotated[int, typer.Option(help="of load; 0: a minute")] = 0,
) -> None:
    """Load the service, print what was seen, and end with 1 where anything was wrong."""
    seconds = seconds or 60
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        with Server.start(data) as server:
            small = studies()
            series = next(study for study in studies(60, 256) if study.name == "zip")
            soak = Soak(server, small, Study("60 slices", series.media_type, series.body, ()))
            health, samples = _load(soak, seconds)
            if not soak.wrong:
                try:
                    _settled(soak, data, samples)
                except (Wrong, OSError, HTTPException) as error:
                    soak.wrong.append(f"at the end: {error}")
    p50, p99, worst = median(health), quantiles(health, n=100)[98], max(health)
    if p99 > HEALTH_P99_S:
        soak.wrong.append(f"health answered within {p99 * 1000:.0f} ms (p99)")
    print(f"\n{seconds} s of load\n\n| What | Seen |\n| --- | --- |")
    for what, count in sorted(soak.counts.items()):
        print(f"| {what} | {count} |")
    print(f"| health, {len(health)} requests: p50, p99, most | "
          f"{p50 * 1000:.1f}, {p99 * 1000:.1f}, {worst * 1000:.1f} ms |")  # fmt: skip
    for wrong in soak.wrong:
        print(f"WRONG: {wrong}")
    print("" if soak.wrong else "\nnothing wrong")
    raise typer.Exit(1 if soak.wrong else 0)


def _load(soak: Soak, seconds: int) -> tuple[list[float], list[Footprint]]:
    """Run all clients for a warm-up and so many seconds more.

    Returns health's seconds, and the process's footprints once a second after the warm-up.
    """
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    watcher = multiprocessing.get_context("spawn").Process(
        target=watch_health, args=(soak.server.port, theirs), daemon=True
    )
    watcher.start()
    threads = [
        threading.Thread(target=client, args=(soak, work, number))
        for number, work in enumerate(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    samples = []
    warm = time.monotonic() + WARM_UP_S
    while (now := time.monotonic()) < warm + seconds and not soak.wrong:
        if now >= warm:
            samples.append(Footprint.of(soak.server.process.pid))
        time.sleep(1)
    soak.over.set()
    for thread in threads:
        thread.join()
    ours.send(None)
    health = ours.recv()
    watcher.join()
    soak.counts["health requests"] = len(health)
    return health, samples


def _settled(soak: Soak, data: Path, samples: list[Footprint]) -> None:
    """Nothing is left of the load but caches."""
    _check_growth(samples, soak.counts)
    check(soak.ask("GET", AT).json()["items"] == [], "segmentations are left")
    left = [path for path in (data / "segmentations").rglob("*") if path.is_file()]
    left += list((data / "uploads").iterdir())
    check(not left, f"files are left: {[path.name for path in left]}")
    _metrics_agree(soak)


def _check_growth(samples: list[Footprint], counts: MutableMapping[str, int]) -> None:
    """Compare the medians of the second quarter and of the last."""
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    for name, most in (("resident_mb", GROWN_MB), ("threads", GROWN_THREADS),
                       ("files", GROWN_FILES)):  # fmt: skip
        before, after = (median(getattr(item, name) for item in group) for group in (early, late))
        counts[f"{name}, second quarter"] = round(before)
        counts[f"{name}, last quarter"] = round(after)
        check(after - before <= most, f"{name} grew from {before:.0f} to {after:.0f}")


def _metrics_agree(soak: Soak) -> None:
    """The service has counted what the clients have, and has shared batches."""
    text = soak.server.ask("GET", "/metrics").body.decode()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    totals: Counter[str] = Counter()
    for name, value in lines:
        totals[name.split("{")[0]] += float(value)  # type: ignore[assignment]  # sums of floats
    # Those before it was ready were the start's, not ours.
    asked = soak.counts["answers"] + soak.counts["health requests"]
    starts = sum(
        float(value) for name, value in lines
        if name.startswith("lts_requests_total") and 'route="/health/ready"' in name
    )  # fmt: skip
    found = totals["lts_requests_total"] - starts
    check(found == asked, f"{found:.0f} requests are counted, {asked} were answered")
    check(totals["lts_jobs_in_work"] == 0, "unfinished jobs are left")
    check(totals["lts_admitted_requests"] == 0, "admitted requests are left")
    batch = totals["lts_batch_slices_sum"] / totals["lts_batch_slices_count"]
    soak.counts["slices in a batch, times 100"] = round(batch * 100)
    check(batch > 1, f"mean batch {batch:.2f}")


if __name__ == "__main__":
    typer.run(main)
