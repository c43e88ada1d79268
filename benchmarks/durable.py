"""`python -m benchmarks.durable`: what it costs that an image's result is kept, and survives.

The same PNG goes to `/v1/segment` and to `/v1/segmentations` in turn, one at a time, over one
connection each; both answer when the result is there. So it is with SQLite, with PostgreSQL and a
folder, and with PostgreSQL and S3; with these two also where a worker of its own does the jobs, and
another service without any of that answers `/v1/segment`, which an API alone cannot.

Beside them a job of no work, a series of a PACS that is down: what is left is the way of a job from
its request through the database and the engine to its answer.
"""

import http.client
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated
from urllib.parse import urlsplit

import cv2
import numpy as np
import typer

from benchmarks.cluster import Parts, parts
from benchmarks.load import REQUEST_S, free_port, service_process
from service.phantom import abdomen_hu
from service.volume import HounsfieldWindow

STATELESS, DURABLE, EMPTY = "/v1/segment", "/v1/segmentations", "/v1/segmentations/dicomweb"
WARM_UP = 5

SERIES = json.dumps(
    {"origin": "down", "study_instance_uid": "1.2.3", "series_instance_uid": "1.2.3.4"}
).encode()


@dataclass(frozen=True)
class Setup:
    """Where jobs are kept and who works on them; without a database it is SQLite in a folder."""

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    is_split: bool = False


@dataclass(frozen=True)
class Taken:
    """Milliseconds of each request, in turn."""

    stateless: list[float]
    durable: list[float]
    empty: list[float]

    @property
    def more(self) -> float:
        """Of neighbours in time, since what else the machine does changes every second."""
        pairs = zip(self.stateless, self.durable, strict=True)
        return median(later - first for first, later in pairs)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="of each, in turn, after a few more")] = 60,
    size: Annotated[int, typer.Option(min=16, help="rows and columns")] = 512,
) -> None:
    """Print a table for docs/performance.md."""
    picture = phantom_png(size)
    print(f"PNG of {size} x {size}, {len(picture) / 1e3:.0f} kB, {rounds} rounds; medians in ms")
    print("\n| Jobs in | /v1/segment | /v1/segmentations | Overhead | Least | Job of no work |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder, parts() as running:
        for setup in setups(running, Path(folder)):
            taken = timed(setup, picture, rounds, Path(folder))
            least = min(taken.durable) - min(taken.stateless)
            print(
                f"| {setup.name} | {median(taken.stateless):.1f} | {median(taken.durable):.1f} | "
                f"{taken.more:.1f} | {least:.1f} | {median(taken.empty):.1f} |",
                flush=True,
            )


def setups(running: Parts, folder: Path) -> Iterator[Setup]:
    """All that are compared."""
    yield Setup("SQLite, a folder")
    shared = dict(running.settings)
    for name, store in (("a folder", f"file://{folder}/store"), ("S3", shared["store_url"])):
        for is_split in (False, True):
            who = "; a worker of its own" if is_split else ""
            settings = shared | {"store_url": store}
            yield Setup(f"PostgreSQL, {name}{who}", settings, running.environment, is_split)


def timed(setup: Setup, picture: bytes, rounds: int, folder: Path) -> Taken:
    """Start what the setup names, and measure."""
    pacs = folder / "pacs.toml"
    pacs.write_text(f'[nodes.down]\nurl = "http://127.0.0.1:{free_port()}"\n')
    shared = {**setup.settings, "device": "cpu", "pacs_file": pacs, "pacs_retry_s": 0}
    log, image = folder / "service.log", {"Content-Type": "image/png"}
    taken = Taken([], [], [])

    def start(*command: str, **settings: object) -> str:
        environment = setup.environment
        service = service_process(*command, environment=environment, log=log, **settings)
        return stack.enter_context(service).address

    with ExitStack() as stack:
        if setup.is_split:
            address = start("serve", "--no-worker", **shared)
            start("worker", **shared)
            reference = start("serve", device="cpu")
        else:
            address = reference = start("serve", **shared)
        durable = stack.enter_context(_connected(address))
        stateless = stack.enter_context(_connected(reference))
        for turn in range(WARM_UP + rounds):
            spent_ms = (
                _post_ms(stateless, STATELESS, picture, image, http.client.OK),
                _post_ms(durable, DURABLE, picture, image, http.client.CREATED),
                _post_ms(durable, EMPTY, SERIES, {"Content-Type": "application/json"},
                         http.client.BAD_GATEWAY),
            )  # fmt: skip
            if turn >= WARM_UP:
                for figures, figure in zip(vars(taken).values(), spent_ms, strict=True):
                    figures.append(figure)
    return taken


@contextmanager
def _connected(address: str) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=REQUEST_S)
    try:
        yield connection
    finally:
        connection.close()


def phantom_png(size: int) -> bytes:
    """An axial slice through the phantom's liver as an 8-bit PNG of `size` rows and columns."""
    hu = abdomen_hu(seed=7, slices=3, size=size)[1].astype(np.float32)
    window = HounsfieldWindow(lower_hu=-160, upper_hu=240)
    grey = np.clip((hu - window.lower_hu) / window.width_hu, 0, 1) * 255
    return cv2.imencode(".png", grey.astype(np.uint8))[1].tobytes()


def _post_ms(
    connection: http.client.HTTPConnection,
    path: str,
    body: bytes,
    headers: Mapping[str, str],
    expected: int,
) -> float:
    """Milliseconds to the end of the answer. Raises RuntimeError where it is another one."""
    started = perf_counter()
    connection.request("POST", path, body, dict(headers))
    response = connection.getresponse()
    answer = response.read()
    spent_ms = (perf_counter() - started) * 1000
    if response.status != expected:
        found = f"{response.status} {answer[:200]!r}"
        raise RuntimeError(f"expected {expected} of {path}, found {found}")
    return spent_ms


if __name__ == "__main__":
    typer.run(main)
