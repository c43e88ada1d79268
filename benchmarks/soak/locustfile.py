"""The clients of `make soak`, for `python -m locust`; as many of each class as its weight says.

A client that finds anything wrong ends the load. What all have seen goes to the file that
`--report` names.
"""

import json
import socket
import time
import uuid
from argparse import ArgumentParser
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

import gevent
from locust import events
from locust.env import Environment
from locust.user.task import TaskSet

from benchmarks.soak.caller import AT, PATIENCE_S, Caller, Drip, Shared
from benchmarks.soak.report import LEFT, Kind, Report
from reliability.process import check
from reliability.studies import Study, studies

PARTS = ("mask.nii.gz", "image.nii.gz", "preview.png", "contours", "masks/0.png", "overlays/3.png")

STARTS = {"application/json": b"{", "application/dicom": bytes(128) + b"DICM",
          "application/zip": b"PK"}  # fmt: skip
"""What an answer of each media type begins with."""

MISTAKES: tuple[tuple[str, bytes, int], ...] = (
    ("text", b"no image at all", 415),
    ("an empty archive", b"PK\x05\x06" + bytes(18), 400),
    ("a cut picture", b"\x89PNG\r\n\x1a\n" + bytes(20), 422),
    ("nothing", b"", 400),
)

SCRAPED = {"/health/live": b"live", "/health/ready": b"ready", "/health/startup": b"started",
           "/metrics": b"lts_requests_total", "/v1/models": b"sha256"}  # fmt: skip
"""Addresses that a monitor asks, and what each answer holds."""

STALL_S = 8
"""In the middle of a body: longer than the service's grace of 5 s, shorter than that and the 10 s
for which it reads on after its answer."""


class Pictures(Caller):
    """A picture, answered in the response."""

    def work(self) -> None:
        study = self.shared.small[-1]
        self.check_same(study, self.post("picture", "/v1/segment", study).json())


class Series(Caller):
    """A series of 60 slices, as JSON, as SEG, or as everything."""

    weight = 2
    turns = cycle(STARTS)

    def work(self) -> None:
        accept = next(self.turns)
        study = self.shared.series
        answer = self.post(f"series as {accept}", "/v1/segment", study, Accept=accept)
        check(answer.content.startswith(STARTS[accept]), f"a series: no {accept}")
        if accept == "application/json":
            self.check_same(study, answer.json())


class Polls(Caller):
    """Accepted, asked for until it has succeeded, read in parts, deleted."""

    def work(self) -> None:
        study = self.rng.choice(self.shared.small[:-1])
        at = self.accepted(study)
        self.until_ended(at, study)
        read_parts(self, at)
        self.delete(at)


class Watches(Caller):
    """The same, watched by its events."""

    def work(self) -> None:
        study = self.rng.choice(self.shared.small[:-1])
        at = self.accepted(study)
        watch(self, at)
        self.until_ended(at, study)
        read_parts(self, at)
        self.delete(at)


class Cancels(Caller):
    """Accepted, and cancelled or deleted at some moment."""

    pause_s = 0.5

    def work(self) -> None:
        at = self.accepted(self.rng.choice([*self.shared.small, self.shared.series]))
        time.sleep(self.rng.uniform(0, 1))
        if self.rng.random() < 0.5:
            job = self.ask("cancel", "POST", f"{at}/cancel").json()
            check(job["status"] in ("cancelled", "succeeded"), f"cancelled: {job['status']}")
        self.delete(at)


class Repeats(Caller):
    """The same request under one key makes one segmentation, another request a conflict."""

    pause_s = 1

    def work(self) -> None:
        first, other = self.rng.sample(self.shared.small, 2)
        key = uuid.uuid4().hex
        at = self.accepted(first, Idempotency_Key=key)
        for _ in range(self.rng.randint(1, 3)):
            again = self.accepted(first, "repeat", Idempotency_Key=key)
            check(again == at, f"one key, two segmentations: {at} and {again}")
        self.post("conflict", AT, other, expected=(409,), Idempotency_Key=key)
        self.delete(at)


class Mistakes(Caller):
    """Files that are refused, and addresses that there are not."""

    pause_s = 0.05

    def work(self) -> None:
        name, body, status = self.rng.choice(MISTAKES)
        path = self.rng.choice(("/v1/segment", AT))
        kind = {"Content-Type": "application/octet-stream"}
        self.ask(name, "POST", path, body, kind, (status,))
        self.ask("unknown id", "GET", f"{AT}/{'0' * 32}", expected=(404,))


class Monitors(Caller):
    """Health, metrics and the model, as a monitor asks for them."""

    pause_s = 1

    def work(self) -> None:
        for path, word in SCRAPED.items():
            check(word in self.ask(path, "GET", path).content, f"{path}: no {word!r}")


