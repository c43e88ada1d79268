"""What a service has once all its clients have gone: nothing, and a true count of them."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from reliability.process import Server

AT = "/v1/segmentations"

QUIET_S = 60
"""For the work of clients that left."""

LOOK_S = 0.5

UNFINISHED = ("lts_jobs_in_work", "lts_admitted_requests")


def requests_by_status(server: Server) -> Counter[str]:
    """How many requests the service has answered with each status, this one among them."""
    return _requests(_metrics(server)) + Counter({"200": 1})


def left(server: Server, data: Path, answered: Counter[str], unanswered: int) -> Iterator[str]:
    """A sentence for each thing that is left, or was counted otherwise than by the clients.

    `answered` is what the clients have seen, by status; further requests, `unanswered`, were
    counted with whatever status.
    """
    text, asked = _quiet(server, answered.total() + unanswered)
    totals = _totals(text)
    for name in UNFINISHED:
        if totals[name]:
            yield f"{name} is {totals[name]:.0f}"
    yield from miscounted(_requests(text), answered + Counter({"200": asked}), unanswered)
    batch = totals["lts_batch_slices_sum"] / totals["lts_batch_slices_count"]
    if batch <= 1:
        yield f"a batch has {batch:.2f} slices on average, so none was shared"
    if items := server.ask("GET", AT).json()["items"]:
        yield f"{len(items)} segmentations are left"
    files = [path for path in (data / "segmentations").rglob("*") if path.is_file()]
    files += list((data / "uploads").iterdir())
    if files:
        yield f"files are left: {[path.name for path in files]}"


def miscounted(counted: Counter[str], answered: Counter[str], unanswered: int) -> Iterator[str]:
    """A sentence for each status of which the service has counted fewer, and for the sum."""
    for status, count in sorted(answered.items()):
        if counted[status] < count:
            yield f"{counted[status]} requests are counted with {status}, {count} were answered"
    if counted.total() != (sent := answered.total() + unanswered):
        yield f"{counted.total()} requests are counted, {sent} were sent"


def _quiet(server: Server, sent: int) -> tuple[str, int]:
    """The metrics once nothing is unfinished, else after a time; and how often they were read.

    The last reading is not in what it says.
    """
    deadline = time.monotonic() + QUIET_S
    asked = 0
    while True:
        totals = _totals(text := _metrics(server))
        quiet = not any(totals[name] for name in UNFINISHED)
        if (quiet and _requests(text).total() == sent + asked) or time.monotonic() > deadline:
            return text, asked
        asked += 1
        time.sleep(LOOK_S)


def _metrics(server: Server) -> str:
    return server.ask("GET", "/metrics").body.decode()


def _requests(text: str) -> Counter[str]:
    """Requests by their status, whatever the other labels are."""
    found: Counter[str] = Counter()
    for status, value in re.findall(
        r'^lts_requests_total\{.*status="(\d+)".*\} (\S+)$', text, re.MULTILINE
    ):
        found[status] += int(float(value))
    return found


def _totals(text: str) -> Counter[str]:
    """Each metric's sum over its labels."""
    found: Counter[str] = Counter()
    for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE):
        found[name] += float(value)  # type: ignore[assignment]  # sums of floats
    return found
