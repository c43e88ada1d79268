"""Slices of a case at their true distances, where a data set left some of them out.

A folder of slices need not hold all of a volume: away from the liver the numbers jump. Laid side by
side such slices would touch where they do not: a lesion would go on into one that lies five slices
further, and distances in mm would be too short. So three-dimensional metrics and rules see a volume
with empty slices in the gaps. What a network would have said there is not known; it counts as
nothing, like the reference, since every slice with liver is kept. Voxel metrics look at the slices
that there are.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from training.data import Case

T = TypeVar("T", bound=np.generic)


def slice_step(cases: Iterable[Case]) -> int:
    """How far the numbers of neighbouring slices lie apart in a data set; 1 where none does.

    It is one number for a whole data set, so that a case of which only every sixth slice is there
    is not taken for one of thick slices. Raises ValueError where it would tear most neighbours
    apart, since some cases hold every second slice and others every third; it names the fewer.
    """
    steps = {
        case.name: [after.index - before.index for before, after in pairwise(case.slices)]
        for case in cases
    }
    apart = Counter(chain.from_iterable(steps.values()))
    if not apart:
        return 1
    common, step = apart.most_common(1)[0][0], math.gcd(*apart)
    if 2 * apart[step] < apart.total():
        others = [name for name, own in steps.items() if any(one % common for one in own)]
        raise ValueError(
            f"expected slices of all cases in one step, found most of them {common} apart and "
            f"others not a multiple of that, in {', '.join(others)}"
        )
    return step


@dataclass(frozen=True)
class Stack:
    """Where the slices of a case lie in the whole volume: `positions` of `depth`, from 0."""

    positions: NDArray[np.intp]
    depth: int

    @classmethod
    def of(cls, case: Case, step: int) -> "Stack":
        """Raises ValueError where the case's slices are no multiple of the step apart."""
        numbers = np.array([item.index for item in case.slices], dtype=np.intp)
        offsets = numbers - numbers[0]
        if (offsets % step).any():
            raise ValueError(f"{case.name}: expected slices a multiple of {step} apart")
        positions = offsets // step
        return cls(positions, int(positions[-1]) + 1)

    @property
    def is_whole(self) -> bool:
        return self.depth == len(self.positions)

    def fill(self, slices: NDArray[T], value: int = 0) -> NDArray[T]:
        """The whole volume [depth, rows, columns], with `value` where no slice is."""
        if self.is_whole:
            return slices
        whole = np.full((self.depth, *slices.shape[1:]), value, dtype=slices.dtype)
        whole[self.positions] = slices
        return whole

    def take(self, whole: NDArray[T]) -> NDArray[T]:
        """The case's own slices out of the whole volume."""
        return whole if self.is_whole else whole[self.positions]
