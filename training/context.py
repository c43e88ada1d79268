"""What a network sees at once: the slice that it labels, between neighbours where it takes any."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.config import TrainingConfig
from training.data import Case, LabelledSlice


class Surroundings:
    """The slices of a data set, to be found by case and number."""

    def __init__(self, slices: Sequence[LabelledSlice]) -> None:
        self._by_number = {(item.case, item.index): item for item in slices}

    def of(self, item: LabelledSlice, context: int, step: int) -> NDArray[np.int16]:
        """Hounsfield units [rows, columns, context]: neighbours lie `step` numbers apart, the
        slice itself in the middle. It also stands for neighbours that the data set does not hold.
        """
        half = context // 2
        own = item.hu()
        planes = [
            own if offset == 0 else self._hu(item, offset * step, own)
            for offset in range(-half, half + 1)
        ]
        return np.stack(planes, axis=-1)

    def drawn(
        self, item: LabelledSlice, config: TrainingConfig, rng: np.random.Generator
    ) -> NDArray[np.int16]:
        """The same as a training sample: neighbours at a random distance, or the slice alone."""
        context, neighbours = config.network.context, config.neighbours
        if context == 1:
            return item.hu()[..., None]
        if rng.random() < neighbours.alone:
            return np.repeat(item.hu()[..., None], context, axis=-1)
        return self.of(item, context, int(rng.choice(neighbours.learning_steps)))

    def _hu(self, item: LabelledSlice, offset: int, own: NDArray[np.int16]) -> NDArray[np.int16]:
        neighbour = self._by_number.get((item.case, item.index + offset))
        return own if neighbour is None else neighbour.hu()


def case_as_seen(case: Case, config: TrainingConfig) -> NDArray[np.int16]:
    """Hounsfield units [slices, rows, columns, context] of all slices of a case."""
    context = config.network.context
    if context == 1:
        return case.hu()[..., None]
    around = Surroundings(case.slices)
    return np.stack([around.of(item, context, config.neighbours.step) for item in case.slices])


def is_alone(planes: NDArray[np.generic]) -> bool:
    """Whether a sample [rows, columns, context] shows one slice only."""
    return bool((planes == planes[..., :1]).all())
