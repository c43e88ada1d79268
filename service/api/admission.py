"""How many requests are worked on, how many may wait, and that none blocks the event loop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    @contextmanager
    def place(self) -> Iterator[None]:
        """A request's place, taken before its body is read. Raises `Busy` where none is free."""
        if self._admitted >= self._most:
            raise Busy(f"Expected at most {self._most} requests at once, found more.")
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    async def work(self, function: Callable[[], T]) -> T:
        """Run in a thread, in turn; must be called with a place."""
        return await anyio.to_thread.run_sync(function, limiter=self._threads)