class SlowUploads(Caller):
    """Bodies that stop in the middle, and bodies that arrive slowly, in turn."""

    turns = cycle(("stalled", "slow"))

    def work(self) -> None:
        study = self.shared.small[0]
        if next(self.turns) == "stalled":
            drip = Drip(study.body[: len(study.body) // 20], 2, STALL_S)
            self.post("stalled upload", "/v1/segment", study, drip, (408,))
        else:
            drip = Drip(study.body, 40, 0.2)
            answer = self.post("slow upload", "/v1/segment", study, drip)
            self.check_same(study, answer.json())


class Leavers(Caller):
    """Gone in the middle; whoever wanted a durable segmentation comes back for it."""

    def work(self) -> None:
        study = self.rng.choice(self.shared.small)
        if self.rng.random() < 0.7:
            leave(self, "/v1/segment", study)
            return
        key = uuid.uuid4().hex
        leave(self, AT, study, f"Idempotency-Key: {key}\r\n")
        at = self.accepted(study, Idempotency_Key=key)
        self.ask("events, left", "GET", f"{at}/events", stream=True).close()
        self.until_ended(at, study)
        self.delete(at)


def read_parts(caller: Caller, at: str) -> None:
    """Every kind of part that a segmentation has."""
    for part in PARTS:
        check(caller.ask("part", "GET", f"{at}/{part}").content, f"{part} is empty")


def watch(caller: Caller, at: str) -> None:
    """Read a segmentation's events until the one that says that it has succeeded."""
    deadline, event = time.monotonic() + PATIENCE_S, ""
    with caller.ask("events", "GET", f"{at}/events", stream=True) as answer:
        for line in answer.iter_lines(decode_unicode=True):
            check(time.monotonic() < deadline, "events without end")
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            if event == "end" and line.startswith("data: "):
                status = json.loads(line.removeprefix("data: "))["status"]
                check(status == "succeeded", f"events: {status} at the end")
    check(event == "end", f"events broke off after {event!r}")


def leave(caller: Caller, path: str, study: Study, header: str = "") -> None:
    """Send a request up to some point of its body, and close the connection soon after."""
    host, port = urlsplit(caller.host).netloc.split(":")
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {study.media_type}\r\n{header}"
        f"Content-Length: {len(study.body)}\r\n\r\n"
    ).encode()
    share, started_s = caller.rng.choice((0.0, 0.5, 1.0)), time.perf_counter()
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(head + study.body[: int(share * len(study.body))])
        time.sleep(caller.rng.uniform(0, 0.4))
        if caller.rng.random() < 0.5:  # without a word, as a crash does
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" + bytes(4))
    caller.environment.events.request.fire(
        request_type="POST", name=LEFT, response_time=(time.perf_counter() - started_s) * 1000,
        response_length=0, exception=None, context={},
    )  # fmt: skip


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Say where the report goes."""
    parser.add_argument("--report", type=Path, required=True, help="file for what was seen")


@events.init.add_listener
def prepare(environment: Environment, **_: object) -> None:
    """Make the studies. Raises ValueError, which ends Locust, for a host that is not loopback."""
    host = urlsplit(environment.host or "").hostname
    if host != "127.0.0.1":
        raise ValueError(f"expected a service on 127.0.0.1, found {host}")
    series = next(study for study in studies(60, 256) if study.name == "zip")
    environment.shared = Shared(studies(), Study("60 slices", series.media_type, series.body, ()))
    options = environment.parsed_options
    options.num_users = options.spawn_rate = sum(each.weight for each in environment.user_classes)
    gevent.get_hub().loop.update_now()  # or what the studies took would count as time of the run


@events.test_start.add_listener
def begin(environment: Environment, **_: object) -> None:
    environment.shared.began_s = time.monotonic()


@events.test_stopping.add_listener
def end(environment: Environment, **_: object) -> None:
    environment.shared.ended_s = time.monotonic()


@events.user_error.add_listener
def note(user_instance: TaskSet, exception: Exception, **_: object) -> None:
    """End the load at the first thing that is wrong."""
    environment, wrong = user_instance.user.environment, user_instance.user.shared.wrong
    wrong.append(f"{type(user_instance.user).__name__}: {type(exception).__name__}: {exception}")
    if len(wrong) == 1:
        gevent.spawn(environment.runner.quit)


@events.quitting.add_listener
def report(environment: Environment, **_: object) -> None:
    """Write what was seen."""
    shared = environment.shared
    kinds = [
        Kind(
            f"{entry.method} {entry.name}", entry.num_requests,
            entry.get_response_time_percentile(0.5), entry.get_response_time_percentile(0.99),
            round(entry.max_response_time),
        )
        for _, entry in sorted(environment.stats.entries.items())
    ]  # fmt: skip
    rounds = {each.__name__: shared.rounds[each.__name__] for each in environment.user_classes}
    statuses, wrong = dict(shared.statuses), tuple(shared.wrong)
    seen = Report(shared.began_s, shared.ended_s, tuple(kinds), statuses, rounds, wrong)
    seen.write(environment.parsed_options.report)
