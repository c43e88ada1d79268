"""When to stop working on something: its caller left, its time is over, or the service ends."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import DeadlineExceeded, ServiceError


class StopSignal:
    """Asked by whoever works, set by whoever no longer wants the result; from any thread.

    The first reason stays. A deadline is a reason of its own once it has passed.
    """

    def __init__(self, deadline_s: float | None = None, allowed_s: float | None = None) -> None:
        """`allowed_s` is what was asked for, where a part of that had passed before."""
        self._deadline = None if deadline_s is None else time.monotonic() + deadline_s
        self._allowed_s = deadline_s if allowed_s is None else allowed_s
        self._reason: ServiceError | None = None
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def stop(self, reason: ServiceError) -> None:
        """Stop for this reason; wakes all who wait with `listening`."""
        with self._lock:
            if self._reason is None:
                self._reason = reason
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()

    @property
    def reason(self) -> ServiceError | None:
        """Why to stop, None while there is no reason to."""
        if self._reason is not None:
            return self._reason
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return DeadlineExceeded(f"Expected an answer within {self._allowed_s:g} s.")
        return None

    def check(self) -> None:
        """Raise the reason, if there is one."""
        reason = self.reason
        if reason is not None:
            raise reason

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the deadline, at least 0; None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def pause(self, seconds: float) -> None:
        """Wait so long in the calling thread. Raises the reason as soon as there is one."""
        stopped = threading.Event()
        with self.listening(stopped.set):
            stopped.wait(seconds if self.remaining_s is None else min(seconds, self.remaining_s))
        self.check()

    @contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` when stopped, at once where that was before."""
        with self._lock:
            self._listeners.append(listener)
            stopped = self._reason is not None
        try:
            if stopped:
                listener()
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)
