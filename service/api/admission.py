"""How many requests are worked on, how many may wait, and that none blocks the event loop."""

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from service.errors import Busy

T = TypeVar("T")


class Admission:
    """At most `max_running` pieces of work in threads, at most `max_waiting` behind them."""

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self._most = max_running + max_waiting
        self._admitted = 0
        self._threads = anyio.CapacityLimiter(max_running)

    def enter(self) -> "Admission":
        """Take a place for a request before its body is read. Raises `Busy` where none is free."""
        if self._admitted >= self._most:
            raise Busy(f"Expected at most {self._most} requests at once, found more.")
        return self

    def __enter__(self) -> None:
        self._admitted += 1

    def __exit__(self, *_: object) -> None:
        self._admitted -= 1

    async def work(self, function: Callable[[], T]) -> T:
        """Run in a thread, in turn. A caller that went away gives its place up in the queue."""
        return await anyio.to_thread.run_sync(function, limiter=self._threads)
