"""The request headers of durable segmentations: `Prefer` (RFC 7240) and `Idempotency-Key`."""

import re
from collections.abc import Sequence

from service.errors import InvalidParameter

_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,6})\"?")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")

MAX_WAIT_S = 600


def wait_s(prefer: Sequence[str], default_s: float) -> float:
    """Seconds to wait for the result by all `Prefer` headers; 0 for `respond-async`.

    What is not known is ignored.
    """
    preferences = [part.strip().lower() for part in ",".join(prefer).split(",")]
    waits = [int(found[1]) for part in preferences if (found := _WAIT.fullmatch(part))]
    if waits:
        return float(min(waits[0], MAX_WAIT_S))
    return 0.0 if "respond-async" in preferences else default_s


def idempotency_key(values: Sequence[str]) -> str | None:
    """The key as it was sent. Raises `InvalidParameter` for an empty, long or not ASCII one, and
    for several.
    """
    if not values:
        return None
    if len(values) == 1 and _KEY.fullmatch(values[0]):
        return values[0]
    raise InvalidParameter(
        "Expected one Idempotency-Key of 1 to 255 printable ASCII characters without spaces."
    )
