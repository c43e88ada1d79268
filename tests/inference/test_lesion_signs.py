"""What is around a lesion, and its Hounsfield units; numbers follow from boxes of few voxels."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.inference import lesion_signs
from service.inference.contract import NO_LIMITS, LesionLimits
from service.inference.lesion_signs import LesionSigns, ring_px
from service.inference.postprocess import components
from service.volume import TUMOR_LABEL

CROSS = (1, 1)
"""The smallest ring: the four neighbours of a pixel, so 2a + 2b of a box of a x b."""

ROUND = (2, 2)
"""The ellipse of 5 x 5 is three rows of five between two single pixels: 4a + 4b + 8 of a box."""

Box = tuple[slice, ...]


def drawn(shape: tuple[int, int, int], liver: Box, *lesions: Box) -> tuple[np.ndarray, np.ndarray]:
    """Labels of a box of liver with lesions drawn over it, and the lesions' numbers from 1."""
    labels, numbers = np.zeros(shape, dtype=np.uint8), np.zeros(shape, dtype=np.uint16)
    labels[liver] = 1
    for number, lesion in enumerate(lesions, start=1):
        labels[lesion], numbers[lesion] = 2, number
    return labels, numbers


def signs_of(
    labels: np.ndarray,
    numbers: np.ndarray,
    hu: np.ndarray | None = None,
    ring: tuple[int, int] = CROSS,
) -> LesionSigns:
    """Without `hu` of 100 everywhere."""
    image = np.full(labels.shape, 100, dtype=np.int16) if hu is None else hu
    return LesionSigns.of(numbers, labels, image, int(numbers.max()), ring)


def image_of(labels: np.ndarray, outside: int, liver: int, lesion: int) -> np.ndarray:
    return np.array([outside, liver, lesion], dtype=np.int16)[labels]


DEEP = np.s_[1:3, 8:12, 7:11]
LIVER = np.s_[:, 4:20, 2:22]


@pytest.mark.parametrize("ring", [CROSS, ROUND, (1, 2), (4, 4)])
def test_deep_in_the_liver(ring: tuple[int, int]) -> None:
    """All of the ring is liver; its slices alone count: none lies above and below."""
    labels, numbers = drawn((4, 24, 24), LIVER, DEEP)
    labels[[0, 3]] = 0
    assert signs_of(labels, numbers, ring=ring).surrounded[1] == 1


@pytest.mark.parametrize(
    ("rows", "ring", "liver", "around"),
    [
        (slice(4, 8), CROSS, 12, 16),  # at the edge: the side above is outside
        (slice(4, 8), ROUND, 28, 40),  # rows of 8 and of 4 above are outside
        (slice(2, 6), CROSS, 8, 16),  # half of it bulges out
        (slice(2, 6), ROUND, 20, 40),
        (slice(0, 4), CROSS, 4, 16),  # outside, but it touches
        (slice(0, 4), ROUND, 12, 40),
    ],
)
def test_at_the_flat_edge(rows: slice, ring: tuple[int, int], liver: int, around: int) -> None:
    """Of 4 x 4 pixels, beside a liver that begins in row 4."""
    labels, numbers = drawn((1, 24, 24), LIVER, np.s_[:, rows, 8:12])
    assert signs_of(labels, numbers, ring=ring).surrounded[1] == liver / around


def test_slices_add_up() -> None:
    """A column that leaves the liver at half of its slices is half surrounded; with a wider slice
    inside, it is more: pixels count, not slices.
    """
    labels, numbers = drawn((4, 24, 24), np.s_[:2, 4:20, 2:22], np.s_[:, 10:12, 10:12])
    assert signs_of(labels, numbers).surrounded[1] == 0.5
    labels[0, 10:12, 10:18], numbers[0, 10:12, 10:18] = 2, 1
    assert signs_of(labels, numbers).surrounded[1] == (20 + 8) / (20 + 3 * 8)


def test_away_from_the_liver() -> None:
    """No part of its ring is liver, so that it has no contrast, which is not too little of it."""
    labels, numbers = drawn((1, 24, 24), LIVER, np.s_[:, 0:2, 0:2])
    signs = signs_of(labels, numbers)
    assert signs.surrounded[1] == 0
    assert math.isnan(signs.contrast_hu[1])
    assert not signs.unlikely(LesionLimits(contrast_hu=1000))[1]
    assert signs.unlikely(LesionLimits(surrounded=0.01))[1]


