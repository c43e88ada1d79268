"""How many requests are taken in, and whose turn it is to hold a volume in memory.

Large pieces of work take turns, urgent ones first, else first come first served, since each holds a
volume. Small ones, a single image or a few slices, have places of their own beside them, so that an
image never waits for a volume to end; one that turns out large once its headers are read changes
over.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Literal, Protocol

from service import tracing
from service.errors import Busy
from service.stopping import StopSignal

SMALL_BYTES = 8 * 1024**2
SMALL_VOXELS = 16 * 512**2
"""Up to this, compressed and as an image, work counts as small: some 16 MB of memory each."""

SMALL_PLACES = 8

Size = Literal["small", "large"]


class Turn(Protocol):
    """A turn that was given."""

    def settle(self, voxels: int, stop: StopSignal) -> None:
        """Say how large the work really is; waits for a large turn where it holds a small one."""
        ...


class Admission:
    """Places for requests, and turns for their work; shared by all that work in this process."""

    def __init__(
        self,
        max_running: int,
        max_waiting: int,
        observe: Callable[[Size, float], None] = lambda *_: None,
    ) -> None:
        """At most `max_running` large turns at once; so many requests and `max_waiting` more.

        `observe` is told the seconds of each wait for a turn.
        """
        self._most = max_running + max_waiting
        self._admitted = 0
        self._lock = threading.Lock()
        self._large = _Lane("large", max_running, observe)
        self._small = _Lane("small", SMALL_PLACES, observe)

    @property
    def admitted(self) -> int:
        """Requests that have a place now."""
        return self._admitted

    def waiting(self, size: Size) -> int:
        """Pieces of work that wait for a turn now."""
        return (self._small if size == "small" else self._large).waiting

    def check(self) -> None:
        """Raise `Busy` where no place is free, before anything is read for one."""
        if self._admitted >= self._most:
            raise Busy(f"Expected at most {self._most} requests at once, found more.")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A request's place while it waits and is worked on. Raises `Busy` where none is free."""
        with self._lock:
            self.check()
            self._admitted += 1
        try:
            yield
        finally:
            with self._lock:
                self._admitted -= 1

    @contextmanager
    def turn(self, size_bytes: int, stop: StopSignal, priority: int = 1) -> Iterator[Turn]:
        """Wait in the calling thread for a turn, lower priorities first. Raises the reason of
        `stop`.
        """
        held = _Turn(self._small, self._large, size_bytes <= SMALL_BYTES, priority)
        held.enter(stop)
        try:
            yield held
        finally:
            held.leave()


class _Turn:
    def __init__(self, small: "_Lane", large: "_Lane", is_small: bool, priority: int) -> None:
        self._small, self._large = small, large
        self._priority = priority
        self._lane: _Lane | None = None
        self._first = small if is_small else large

    def enter(self, stop: StopSignal) -> None:
        self._first.enter(stop, self._priority)
        self._lane = self._first

    def leave(self) -> None:
        if self._lane is not None:
            self._lane.leave()
            self._lane = None

    def settle(self, voxels: int, stop: StopSignal) -> None:
        if voxels > SMALL_VOXELS and self._lane is self._small:
            self.leave()
            self._large.enter(stop, self._priority)
            self._lane = self._large


class _Lane:
    """Places that are given by priority, and in the order in which they were asked for."""

    def __init__(self, size: Size, places: int, observe: Callable[[Size, float], None]) -> None:
        self._size: Size = size
        self._free = places
        self._observe = observe
        self._asked = count()
        self._queue: list[tuple[int, int]] = []
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def enter(self, stop: StopSignal, priority: int) -> None:
        started = time.perf_counter()
        with tracing.span("wait", {"lts.lane": self._size}):
            self._wait(stop, priority)
        self._observe(self._size, time.perf_counter() - started)

    def _wait(self, stop: StopSignal, priority: int) -> None:
        with stop.listening(self._wake), self._changed:
            ticket = (priority, next(self._asked))
            self._queue.append(ticket)
            try:
                while not (self._free and min(self._queue) == ticket):
                    stop.check()
                    self._changed.wait(stop.remaining_s)
                self._free -= 1
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def leave(self) -> None:
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
