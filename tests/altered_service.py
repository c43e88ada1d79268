"""The service's command line, changed where a test asks for it: to wait, to be slow, to be killed.

CONTROL may name a folder: while it holds a file `hold` the process takes no job; files `slow` and
`slow-put` say how many seconds longer each batch takes, and the last document of a result. KILL_AT
is a place of `jobs.killed_places`; an image of POISON_ROWS rows ends the process.
"""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn  # noqa: F401  # what follows is imported before a process is forked
from jobs.killed_places import ACCEPT_PLACES, PACS_PLACES, PLACES, before

import service.api.app
import service.api.protocol  # noqa: F401
from service.__main__ import app
from service.inference.batching import Batcher
from service.jobs.worker import Worker
from service.store import Store


def _hold(hold: Path) -> None:
    claim = Worker._claim

    def held(worker: Worker) -> None:
        if not hold.exists():
            claim(worker)

    Worker._claim = held


def _slow_down(slow: Path) -> None:
    label = Batcher._label

    def slowed(batcher: Batcher, read: Any) -> Any:
        _wait(slow)
        return label(batcher, read)

    Batcher._label = slowed


def _slow_down_put(slow: Path) -> None:
    put = Store.put

    def slowed(store: Store, key: str, data: Any) -> None:
        if key.endswith("preview.png"):
            _wait(slow)
        put(store, key, data)

    Store.put = slowed


def _wait(slow: Path) -> None:
    if slow.exists():
        time.sleep(float(slow.read_text()))


def _poison(rows: int) -> None:
    before(Batcher, "_label", lambda _, read: any(hu.shape[1] == rows for hu in read))


def main(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """Be this command in a new process that has imported everything."""
    os.environ.update(environment)
    sink = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in (1, 2):
        os.dup2(sink, number)
    if folder := os.environ.get("CONTROL"):
        control = Path(folder)
        _hold(control / "hold")
        _slow_down(control / "slow")
        _slow_down_put(control / "slow-put")
    if place := os.environ.get("KILL_AT"):
        (PLACES | PACS_PLACES | ACCEPT_PLACES)[place]()
    if poison := os.environ.get("POISON_ROWS"):
        _poison(int(poison))
    app(list(arguments))
