"""The behaviour of the LiTS challenge's own scorer, for comparison with published tables only.

It differs from the challenge's paper, and published tables were made with it: lesions are
6-connected, the union of a lesion with its prediction is taken over the wrong numbers, lesions that
one blob joins count as one when found and as several when not, RVD is turned around, the liver's
distances count 9001 where they are not defined, and the tumours' are taken over detected lesions
only. Nothing else here uses this; see `lesions.py` for what is meant.
"""

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from service.boxes import box_of
from training.evaluation.metrics import overlap
from training.evaluation.surface import Spacing, SurfaceDistances, surface_distances

UNDEFINED = 9001.0
"""What stands for RVD and distances where one side is empty."""

Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class DetectedLesion:
    """A lesion, or several that a blob joins, beside the blobs given to it; no distances without a
    spacing.
    """

    voe: float
    rvd: float
    surface: SurfaceDistances | None


@dataclass(frozen=True)
class CodalabDetection:
    """Lesions of one case as the scorer counts them; `found` may be negative."""

    reference: int
    found: int
    predicted: int


def codalab_rvd(reference_voxels: int, predicted_voxels: int) -> float:
    """(reference - prediction) / prediction."""
    if not reference_voxels or not predicted_voxels:
        return UNDEFINED
    return (reference_voxels - predicted_voxels) / predicted_voxels


def codalab_detection(
    reference: Mask, prediction: Mask, iou_above: float = 0.5
) -> CodalabDetection:
    """Count the lesions of two masks [slice, row, column]."""
    _, _, counts = _tabled(reference, prediction)
    number, _ = _found(counts, iou_above)
    return CodalabDetection(len(counts) - 1, number, counts.shape[1] - 1)


def detected_lesions(
    reference: Mask, prediction: Mask, spacing_mm: Spacing | None
) -> tuple[DetectedLesion, ...]:
    """Measure the lesions that are detected at an IoU above 0.5, as the scorer takes it.

    Masks are [slice, row, column], as is the spacing.
    """
    box = box_of(reference | prediction)
    if box is None:
        return ()
    expected, found, counts = _tabled(reference[box], prediction[box])
    _, detected = _found(counts, 0.5)
    return tuple(
        _measured(np.isin(expected, rows), np.isin(found, blobs), spacing_mm)
        for rows, blobs in detected
    )


def _tabled(
    reference: Mask, prediction: Mask
) -> tuple[NDArray[np.integer], NDArray[np.integer], Counts]:
    """Both masks' components by number, and voxels [reference number, predicted number]."""
    expected, expected_count = _components(reference)
    found, found_count = _components(prediction)
    pairs = expected.astype(np.int64) * (found_count + 1) + found
    table = np.bincount(pairs.ravel(), minlength=(expected_count + 1) * (found_count + 1))
    return expected, found, table.reshape(expected_count + 1, found_count + 1)


def _measured(lesion: Mask, blobs: Mask, spacing_mm: Spacing | None) -> DetectedLesion:
    voxels = overlap(lesion, blobs)
    return DetectedLesion(
        voe=voxels.voe,
        rvd=codalab_rvd(voxels.reference_voxels, voxels.predicted_voxels),
        surface=surface_distances(lesion, blobs, spacing_mm),
    )


def _components(mask: Mask) -> tuple[NDArray[np.integer], int]:
    numbers, count = cc3d.connected_components(mask.view(np.uint8), connectivity=6, return_N=True)
    return numbers, int(count)


def _found(counts: Counts, iou_above: float) -> tuple[int, list[tuple[list[int], list[int]]]]:
    """How many lesions count as found, and the numbers of lesions and blobs of each that is.

    `counts`: voxels [reference number, predicted number], 0 the background of each.
    """
    touching = [int(p) for p in np.flatnonzero(counts[1:].any(axis=0)) if p]
    lesion_of, joined = _join_lesions(counts, touching)
    blob_of = _assign_blobs(counts, touching, lesion_of)

    # Each lesion that has blobs starts as one found, however many lesions were joined into it.
    matched = list(dict.fromkeys(blob_of.values()))
    found, detected = len(matched), []
    numbers = np.arange(counts.shape[1])
    relabelled = np.array([blob_of.get(int(p), 0) for p in numbers])
    for lesion in matched:
        blobs = [p for p in touching if blob_of[p] == lesion]
        rows = [g for g, first in lesion_of.items() if first == lesion]
        # The blobs were given the lesion's number; the scorer looks for that of the first blob.
        in_union = np.zeros(counts.shape, dtype=bool)
        in_union[:, relabelled == blobs[0]] = True
        in_union[rows] = True
        common = counts[np.ix_(rows, blobs)].sum()
        if common / counts[in_union].sum() <= iou_above:
            found -= joined[lesion]
            relabelled[relabelled == lesion] = 0
        else:
            detected.append((rows, blobs))
    return found, detected


def _join_lesions(counts: Counts, touching: list[int]) -> tuple[dict[int, int], dict[int, int]]:
    """The number that each lesion ends under, and how many lesions a number stands for.

    Lesions are joined by the blob that overlaps them most, the first of equal ones.
    """
    lesion_of = {g: g for g in range(1, len(counts))}
    joined = dict.fromkeys(lesion_of, 1)
    for blob in touching:
        mine = []
        for number in sorted(set(lesion_of.values())):
            rows = [g for g, first in lesion_of.items() if first == number]
            by_blob = counts[rows][:, touching].sum(axis=0)
            if by_blob.any() and touching[int(by_blob.argmax())] == blob:
                mine.append(number)
        for number in mine:
            joined[number] = len(mine)
        lesion_of = {g: mine[0] if first in mine else first for g, first in lesion_of.items()}
    return lesion_of, joined


def _assign_blobs(counts: Counts, touching: list[int], lesion_of: dict[int, int]) -> dict[int, int]:
    """The lesion that each blob overlaps most, the first of equal ones."""
    numbers = sorted(set(lesion_of.values()))
    assigned = {}
    for blob in touching:
        shared = [
            sum(int(counts[g, blob]) for g, first in lesion_of.items() if first == number)
            for number in numbers
        ]
        assigned[blob] = numbers[int(np.argmax(shared))]
    return assigned
