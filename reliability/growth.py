"""What a process holds while it is under load, and whether that grows."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Self

from benchmarks.memory import resident_mb

LONG_S = 20 * 60
"""A load of more than that is held to a bound that follows from what the process holds."""

AT_S = 10 * 60
"""Where growth begins to count in a long load."""

WINDOW_S = 60
"""What is held at a moment is the median over so long before it, or one volume would decide."""

LONG_SHARE = 0.02
LONG_MB = 20
"""How much more memory a long load may end with: that share, and so much more."""

SHORT_MB = 64
"""How much more memory the last quarter of a shorter load may take than the second."""

GROWN_THREADS = 8
"""A pool's threads come and go with how many clients happen to be served at once. One lost in a
hundred requests would be 25 by the end of a minute."""

GROWN_FILES = 8
"""Of connections that happen to be open, and of what SQLite keeps open for its next connection."""


@dataclass(frozen=True)
class Footprint:
    """What a process holds."""

    resident_mb: float
    threads: float
    files: float

    @classmethod
    def of(cls, pid: int) -> Self:
        status = Path(f"/proc/{pid}/status").read_text()
        threads = int((re.search(r"^Threads:\s+(\d+)", status, re.MULTILINE) or [0, 0])[1])
        files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        return cls(resident_mb(pid, "VmRSS"), threads, files)

    @classmethod
    def typical(cls, several: Sequence[Self]) -> Self:
        """The median of each figure."""
        rows = ((item.resident_mb, item.threads, item.files) for item in several)
        return cls(*map(median, zip(*rows, strict=True)))


@dataclass(frozen=True)
class Growth:
    """Two moments of a load, and how much more memory may be held at the second one."""

    names: tuple[str, str]
    early: Footprint
    late: Footprint
    most_mb: float

    def wrong(self) -> Iterator[str]:
        """A sentence for each figure that grew too much."""
        most = {"resident_mb": self.most_mb, "threads": GROWN_THREADS, "files": GROWN_FILES}
        for name, bound in most.items():
            early, late = getattr(self.early, name), getattr(self.late, name)
            if late - early > bound:
                yield f"{name} grew from {early:.0f} to {late:.0f}, more than {bound:.0f}"


def growth(samples: Sequence[Footprint]) -> Growth:
    """Compare two moments of a load of which there is a sample for each second."""
    if len(samples) > LONG_S:
        early = Footprint.typical(samples[AT_S - WINDOW_S : AT_S])
        late = Footprint.typical(samples[-WINDOW_S:])
        most_mb = LONG_SHARE * early.resident_mb + LONG_MB
        return Growth(("10 minutes", "end"), early, late, most_mb)
    quarter = len(samples) // 4
    early = Footprint.typical(samples[quarter : 2 * quarter])
    late = Footprint.typical(samples[-quarter:])
    return Growth(("second quarter", "last quarter"), early, late, SHORT_MB)


def minutes_of(samples: Sequence[Footprint]) -> list[Footprint]:
    """What is typical of each whole minute; of a load that is shorter, of all of it."""
    whole = max(WINDOW_S, len(samples) // WINDOW_S * WINDOW_S)
    starts = range(0, whole, WINDOW_S)
    return [Footprint.typical(samples[start : start + WINDOW_S]) for start in starts]
