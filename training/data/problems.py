"""What is wrong with a data set, all of it at once."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One bad case: `found` says what was expected of it and what was found."""

    case: str
    found: str

    def __str__(self) -> str:
        return f"{self.case}: {self.found}"


class BadDataset(ValueError):
    """A data set that cannot be trained on; names every bad case."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{len(self.problems)} problem(s) in the data:\n{lines}")
