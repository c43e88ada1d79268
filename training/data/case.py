"""A data set: cases with the slices that have labels."""

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.notices import Notice
from service.volume import LIVER_LABEL, TUMOR_LABEL, HounsfieldWindow

LABELS = (0, LIVER_LABEL, TUMOR_LABEL)
"""All that a label map may hold: background, liver, tumour."""


class Pixels(Protocol):
    """The slices of one case, as the service's model sees them: rows to the back, columns to the
    patient's left.
    """

    def hu(self, index: int) -> NDArray[np.int16]:
        """Hounsfield units [rows, columns] of the slice of this number."""
        ...

    def labels(self, index: int) -> NDArray[np.uint8]:
        """Labels [rows, columns] of the slice of this number."""
        ...


@dataclass(frozen=True)
class LabelledSlice:
    """One slice of a case; `index` is its number in the source, `liver_px` counts tumour too."""

    case: str
    index: int
    liver_px: int
    tumor_px: int
    pixels: Pixels

    def hu(self) -> NDArray[np.int16]:
        """Hounsfield units [rows, columns]."""
        return self.pixels.hu(self.index)

    def labels(self) -> NDArray[np.uint8]:
        """0 background, 1 liver, 2 tumour, [rows, columns]."""
        return self.pixels.labels(self.index)


@dataclass(frozen=True)
class Case:
    """One volume, or those of its slices that the data set holds, in ascending number.

    `spacing_mm` is (slice, row, column), None where the source does not say all of it; `split` is
    what the source suggests; `notices` are the decoder's about the image.
    """

    name: str
    slices: tuple[LabelledSlice, ...]
    sha256: str
    spacing_mm: tuple[float, float, float] | None = None
    split: str | None = None
    notices: tuple[Notice, ...] = ()

    @cached_property
    def liver_px(self) -> int:
        return sum(item.liver_px for item in self.slices)

    @cached_property
    def tumor_px(self) -> int:
        return sum(item.tumor_px for item in self.slices)

    def hu(self) -> NDArray[np.int16]:
        """All slices, [slices, rows, columns]."""
        return np.stack([item.hu() for item in self.slices])

    def labels(self) -> NDArray[np.uint8]:
        """All slices, [slices, rows, columns]."""
        return np.stack([item.labels() for item in self.slices])


@dataclass(frozen=True)
class Dataset:
    """Cases with different names; `window` is what their images were clipped to, if at all."""

    cases: tuple[Case, ...]
    window: HounsfieldWindow | None = None

    @property
    def slices(self) -> list[LabelledSlice]:
        return [item for case in self.cases for item in case.slices]

    @property
    def sha256(self) -> str:
        """Of all that the cases hold, whatever their order."""
        text = "\n".join(sorted(f"{case.name} {case.sha256}" for case in self.cases))
        return hashlib.sha256(text.encode()).hexdigest()

    def only(self, names: Collection[str]) -> "Dataset":
        """These cases. Raises ValueError for a name that there is not."""
        unknown = set(names) - {case.name for case in self.cases}
        if unknown:
            raise ValueError(f"expected names of cases, found {', '.join(sorted(unknown))}")
        return self.with_cases(case for case in self.cases if case.name in names)

    def without(self, names: Collection[str]) -> "Dataset":
        """The others. Raises ValueError for a name that there is not."""
        left = {case.name for case in self.only(names).cases}
        return self.with_cases(case for case in self.cases if case.name not in left)

    def split(self, split: str) -> "Dataset":
        """The cases of one suggested split. Raises ValueError where there are none."""
        cases = tuple(case for case in self.cases if case.split == split)
        if not cases:
            known = ", ".join(sorted({case.split for case in self.cases if case.split})) or "none"
            raise ValueError(f"no case of split {split}; the data set has {known}")
        return self.with_cases(cases)

    def without_split(self, split: str) -> "Dataset":
        """The cases of every other split."""
        return self.with_cases(case for case in self.cases if case.split != split)

    def check_window(self, window: HounsfieldWindow) -> None:
        """Raises ValueError for a network's window that shows more than the images hold."""
        own = self.window
        if own and (window.lower_hu < own.lower_hu or window.upper_hu > own.upper_hu):
            raise ValueError(
                f"expected a window within {own.lower_hu:g} to {own.upper_hu:g} HU, which is all "
                f"that these images hold, found {window.lower_hu:g} to {window.upper_hu:g}"
            )

    def with_cases(self, cases: Iterable[Case]) -> "Dataset":
        """The same source, other cases."""
        return replace(self, cases=tuple(cases))


def same_name(name: str) -> str:
    """Equal for names that differ in leading zeros and capitals: `volume-007` and `Volume-7`."""
    return re.sub(r"0*(\d+)", r"\1", name).casefold()


def counted(labels: NDArray[np.uint8]) -> tuple[int, int]:
    """Pixels of liver with tumour, and of tumour."""
    return int(np.count_nonzero(labels)), int(np.count_nonzero(labels == TUMOR_LABEL))


def wrong_labels(values: Iterable[float]) -> str | None:
    """What is wrong with the values of a label map; None if nothing is."""
    others = sorted(set(values) - set(LABELS))
    if not others:
        return None
    shown = ", ".join(f"{value:g}" for value in others[:8])
    return f"expected the labels 0 background, 1 liver, 2 tumour, found also {shown}"
