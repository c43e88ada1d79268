"""Places at which a process can be made to end as if by `kill -9`: each changes this process."""

import os
import signal
from collections.abc import Callable
from typing import Any

import service.pipeline as pipeline
from service.inference.batching import Batcher
from service.jobs import steps
from service.jobs.records import FETCHED, INPUT, LABELS
from service.jobs.registry import Registry
from service.pacs import dicomweb as pacs_client
from service.pacs import stow
from service.store import Store


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
    """Die instead of a call that `when` accepts."""
    original = getattr(owner, name)
    setattr(
        owner, name, lambda *args, **kwargs: die() if when(*args) else original(*args, **kwargs)
    )


def after(
    owner: Any, name: str, calls: int = 1, when: Callable[..., bool] = lambda *_: True
) -> None:
    """Die once the function has returned so many times from calls that `when` accepts."""
    original, count = getattr(owner, name), 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        answer = original(*args, **kwargs)
        if when(*args):
            count += 1
            if count == calls:
                die()
        return answer

    setattr(owner, name, counted)


def wrote(name: str) -> Callable[..., bool]:
    return lambda store, key, *_: key.endswith(name)


PLACES = {
    "decode": lambda: after(pipeline.Run, "read"),
    "inference": lambda: after(Batcher, "_label", calls=2),
    "between inference and encode": lambda: after(Store, "put", when=wrote(LABELS)),
    "measure": lambda: before(pipeline, "measure"),
    "encode": lambda: before(pipeline, "segmentation_dcm"),
    "between two results": lambda: after(Store, "put", when=wrote("mask.dcm")),
    "before the result counts": lambda: before(Registry, "choose_result"),
    "after the result counts": lambda: after(Registry, "choose_result"),
    "before the outcome": lambda: before(Registry, "conclude_held"),
    "after the outcome": lambda: after(Registry, "conclude_held"),
}

PACS_PLACES = {
    "fetch": lambda: after(pacs_client, "_page"),
    "between fetch and label": lambda: after(Store, "put", when=wrote(FETCHED)),
    "between publish and deliver": lambda: before(steps, "kept_instances"),
    "deliver": lambda: after(stow._Said, "of"),
    "before the receipts": lambda: before(Registry, "set_delivered"),
    "after the receipts": lambda: after(Registry, "set_delivered"),
}
"""Of a job whose series comes from a PACS and whose objects go there."""

ACCEPT_PLACES = {
    "before the input": lambda: before(Store, "put", lambda _, key, *__: key.endswith(INPUT)),
    "before it is accepted": lambda: before(Registry, "confirm"),
    "after it is accepted": lambda: after(Registry, "confirm"),
}
"""Of a request, before it is answered."""