@pytest.mark.parametrize(("ring", "liver", "around"), [(CROSS, 8, 16), (ROUND, 18, 40)])
def test_in_the_corner_of_the_array(ring: tuple[int, int], liver: int, around: int) -> None:
    """What lies beyond is no liver: of the ring's 5 x 5 kernel, 8 pixels beside the lesion, 6 and 4
    below it are on the array. All four corners are alike.
    """
    for rows in (slice(0, 4), slice(8, 12)):
        for columns in (slice(0, 4), slice(9, 13)):
            labels, numbers = drawn((1, 12, 13), np.s_[:], np.s_[:, rows, columns])
            assert signs_of(labels, numbers, ring=ring).surrounded[1] == liver / around


@pytest.mark.parametrize(("ring", "surrounded"), [((1, 2), 4 / 6), ((2, 1), 2 / 10)])
def test_rows_and_columns_of_the_ring(ring: tuple[int, int], surrounded: float) -> None:
    """A row of liver, one pixel high: two pixels to each side of the lesion, or one.

    The kernel of 3 rows and 5 columns is a cross; that of 5 rows and 3 columns, three full rows
    between two single pixels.
    """
    labels, numbers = drawn((1, 9, 9), np.s_[:, 4, :], np.s_[:, 4, 4])
    assert signs_of(labels, numbers, ring=ring).surrounded[1] == surrounded


def test_mean_is_of_soft_tissue() -> None:
    """Gas counts as -40 HU, and metal as 160."""
    labels, numbers = drawn((1, 24, 24), LIVER, np.s_[:, 8, 8:12])
    hu = image_of(labels, -1000, 100, 50)
    hu[0, 8, 8:10] = -1000, 3000
    assert signs_of(labels, numbers, hu).mean_hu[1] == (-40 + 160 + 50 + 50) / 4


def test_contrast_is_to_the_liver_around() -> None:
    """Clipped too: of the ten pixels around one is metal. Neither the liver farther away counts
    nor what is no liver.
    """
    labels, numbers = drawn((1, 24, 24), LIVER, np.s_[:, 4, 8:12])
    hu = image_of(labels, -500, 20, 70)
    hu[0, 4, 7], hu[0, 4, 12], hu[0, 5, 8:12] = 3000, 100, 100
    signs = signs_of(labels, numbers, hu)
    assert signs.surrounded[1] == 0.6
    assert signs.contrast_hu[1] == (160 + 5 * 100) / 6 - 70


@pytest.mark.parametrize("lesion", [70, 130])
def test_brighter_lesions_differ_as_much(lesion: int) -> None:
    """30 HU from the liver around it, whichever way; a limit of just that keeps it."""
    labels, numbers = drawn((4, 24, 24), LIVER, DEEP)
    signs = signs_of(labels, numbers, image_of(labels, -100, 100, lesion))
    assert signs.contrast_hu[1] == 30
    assert not signs.unlikely(LesionLimits(contrast_hu=30))[1]
    assert signs.unlikely(LesionLimits(contrast_hu=30.5))[1]
    assert not signs.outside(LesionLimits(surrounded=1, contrast_hu=30.5))[1]


def test_liver_is_its_median() -> None:
    """Of all slices, without lesions and what is outside, clipped. Without any liver it is not a
    number, and no lesion is fluid.
    """
    labels, numbers = drawn((3, 3, 3), np.s_[:, 1, :], np.s_[1, 1, 1:3])
    hu = np.full((3, 3, 3), -1000, dtype=np.int16)
    hu[0, 1], hu[1, 1], hu[2, 1] = (20, 30, -900), (41, 0, 0), (3000, 90, 1000)
    assert signs_of(labels, numbers, hu).liver_hu == 41  # of -40, 20, 30, 41, 90, 160, 160
    hu[0, 1, 0] = 3000
    assert signs_of(labels, numbers, hu).liver_hu == 90
    hu[labels == 1] = 3000
    assert signs_of(labels, numbers, hu).liver_hu == 160
    labels[labels == 1] = 0
    signs = signs_of(labels, numbers, hu)
    assert math.isnan(signs.liver_hu)
    assert not signs.unlikely(LesionLimits(fluid_hu=1000))[1]


@pytest.mark.parametrize(
    ("liver", "lesion", "is_fluid"),
    [(51, 10, True), (50, 10, False), (100, 19, True), (100, 20, False), (20, 70, False)],
)
def test_fluid(liver: int, lesion: int, is_fluid: bool) -> None:
    """Under 20 HU, and more than 40 HU darker than the liver: a fatty liver's tumours are not."""
    labels, numbers = drawn((4, 24, 24), LIVER, DEEP)
    signs = signs_of(labels, numbers, image_of(labels, -100, liver, lesion))
    assert signs.unlikely(LesionLimits(fluid_hu=20))[1] == is_fluid
    assert not signs.outside(LesionLimits(fluid_hu=20))[1]


