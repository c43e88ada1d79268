"""Which lesions are found: connected components of a reference and a prediction, matched.

How they are matched, exactly: a predicted component that overlaps one reference lesion belongs to
it as a whole. One that overlaps several is shared out by voxels: those inside a lesion belong to
that lesion, every other voxel to the lesion whose shared voxels are nearest. A reference lesion's
IoU is taken with all voxels that belong to it. So fragments of one lesion count together; a blob
that rightly covers two lesions finds both, one that drowns two finds none, and a lesion that is
only touched is not found because its neighbour is. The LiTS challenge (Bilic et al., Medical Image
Analysis 84, 2023) wants such correspondences and leaves open how a merged blob is shared.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from service.boxes import Box, box_of
from service.inference.postprocess import components

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]

FOUND_IOU = 0.5
"""A lesion counts as found where its IoU is above this; 0 is reported beside it."""


@dataclass(frozen=True)
class Lesion:
    """One component. Of a reference lesion, `iou` is that with the prediction that belongs to it;
    of a predicted one it is the largest of the lesions that it overlaps, 0 where there is none.
    """

    voxels: int
    volume_mm3: float | None
    iou: float

    @property
    def dice(self) -> float:
        return 2 * self.iou / (1 + self.iou)


@dataclass(frozen=True)
class CaseLesions:
    """All lesions of one case, in the order in which the components are numbered."""

    reference: tuple[Lesion, ...]
    predicted: tuple[Lesion, ...]


@dataclass(frozen=True)
class Detection:
    """Lesions of any number of cases; None where there is nothing to divide by.

    `right` counts predicted components that overlap a found lesion, so it differs from `found`
    where a lesion was found in pieces or two as one.
    """

    reference: int
    found: int
    predicted: int
    right: int

    @property
    def precision(self) -> float | None:
        return self.right / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        return self.found / self.reference if self.reference else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean; 0 where lesions are on one side only, None where there are none at all."""
        if not self.reference and not self.predicted:
            return None
        precision, recall = self.precision or 0.0, self.recall or 0.0
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def detection(cases: Sequence[CaseLesions], iou_above: float = FOUND_IOU) -> Detection:
    """Count over all lesions of all cases."""
    reference = [lesion.iou for case in cases for lesion in case.reference]
    predicted = [lesion.iou for case in cases for lesion in case.predicted]
    return Detection(
        reference=len(reference),
        found=sum(iou > iou_above for iou in reference),
        predicted=len(predicted),
        right=sum(iou > iou_above for iou in predicted),
    )


def match_lesions(reference: Mask, prediction: Mask, spacing_mm: Spacing | None) -> CaseLesions:
    """The lesions of two masks [slice, row, column] and how they overlap; 26-connected.

    Without spacing (slice, row, column) volumes are None, and a merged blob is shared out by
    distances in voxels.
    """
    box = box_of(reference | prediction)
    if box is None:
        return CaseLesions((), ())
    expected, expected_sizes = components(reference[box])
    found, found_sizes = components(prediction[box])
    common = _common(expected, found)
    belongs = _belonging(expected, found, common, spacing_mm or (1.0, 1.0, 1.0))
    voxel_mm3 = None if spacing_mm is None else float(np.prod(spacing_mm))

    inside: Counter[int] = Counter()
    for (lesion, _), voxels in common.items():
        inside[lesion] += voxels
    iou = {
        lesion: voxels / (int(expected_sizes[lesion]) + belongs[lesion] - voxels)
        for lesion, voxels in inside.items()
    }
    best: dict[int, float] = {}
    for lesion, component in common:
        best[component] = max(best.get(component, 0.0), iou[lesion])
    return CaseLesions(
        _lesions(expected_sizes, iou, voxel_mm3), _lesions(found_sizes, best, voxel_mm3)
    )


def _lesions(
    sizes: NDArray[np.intp], iou: dict[int, float], voxel_mm3: float | None
) -> tuple[Lesion, ...]:
    return tuple(
        Lesion(voxels, None if voxel_mm3 is None else voxels * voxel_mm3, iou.get(number, 0.0))
        for number, voxels in enumerate(sizes[1:].tolist(), start=1)
    )


def _common(expected: NDArray[np.integer], found: NDArray[np.integer]) -> Counter[tuple[int, int]]:
    """Voxels that a reference lesion and a predicted component share, by their numbers."""
    both = (expected > 0) & (found > 0)
    pairs = np.stack([expected[both], found[both]], axis=1)
    numbers, voxels = np.unique(pairs, axis=0, return_counts=True)
    return Counter(
        {
            (int(lesion), int(component)): int(count)
            for (lesion, component), count in zip(numbers, voxels, strict=True)
        }
    )


def _belonging(
    expected: NDArray[np.integer],
    found: NDArray[np.integer],
    common: Counter[tuple[int, int]],
    sampling: Spacing,
) -> Counter[int]:
    """Predicted voxels that belong to each reference lesion."""
    overlapped: dict[int, list[int]] = {}
    for lesion, component in common:
        overlapped.setdefault(component, []).append(lesion)
    boxes: list[Box | None] = ndimage.find_objects(found)
    belongs: Counter[int] = Counter()
    for component, lesions in overlapped.items():
        box = boxes[component - 1]
        blob = found[box] == component
        if len(lesions) == 1:
            belongs[lesions[0]] += int(blob.sum())
        else:
            belongs.update(_shared_out(blob, expected[box], sampling))
    return belongs


def _shared_out(blob: Mask, expected: NDArray[np.integer], sampling: Spacing) -> Counter[int]:
    """The voxels of a blob by the nearest of the lesions that it overlaps."""
    inside = blob & (expected > 0)
    nearest = ndimage.distance_transform_edt(
        ~inside, sampling=sampling, return_distances=False, return_indices=True
    )
    owners = expected[tuple(nearest)][blob]
    numbers, voxels = np.unique(owners, return_counts=True)
    return Counter(dict(zip(numbers.tolist(), voxels.tolist(), strict=True)))
