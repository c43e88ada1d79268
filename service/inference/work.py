"""What a request wants labelled, slices to read and where their answers go, and by whom."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.inference.contract import ModelContract
from service.stopping import StopSignal

Progress = Callable[[int, int], None]
"""Called with slices done and slices in all."""


class Loaded(Protocol):
    """A model as it runs here."""

    @property
    def contract(self) -> ModelContract: ...

    @property
    def sha256(self) -> str: ...

    @property
    def provider(self) -> str: ...

    @property
    def device(self) -> str: ...


@dataclass(frozen=True)
class Labelled:
    """Labels and tumour probability (255 is 1), both uint8 [slices, rows, columns]."""

    labels: NDArray[np.uint8]
    tumor_probability: NDArray[np.uint8]


@dataclass(frozen=True)
class Work:
    """The slices of one request, in the model's orientation.

    `read` gives a range of them as int16 Hounsfield units [slices, *shape], where `shape` is (rows,
    columns, context); `write` takes their answer. Both are called from the threads that run the
    model, at the same time for different slices, each slice once (after a failed batch, again).
    """

    slices: int
    shape: tuple[int, int, int]
    read: Callable[[slice], NDArray[np.int16]]
    write: Callable[[slice, Labelled], None]
    stop: StopSignal = field(default_factory=StopSignal)
    progress: Progress | None = None
    priority: int = 1
    """Lower ones come first."""
