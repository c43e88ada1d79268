"""Lesions matched by hand: whole, in pieces, joined, touched, missed, and what the scorer says."""

import itertools
from collections import defaultdict

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from training.evaluation.codalab import (
    CodalabDetection,
    DetectedLesion,
    codalab_detection,
    codalab_rvd,
    detected_lesions,
)
from training.evaluation.lesions import CaseLesions, Detection, detection, match_lesions

SPACING_MM = (2.0, 1.0, 0.5)


def row(*spans: tuple[int, int], length: int = 60) -> NDArray[np.bool_]:
    """Lesions along one row of voxels, as half-open spans."""
    found = np.zeros((1, 1, length), dtype=bool)
    for start, stop in spans:
        found[0, 0, start:stop] = True
    return found


def ious(lesions: CaseLesions) -> tuple[list[float], list[float]]:
    return [one.iou for one in lesions.reference], [one.iou for one in lesions.predicted]


def test_one_lesion_found() -> None:
    """Ten voxels against twelve, eight common: IoU 8 / 14, Dice 16 / 22, volumes in mm3."""
    found = match_lesions(row((0, 10)), row((2, 14)), SPACING_MM)
    assert ious(found) == ([pytest.approx(8 / 14)], [pytest.approx(8 / 14)])
    assert found.reference[0].dice == pytest.approx(16 / 22)
    assert (found.reference[0].volume_mm3, found.predicted[0].volume_mm3) == (10, 12)
    assert detection([found]) == Detection(reference=1, found=1, predicted=1, right=1)


def test_half_is_not_more_than_half() -> None:
    """An IoU of exactly 0.5 is not above it; it is above 0."""
    found = match_lesions(row((0, 10)), row((0, 5)), None)
    assert detection([found]).found == 0
    assert detection([found], 0.0) == Detection(1, 1, 1, 1)
    assert found.reference[0].volume_mm3 is None


def test_pieces_of_one_lesion_count_together() -> None:
    """Two fragments cover 4 and 4 of 10 voxels: IoU 0.8, both of them right."""
    found = match_lesions(row((0, 10)), row((0, 4), (6, 10)), None)
    assert ious(found) == ([0.8], [0.8, 0.8])
    assert detection([found]) == Detection(reference=1, found=1, predicted=2, right=2)


def test_right_merge_finds_both() -> None:
    """One blob over two lesions and the two voxels between them: 10 of 11 voxels each.

    The official scorer counts one found.
    """
    reference, prediction = row((0, 10), (12, 22)), row((0, 22))
    found = match_lesions(reference, prediction, None)
    assert ious(found) == ([pytest.approx(10 / 11)] * 2, [pytest.approx(10 / 11)])
    assert detection([found]) == Detection(reference=2, found=2, predicted=1, right=1)
    assert codalab_detection(reference, prediction) == CodalabDetection(2, 1, 1)
    (joined,) = detected_lesions(reference, prediction, None)
    assert joined == DetectedLesion(voe=pytest.approx(2 / 22), rvd=-2 / 22, surface=None)


def test_drowning_blob_finds_none() -> None:
    """One blob of 40 voxels over two lesions of 3: none found, not minus one as the scorer says."""
    reference, prediction = row((10, 13), (25, 28)), row((0, 40))
    found = match_lesions(reference, prediction, None)
    assert detection([found]) == Detection(reference=2, found=0, predicted=1, right=0)
    assert detection([found], 0.0) == Detection(reference=2, found=2, predicted=1, right=1)
    assert codalab_detection(reference, prediction).found == -1


def test_union_is_of_lesion_and_its_own_prediction() -> None:
    """An IoU of 0.25 is no find, though the scorer counts one.

    The blob is the second component and the lesion the first: the scorer gives the blob the
    lesion's number 1, looks for number 2, and takes the lesion alone for the union: 10 / 10.
    """
    reference, prediction = row((10, 20)), row((8, 9), (10, 50))
    found = match_lesions(reference, prediction, None)
    assert ious(found) == ([pytest.approx(10 / 40)], [0, pytest.approx(10 / 40)])
    assert detection([found]) == Detection(reference=1, found=0, predicted=2, right=0)
    assert codalab_detection(reference, prediction).found == 1


def test_touched_lesion_is_not_found_because_its_neighbour_is() -> None:
    """A blob that is right for one lesion reaches one voxel into another."""
    found = match_lesions(row((0, 10), (12, 22)), row((0, 13)), None)
    first, second = ious(found)[0]
    # Of voxels 10 and 11 between them one is nearer to each lesion.
    assert (first, second) == (pytest.approx(10 / 11), pytest.approx(1 / 11))
    assert detection([found]) == Detection(reference=2, found=1, predicted=1, right=1)


def test_between_two_lesions_the_nearest_counts_in_mm() -> None:
    """A blob in an L: 4 mm along slices are farther than 3 mm along columns, though fewer voxels.

    Lesions at (0, 0) and (2, 5) of slice and column; the blob joins them through (2, 0..5) and
    (1, 0). Voxel (2, 0) is 4 mm from the first (2 slices) and 2.5 mm from the second (5 columns).
    """
    reference = np.zeros((3, 1, 6), dtype=bool)
    reference[0, 0, 0] = reference[2, 0, 5] = True
    blob = np.zeros_like(reference)
    blob[:, 0, 0] = blob[2, 0, :] = True
    in_mm = match_lesions(reference, blob, SPACING_MM)
    assert ious(in_mm)[0] == [pytest.approx(1 / 2), pytest.approx(1 / 6)]
    in_voxels = match_lesions(reference, blob, None)
    assert ious(in_voxels)[0] == [pytest.approx(1 / 5), pytest.approx(1 / 3)]


