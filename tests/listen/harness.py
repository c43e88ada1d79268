"""A listener in this process, and what senders do to it."""

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO, StringIO
from pathlib import Path

from pydicom import Dataset
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext

from benchmarks.listen import CALLER, associate, parked, store, wait
from benchmarks.load import free_port
from service.listen.listener import listen
from service.pacs.nodes import Caller
from service.settings import Settings

NOWHERE = "http://127.0.0.1:9"
"""An address without a service."""

CALLERS = {CALLER: Caller()}


@contextmanager
def listening(
    folder: Path,
    service_url: str = NOWHERE,
    callers: Mapping[str, Caller] = CALLERS,
    **settings: object,
) -> Iterator[int]:
    """The listener on this data folder; gives its port."""
    defaults = {"listen_port": free_port(), "listen_quiet_s": 0.5, "listen_min_free_bytes": 0}
    chosen = Settings(data_dir=folder, service_url=service_url, **(defaults | settings))
    stop = threading.Event()
    thread = threading.Thread(target=listen, args=(chosen, callers, stop))
    thread.start()
    try:
        assert wait(lambda: not thread.is_alive() or can_connect(chosen.listen_port))
        yield chosen.listen_port
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def can_connect(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextmanager
def association(port: int, *datasets: Dataset, caller: str = CALLER) -> Iterator[Association]:
    """One that must be accepted, and is released."""
    made = associate(port, datasets, caller)
    assert made is not None
    try:
        with parked(made):
            yield made
    finally:
        made.release()


def send(port: int, *datasets: Dataset, caller: str = CALLER) -> list[int | None]:
    """The status of each over one association, None for the one at which that ended."""
    statuses = []
    with association(port, *datasets, caller=caller) as made:
        for dataset in datasets:
            statuses.append(store(made, dataset))
            if statuses[-1] is None:
                break
    return statuses


def raw_request(dataset: Dataset, data: bytes, **changes: object) -> C_STORE:
    """A C-STORE of this dataset's class and instance, whatever the data are."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID = dataset.SOPClassUID
    request.AffectedSOPInstanceUID = dataset.SOPInstanceUID
    request.DataSet = BytesIO(data)
    for name, value in changes.items():
        setattr(request, name, value)
    return request


def context_of(made: Association) -> PresentationContext:
    """The first one for images."""
    return next(it for it in made.accepted_contexts if "Storage" in it.abstract_syntax.name)


def ask(made: Association, request: C_STORE) -> int:
    """The status of a request, over the association's first context for images."""
    context = context_of(made)
    made.dimse.send_msg(request, context.context_id)
    return made.dimse.get_msg(block=True)[1].Status


def kept(folder: Path) -> list[Path]:
    """Every file of an instance under a data folder."""
    return sorted((folder / "received").rglob("*.dcm"))


def names(folder: Path) -> list[str]:
    """Every name under a data folder."""
    return [path.name for path in (folder / "received").rglob("*")]


def whole(folder: Path, place: str = "whole") -> list[Path]:
    return sorted((folder / "received" / place).iterdir())


def events(logged: StringIO, event: str) -> list[dict]:
    """The log's lines of one event."""
    lines = map(json.loads, logged.getvalue().splitlines())
    return [line for line in lines if line["event"] == event]


def nothing_happens(condition: object, for_s: float = 1.0) -> bool:
    """Whether the condition stays false for so long."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        if condition():
            return False
        time.sleep(0.02)
    return True