def test_a_limit_of_0_is_one() -> None:
    """Fat is under 0 HU, water is not."""
    labels, numbers = drawn((4, 24, 24), LIVER, DEEP)
    for lesion, is_fluid in ((-1, True), (0, False)):
        signs = signs_of(labels, numbers, image_of(labels, -100, 100, lesion))
        assert signs.unlikely(LesionLimits(fluid_hu=0))[1] == is_fluid


def test_fluid_is_darker_than_the_whole_liver() -> None:
    """Vessels around it make it no darker."""
    labels, numbers = drawn((4, 24, 24), LIVER, DEEP)
    hu = image_of(labels, -100, 50, 10)
    hu[:, 6:14, 5:13][labels[:, 6:14, 5:13] == 1] = 160
    signs = signs_of(labels, numbers, hu)
    assert signs.contrast_hu[1] == 150
    assert not signs.unlikely(LesionLimits(fluid_hu=20))[1]


@pytest.mark.parametrize(("columns", "is_large"), [(19, False), (20, True)])
def test_large_lesions(columns: int, is_large: bool) -> None:
    """From a tenth of the organ, lesions included, neither the surroundings nor fluid count against
    a lesion; too little contrast does.
    """
    labels, numbers = drawn((2, 10, 40), np.s_[:1, :5, :], np.s_[0, 0, :columns])
    assert (labels > 0).sum() == 200
    signs = signs_of(labels, numbers, image_of(labels, -100, 100, 0))
    assert signs.part[1] == columns / 200
    assert signs.surrounded[1] < 0.6
    assert signs.outside(LesionLimits(surrounded=0.6))[1] != is_large
    assert signs.unlikely(LesionLimits(surrounded=0.6))[1] != is_large
    assert signs.unlikely(LesionLimits(fluid_hu=20))[1] != is_large
    assert signs.unlikely(LesionLimits(contrast_hu=101))[1]
    assert not signs.outside(LesionLimits(contrast_hu=101))[1]


def test_limits_that_ask_nothing() -> None:
    """Whatever a lesion shows: away from the liver, fluid, or no different from it."""
    labels, numbers = drawn((1, 24, 24), LIVER, np.s_[:, :2, :2], np.s_[:, 8, 8], np.s_[:, 12, 8])
    hu = image_of(labels, -100, 100, -40)
    hu[numbers == 3] = 100
    signs = signs_of(labels, numbers, hu)
    assert not signs.unlikely(NO_LIMITS)[1:].any()
    assert not signs.outside(NO_LIMITS)[1:].any()
    limits = LesionLimits(surrounded=0.5, fluid_hu=20, contrast_hu=10)
    assert signs.unlikely(limits).tolist()[1:] == [True, True, True]
    assert signs.outside(limits).tolist()[1:] == [True, False, False]


def test_two_side_by_side() -> None:
    """What is another lesion is in no ring; a voxel in the rings of both counts for one of them:
    the two background pixels between them, of rings of eight.
    """
    labels, numbers = drawn((1, 24, 24), LIVER, np.s_[:, 8:10, 8:10], np.s_[:, 8:10, 11:13])
    signs = signs_of(labels, numbers, ring=ROUND)
    assert signs.surrounded[1:].tolist() == [1, 1]
    labels[0, 8:10, 10] = 0
    signs = signs_of(labels, numbers)
    assert sorted(signs.surrounded[1:]) == [6 / 8, 1]


def test_each_has_signs_of_its_own() -> None:
    """Numbers of lesions in other slices, and many of them, are not mixed up."""
    places = [np.s_[at, 8 : 8 + 2, 4 : 4 + width] for at, width in enumerate(range(1, 9))]
    labels, numbers = drawn((9, 24, 24), LIVER, *places)
    hu = image_of(labels, 0, 100, 0) + (10 * numbers).astype(np.int16)
    signs = signs_of(labels, numbers, hu)
    assert signs.mean_hu[1:].tolist() == [10 * number for number in range(1, 9)]
    assert signs.contrast_hu[1:].tolist() == [100 - 10 * number for number in range(1, 9)]
    assert np.allclose(signs.part[1:] * (labels > 0).sum(), [2 * width for width in range(1, 9)])


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "expected"),
    [
        ((9, 512, 512), (5, 0.8, 0.8), (5, 5)),
        ((9, 512, 512), (0.5, 1, 2), (4, 2)),
        ((9, 64, 64), (1, 2, 1), (2, 4)),
        ((9, 64, 64), (1, 10, 0.75), (1, 5)),
        ((1, 300, 512), None, (5, 5)),
        ((700, 512, 300), None, (5, 5)),
        ((1, 40, 30), None, (1, 1)),
    ],
)
def test_width_of_the_ring(
    shape: tuple[int, ...],
    spacing_mm: tuple[float, float, float] | None,
    expected: tuple[int, int],
) -> None:
    """4 mm in rows and in columns, else a hundredth of a slice's longer side; at least a pixel."""
    assert ring_px(shape, spacing_mm) == expected


