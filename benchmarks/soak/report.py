"""What the process of the clients tells the one that started it: a JSON file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

LEFT = "left in the middle"
"""The kind of requests whose clients did not wait for an answer."""


@dataclass(frozen=True)
class Kind:
    """Requests of one kind; Locust rounds what takes 100 ms or more to two digits."""

    name: str
    count: int
    p50_ms: float
    p99_ms: float
    most_ms: float


@dataclass(frozen=True)
class Report:
    """One load, as its clients saw it."""

    began_s: float
    """By CLOCK_MONOTONIC, which all processes of a machine share."""

    ended_s: float
    """When the clients were told to finish."""

    kinds: tuple[Kind, ...]

    statuses: dict[str, int]
    """How often each status was answered; who left before an answer saw none."""

    rounds: dict[str, int]
    """How often each class of clients has done its work."""

    wrong: tuple[str, ...]

    @property
    def unanswered(self) -> int:
        """Requests whose clients did not wait for an answer."""
        return sum(kind.count for kind in self.kinds if kind.name.endswith(LEFT))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self:
        told = json.loads(path.read_text())
        told["kinds"] = tuple(Kind(**kind) for kind in told["kinds"])
        return cls(**told | {"wrong": tuple(told["wrong"])})
