"""Trying again what may go well later: one helper, whose waits end as soon as they should."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from service.errors import OriginError, ServiceError
from service.settings import Settings
from service.stopping import StopSignal

T = TypeVar("T")

Tried = Callable[[str], None]
"""Told how each attempt ended: `ok`, or the code of its failure."""

OK = "ok"

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0

_LONGEST_RETRY_AFTER_S = 300.0
"""What a server may ask for; more of it would be an outage that nobody sees."""


class TryAgain(Exception):
    """A failure that may pass; `error` is what it is if it does not.

    `code` is for a receipt: an HTTP status, a DIMSE status, or a word such as "unreachable".
    """

    def __init__(
        self, error: OriginError, code: str = "unreachable", retry_after_s: float = 0
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.code = code
        self.retry_after_s = min(retry_after_s, _LONGEST_RETRY_AFTER_S)


def retrying(
    work: Callable[[], T], stop: StopSignal, settings: Settings, tried: Tried = lambda _: None
) -> T:
    """What `work` returns, which is called again while it raises `TryAgain`.

    The pauses double, each shortened at random by up to half, so that many who wait for one server
    do not all come back at once. `pacs_retry_s` counts from the first failure: a long transfer that
    goes well takes none of it; the last try is at its end. Then the failure's `error` is raised.
    Raises the reason of `stop` as soon as there is one.
    """
    pause_s = _FIRST_PAUSE_S
    give_up: float | None = None
    while True:
        stop.check()
        try:
            done = work()
        except TryAgain as failure:
            stop.check()  # what was stopped looks like a failure
            tried(failure.error.code)
            now = time.monotonic()
            give_up = now + settings.pacs_retry_s if give_up is None else give_up
            if now >= give_up:
                raise failure.error from None  # a library's message may hold anything
            jitter = random.uniform(0.5, 1)  # noqa: S311  # nobody gains by guessing it
            wait_s = max(pause_s * jitter, failure.retry_after_s)
            stop.pause(min(wait_s, give_up - now))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        except ServiceError as failure:
            if stop.reason is None:
                tried(failure.code)
            raise
        else:
            tried(OK)
            return done
