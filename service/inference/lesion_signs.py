"""What tells a lesion from what only looks like one: what is around it, and its Hounsfield units.

A gallbladder or a loop of bowel is not surrounded by liver; a cyst holds fluid; noise in a dark
liver does not differ from what is around it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from service.boxes import box_of
from service.inference.contract import LesionLimits
from service.volume import LIVER_LABEL

RING_MM = 4.0
"""How far around a lesion, in its slices, is looked at."""

RING_PART = 0.01
"""The same as a part of a slice's longer side, where the spacing is not known."""

MOST_RING_PX = 16
"""What a ring costs grows with the square of its width, and pixels may be said to be tiny."""

_ROWS_AT_ONCE = 1024
"""Bounds the memory of a large image."""

SOFT_TISSUE_HU = (-40, 160)
"""Values beyond are taken for these: gas, bone and metal would count for more than the lesion."""

LARGE_PART = 0.1
"""A lesion that takes this part of the organ or more need not be surrounded by liver, of which
there may be little left, and may hold fluid: large tumours die from within.
"""

FLUID_CONTRAST_HU = 40.0
"""What is to be fluid is darker than the liver by more than this: in a fatty liver tumours have few
Hounsfield units, too.
"""

Counts = NDArray[np.float64]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class LesionSigns:
    """Of each component by its number; 0 is the background and has none that mean anything.

    `part`: of the organ's voxels, lesions included; `surrounded`: part of its ring that is liver
    and no lesion; `mean_hu`: of the lesion; `contrast_hu`: how far its mean is from that of the
    liver in its ring, 0 or more, NaN where there is none; `liver_hu`: the median of the whole liver
    without lesions, NaN without any.
    """

    part: Counts
    surrounded: Counts
    mean_hu: Counts
    contrast_hu: Counts
    liver_hu: float

    @classmethod
    def of(
        cls,
        numbers: NDArray[np.integer],
        labels: NDArray[np.uint8],
        hu: NDArray[np.int16],
        count: int,
        ring_px: tuple[int, int],
    ) -> "LesionSigns":
        """`numbers` (components from 1 to `count`), `labels` and `hu`: all [slice, row, column].

        What lies beyond the arrays is no liver. A voxel in the rings of two lesions counts for one,
        the later.
        """
        sums = np.zeros((5, count + 1))
        organ, lowest = 0, SOFT_TISSUE_HU[0]
        levels = np.zeros(SOFT_TISSUE_HU[1] - lowest + 1, dtype=np.int64)
        for own, found, image in zip(numbers, labels, hu, strict=True):
            organ += int(np.count_nonzero(found))
            liver = np.clip(image[found == LIVER_LABEL], *SOFT_TISSUE_HU)
            levels += np.bincount(liver - lowest, minlength=len(levels))
            for band in _bands(own, ring_px):
                _add(sums, own, found, image, band, ring_px)
        voxels, hu_sum, ring, liver_ring, liver_sum = sums
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: nothing is there
            mean_hu = hu_sum / voxels
            contrast_hu = np.abs(liver_sum / liver_ring - mean_hu)
        return cls(
            voxels / max(organ, 1),
            liver_ring / np.maximum(ring, 1),
            mean_hu,
            contrast_hu,
            _median(levels) + lowest,
        )

    def outside(self, limits: LesionLimits) -> NDArray[np.bool_]:
        """Which components are too little surrounded by liver to be part of it."""
        return np.asarray((self.surrounded < limits.surrounded) & (self.part < LARGE_PART))

    def unlikely(self, limits: LesionLimits) -> NDArray[np.bool_]:
        """Which components a contract's limits take for no lesion."""
        found = self.outside(limits) | (self.contrast_hu < limits.contrast_hu)
        if limits.fluid_hu is not None:
            is_darker = self.liver_hu - self.mean_hu > FLUID_CONTRAST_HU
            found |= is_darker & (self.mean_hu < limits.fluid_hu) & (self.part < LARGE_PART)
        return np.asarray(found)


def ring_px(
    shape: tuple[int, ...], spacing_mm: tuple[float, float, float] | None
) -> tuple[int, int]:
    """Rows and columns that a ring is wide in slices of this shape, 1 to 16."""
    if spacing_mm is None:
        wide = round(RING_PART * max(shape[-2:]))
        return _within(wide), _within(wide)
    rows, columns = (_within(round(RING_MM / step_mm)) for step_mm in spacing_mm[1:])
    return rows, columns


def _within(pixels: int) -> int:
    return min(max(1, pixels), MOST_RING_PX)


Band = tuple[slice, slice]
"""Rows and columns of a slice, which may reach beyond it."""


def _bands(numbers: NDArray[np.integer], ring_px: tuple[int, int]) -> Iterator[Band]:
    """A slice's lesions with their rings, some rows after the other."""
    box = box_of(numbers[None] > 0)
    if box is None:
        return
    _, rows, columns = box
    last = rows.stop + ring_px[0]
    for top in range(rows.start - ring_px[0], last, _ROWS_AT_ONCE):
        yield (
            slice(top, min(top + _ROWS_AT_ONCE, last)),
            slice(columns.start - ring_px[1], columns.stop + ring_px[1]),
        )


def _cut(plane: NDArray[T], band: Band) -> NDArray[T]:
    """The band of [row, column], 0 where it reaches beyond."""
    inside = tuple(
        slice(max(0, one.start), max(0, min(size, one.stop)))
        for one, size in zip(band, plane.shape, strict=True)
    )
    beyond = [
        (max(0, min(0, one.stop) - one.start), max(0, one.stop - max(size, one.start)))
        for one, size in zip(band, plane.shape, strict=True)
    ]
    return np.pad(plane[inside], beyond)


def _add(
    sums: Counts,
    numbers: NDArray[np.integer],
    labels: NDArray[np.uint8],
    hu: NDArray[np.int16],
    band: Band,
    ring_px: tuple[int, int],
) -> None:
    """Count what a band of a slice [row, column] holds of each component: voxels and the sum of
    their HU; voxels of its ring, and of the liver in it with the sum of their HU.
    """
    rows, columns = band
    shape = (2 * ring_px[1] + 1, 2 * ring_px[0] + 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, shape)
    around_it = slice(rows.start - ring_px[0], rows.stop + ring_px[0])
    near = _cut(numbers, (around_it, columns)).astype(np.float32)  # exact up to 16 million
    owner = cv2.dilate(near, kernel)[ring_px[0] : len(near) - ring_px[0]]
    own, found = _cut(numbers, band), _cut(labels, band)
    image = np.clip(_cut(hu, band), *SOFT_TISSUE_HU)
    is_lesion = own > 0
    around = (owner > 0) & ~is_lesion
    of_liver = around & (found == LIVER_LABEL)
    for row, where, by, values in (
        (0, is_lesion, own, None),
        (1, is_lesion, own, image),
        (2, around, owner, None),
        (3, of_liver, owner, None),
        (4, of_liver, owner, image),
    ):
        chosen = None if values is None else values[where]
        counted = np.bincount(by[where].astype(np.intp), chosen)
        sums[row, : len(counted)] += counted


def _median(levels: NDArray[np.int64]) -> float:
    """Of a histogram of whole numbers from 0; NaN of an empty one."""
    total = int(levels.sum())
    return float(np.searchsorted(levels.cumsum(), (total + 1) // 2)) if total else float("nan")
