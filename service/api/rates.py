"""How often a caller may ask for work: a bucket of tokens for each, in this process."""

import time
from collections import OrderedDict

from fastapi import Request

from service.errors import TooManyRequests

_CALLERS = 10_000
"""Remembered at once; the one that was not seen for longest is forgotten, as if it were new."""


class Rates:
    """So many requests a minute for each caller, as many at once; on the event loop only."""

    def __init__(self, per_minute: int) -> None:
        """0 allows any number."""
        self._per_minute = per_minute
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count one more request. Raises `TooManyRequests`."""
        if not self._per_minute:
            return
        now, token_s = time.monotonic(), 60 / self._per_minute
        full_at = max(now, self._full_at.pop(caller, now)) + token_s
        if full_at - now > 60:
            self._full_at[caller] = full_at - token_s
            raise TooManyRequests(
                f"Expected at most {self._per_minute} requests a minute, found more.",
                retry_after_s=full_at - now - 60,
            )
        self._full_at[caller] = full_at
        if len(self._full_at) > _CALLERS:
            self._full_at.popitem(last=False)


def caller(request: Request) -> str:
    """Who asks: the address, by the proxy's word where one stands before the service."""
    return request.client.host if request.client is not None else "unknown"