@given(
    seed=st.integers(0, 2**32),
    slices=st.integers(1, 4),
    ring=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    filled=st.floats(0, 1),
)
@settings(max_examples=200, deadline=None)
def test_one_by_one(seed: int, slices: int, ring: tuple[int, int], filled: float) -> None:
    """Each lesion dilated alone, by the same kernel: lesions of any form whose rings never meet,
    up to the array's border, in liver with holes.
    """
    rng = np.random.default_rng(seed)
    numbers = np.zeros((slices, 12, 12), dtype=np.uint16)
    for number, (row, column) in enumerate(((0, 0), (0, 8), (8, 0), (8, 8)), start=1):
        cell = numbers[:, row : row + 4, column : column + 4]
        cell[rng.random(cell.shape) < 0.4] = number
        cell[rng.integers(slices), rng.integers(4), rng.integers(4)] = number
    liver = rng.random(numbers.shape) < filled
    labels = np.where(numbers > 0, 2, liver).astype(np.uint8)
    hu = rng.integers(-200, 300, numbers.shape).astype(np.int16)
    signs = LesionSigns.of(numbers, labels, hu, 4, ring)
    for number in range(1, 5):
        part, surrounded, mean_hu, contrast_hu = alone(numbers == number, labels, hu, ring)
        assert signs.part[number] == pytest.approx(part)
        assert signs.surrounded[number] == pytest.approx(surrounded)
        assert signs.mean_hu[number] == pytest.approx(mean_hu)
        assert signs.contrast_hu[number] == pytest.approx(contrast_hu, nan_ok=True)


def alone(
    lesion: np.ndarray, labels: np.ndarray, hu: np.ndarray, ring: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The signs of one lesion in the order of `LesionSigns`, on arrays with room for its ring."""
    rows, columns = ring
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * columns + 1, 2 * rows + 1))
    room = ((0, 0), (rows, rows), (columns, columns))
    lesion, labels, hu = (np.pad(each, room) for each in (lesion, labels, hu.clip(-40, 160)))
    grown = np.zeros_like(lesion)
    for step in np.argwhere(kernel) - (rows, columns):
        grown |= np.roll(lesion, step, axis=(1, 2))
    around = grown & (labels != 2)
    liver = around & (labels == 1)
    liver_hu = hu[liver].mean() if liver.any() else math.nan
    mean_hu = hu[lesion].mean()
    return (
        lesion.sum() / (labels > 0).sum(),
        liver.sum() / around.sum(),
        mean_hu,
        abs(liver_hu - mean_hu),
    )


def test_rings_are_bounded() -> None:
    """What they cost grows with the square of their width: at most 16 pixels, whatever is said."""
    assert ring_px((1, 512, 512), (1, 0.02, 0.3)) == (16, 13)
    assert ring_px((1, 8192, 8192), None) == (16, 16)


@pytest.mark.parametrize("rows", [1, 2, 7, 71])
def test_bands_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """A slice is looked at in bands of rows: lesions and rings go on over their edges, and a band
    may lie beyond the slice.
    """
    rng = np.random.default_rng(3)
    labels = (cv2.blur(rng.random((66, 46)), (5, 5)) > 0.5).astype(np.uint8)
    labels += (labels > 0) & (rng.random(labels.shape) > 0.7)
    labels[[0, -1], 20:23] = TUMOR_LABEL
    numbers, sizes = components(labels[None] == TUMOR_LABEL)
    hu = rng.integers(-100, 200, labels[None].shape).astype(np.int16)
    whole = LesionSigns.of(numbers, labels[None], hu, len(sizes) - 1, (4, 3))
    monkeypatch.setattr(lesion_signs, "_ROWS_AT_ONCE", rows)
    banded = LesionSigns.of(numbers, labels[None], hu, len(sizes) - 1, (4, 3))
    for field in ("part", "surrounded", "mean_hu", "contrast_hu"):
        assert np.array_equal(getattr(whole, field), getattr(banded, field), equal_nan=True)
    assert len(sizes) > 5
