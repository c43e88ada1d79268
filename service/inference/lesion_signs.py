"""What tells a lesion from what only looks like one: what is around it, and its Hounsfield units.

A gallbladder or a loop of bowel is not surrounded by liver; a cyst holds fluid; noise in a dark
liver does not differ from what is around it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from service.inference.contract import LesionLimits
from service.volume import LIVER_LABEL

RING_MM = 4.0
"""How far around a lesion, in its slices, is looked at."""

RING_PART = 0.01
"""The same as a part of a slice's longer side, where the spacing is not known."""

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

        What lies beyond the arrays is no liver. A voxel in the rings of two lesions counts for one.
        """
        voxels, hu_sum, ring, liver_ring, liver_sum = np.zeros((5, count + 1))
        organ = 0
        (rows_px, columns_px), lowest = ring_px, SOFT_TISSUE_HU[0]
        shape = (2 * columns_px + 1, 2 * rows_px + 1)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, shape)
        levels = np.zeros(SOFT_TISSUE_HU[1] - lowest + 1, dtype=np.int64)
        margin = ((rows_px, rows_px), (columns_px, columns_px))
        for own, found, image in zip(numbers, labels, hu, strict=True):
            clipped = np.clip(image, *SOFT_TISSUE_HU)
            organ += int(np.count_nonzero(found))
            levels += np.bincount(clipped[found == LIVER_LABEL] - lowest, minlength=len(levels))
            if not own.any():
                continue
            is_lesion = own > 0
            voxels += _sums(own[is_lesion], count)
            hu_sum += _sums(own[is_lesion], count, clipped[is_lesion])
            # Float32 holds every number up to 16 million, and OpenCV dilates it.
            owner = cv2.dilate(np.pad(own.astype(np.float32), margin), kernel).astype(np.intp)
            around = (owner > 0) & ~np.pad(is_lesion, margin)
            ring += _sums(owner[around], count)
            of_liver = around & (np.pad(found, margin) == LIVER_LABEL)
            liver_ring += _sums(owner[of_liver], count)
            liver_sum += _sums(owner[of_liver], count, np.pad(clipped, margin)[of_liver])
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
    """Rows and columns that a ring is wide in slices of this shape, at least 1."""
    if spacing_mm is None:
        width = max(1, round(RING_PART * max(shape[-2:])))
        return width, width
    rows, columns = (max(1, round(RING_MM / step_mm)) for step_mm in spacing_mm[1:])
    return rows, columns


def _sums(
    numbers: NDArray[np.integer], count: int, values: NDArray[np.int16] | None = None
) -> Counts:
    """How often each number occurs, or the sum of the values beside it, [count + 1]."""
    return np.bincount(numbers, values, minlength=count + 1).astype(np.float64)


def _median(levels: NDArray[np.int64]) -> float:
    """Of a histogram of whole numbers from 0; NaN of an empty one."""
    total = int(levels.sum())
    return float(np.searchsorted(levels.cumsum(), (total + 1) // 2)) if total else float("nan")
