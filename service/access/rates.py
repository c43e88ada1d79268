"""How often someone may do something: a bucket of tokens for each, in this process."""

import time
from collections import OrderedDict

from service.errors import TooManyRequests

_CALLERS = 10_000
"""Remembered at once; the one that was not seen for longest is forgotten, as if it were new."""


class Rates:
    """So many requests a minute for each caller, as many at once; for one thread at a time."""

    def __init__(self, per_minute: int) -> None:
        """0 allows any number."""
        self._per_minute = per_minute
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def check(self, caller: str, per_minute: int | None = None) -> None:
        """Raise `TooManyRequests` where one more would be too many."""
        self._next(caller, per_minute)

    def take(self, caller: str, per_minute: int | None = None) -> None:
        """Count one more request, of this caller's own rate if any. Raises `TooManyRequests`."""
        full_at = self._next(caller, per_minute)
        if full_at is None:
            return
        self._full_at[caller] = full_at
        if len(self._full_at) > _CALLERS:
            self._full_at.popitem(last=False)

    def _next(self, caller: str, per_minute: int | None) -> float | None:
        """When the caller's bucket would be full again after one more; None where any number is."""
        allowed = self._per_minute if per_minute is None else per_minute
        if not allowed:
            return None
        now = time.monotonic()
        if caller in self._full_at:
            self._full_at.move_to_end(caller)
        full_at = max(now, self._full_at.get(caller, now)) + 60 / allowed
        if full_at - now > 60 + 1e-9:
            raise TooManyRequests(
                f"Expected at most {allowed} requests a minute, found more.",
                retry_after_s=full_at - now - 60,
            )
        return full_at