def test_corners_connect_lesions() -> None:
    """Voxels that touch at a corner are one lesion (26-connected), for the scorer two."""
    reference = np.zeros((2, 2, 2), dtype=bool)
    reference[0, 0, 0] = reference[1, 1, 1] = True
    assert len(match_lesions(reference, reference, None).reference) == 1
    assert codalab_detection(reference, reference) == CodalabDetection(2, 2, 2)


def test_absent_lesions() -> None:
    """Missed, false and none at all: what cannot be divided is None, F1 is 0 with lesions on one
    side and None without any.
    """
    nothing, something = row(), row((0, 3))
    missed = detection([match_lesions(something, nothing, None)])
    assert missed == Detection(reference=1, found=0, predicted=0, right=0)
    assert (missed.precision, missed.recall, missed.f1) == (None, 0, 0)
    false = detection([match_lesions(nothing, something, None)])
    assert (false.precision, false.recall, false.f1) == (0, None, 0)
    none = detection([match_lesions(nothing, nothing, None)])
    assert (none.precision, none.recall, none.f1) == (None, None, None)


def test_detection_is_over_all_lesions_of_all_cases() -> None:
    """Three of four found with four of five components right: F1 of 0.75 and 0.8."""
    first = match_lesions(row((0, 4), (6, 9)), row((0, 4), (6, 9), (20, 25)), None)
    second = match_lesions(row((0, 10), (20, 30)), row((0, 4), (5, 10)), None)
    found = detection([first, second])
    assert found == Detection(reference=4, found=3, predicted=5, right=4)
    assert found.f1 == pytest.approx(2 * 0.75 * 0.8 / 1.55)


@pytest.mark.parametrize("seed", [0, 1, 4, 5, 6, 7, 10, 13])  # in the others two are equally near
def test_is_brute_force(seed: int) -> None:
    """The same as voxel by voxel with SciPy's components and every distance measured."""
    rng = np.random.default_rng(seed)
    shape = (4, 9, 9)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 0.8)
    other = smooth + 0.5 * ndimage.gaussian_filter(rng.normal(size=shape), 0.8)
    reference, prediction = smooth > 0.25, other > 0.2
    spacing_mm = (2.0317, 1.0, 1.4631)
    found = match_lesions(reference, prediction, spacing_mm)
    assert sorted(ious(found)[0]) == pytest.approx(
        sorted(_brute_force(reference, prediction, spacing_mm))
    )
    assert len(found.reference) > 1


def _brute_force(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing_mm: tuple[float, ...]
) -> list[float]:
    everywhere = np.ones((3, 3, 3))
    lesions, count = ndimage.label(reference, everywhere)
    blobs, blob_count = ndimage.label(prediction, everywhere)
    owned: dict[int, set[tuple[int, ...]]] = defaultdict(set)
    for number in range(1, blob_count + 1):
        voxels = [tuple(place) for place in np.argwhere(blobs == number)]
        shared = {place: int(lesions[place]) for place in voxels if lesions[place]}
        for place in voxels if shared else []:
            apart = {other: _apart(place, other, spacing_mm) for other in shared}
            nearest = {shared[other] for other in shared if apart[other] == min(apart.values())}
            assert len(nearest) == 1, "either answer would be right"
            owned[nearest.pop()].add(place)
    result = []
    for number in range(1, count + 1):
        own = {tuple(place) for place in np.argwhere(lesions == number)}
        result.append(len(own & owned[number]) / len(own | owned[number]))
    return result


def _apart(one: tuple[int, ...], other: tuple[int, ...], spacing_mm: tuple[float, ...]) -> float:
    moves = zip(one, other, spacing_mm, strict=True)
    return round(sum(((a - b) * step) ** 2 for a, b, step in moves), 9)


def test_scorer_measures_detected_lesions() -> None:
    """Of two lesions one is detected, 10 voxels by 12, of which 8 are common; the other is missed.

    Along one row of voxels of 0.5 mm every voxel is surface: the first ten are 2, 1, 0, 0 ... from
    the other's nearest, its twelve 0 ... 1, 2, 3, 4.
    """
    reference, prediction = row((0, 10), (30, 40)), row((2, 14))
    assert codalab_detection(reference, prediction) == CodalabDetection(2, 1, 1)
    (lesion,) = detected_lesions(reference, prediction, SPACING_MM)
    assert lesion.voe == pytest.approx(6 / 14)
    assert lesion.rvd == pytest.approx((10 - 12) / 12)
    assert lesion.surface is not None
    steps = [2, 1, *[0] * 8, *[0] * 8, 1, 2, 3, 4]
    assert lesion.surface.assd_mm == pytest.approx(0.5 * np.mean(steps))
    assert lesion.surface.mssd_mm == pytest.approx(0.5 * 4)


def test_scorer_turns_relative_difference_around() -> None:
    """The scorer's sign and divisor, and 9001 where a side is empty."""
    assert codalab_rvd(10, 5) == 1
    assert codalab_rvd(5, 10) == -0.5
    assert [codalab_rvd(*sizes) for sizes in itertools.product((0,), (0, 3))] == [9001, 9001]
    assert codalab_rvd(3, 0) == 9001
