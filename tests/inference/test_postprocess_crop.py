"""The rules work on crops; what they give is what the plain rules give on everything."""

from functools import partial

import cc3d
import cv2
import edt
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.inference.contract import LesionLimits
from service.inference.lesion_signs import LesionSigns, ring_px
from service.inference.postprocess import Grid, Removal, Rules, components, postprocess

SPACINGS_MM = ((2.5, 1.0, 1.0), (5.0, 0.7, 0.7), (1.0, 1.0, 1.0), (0.5, 5.0, 2.0), (3.0, 0.8, 0.9))
"""Some of them put voxels at 5 mm exactly, where the rule's bound lies."""


LIMITS = LesionLimits(surrounded=0.4, fluid_hu=30, contrast_hu=15)


def plain(
    labels: np.ndarray, grid: Grid, hu: np.ndarray
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The four rules over the whole array, with (components, voxels) that each removed."""
    counts = []
    unlikely = partial(plain_unlikely, hu=hu)
    for rule in (plain_fragments, plain_distant, plain_small, unlikely):
        cleaned, components = rule(labels, grid)
        counts.append((components, int((cleaned != labels).sum())))
        labels = cleaned
    return labels, counts


def found(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    numbers = cc3d.connected_components(mask.astype(np.uint8), connectivity=26)
    return numbers, cc3d.statistics(numbers)["voxel_counts"]


def plain_fragments(labels: np.ndarray, grid: Grid) -> tuple[np.ndarray, int]:
    numbers, sizes = found(labels >= 1)
    largest = sizes[1:].max(initial=0)
    too_small = largest * np.prod(grid.spacing_mm) < 1000
    dropped = np.full(len(sizes), True) if too_small else sizes < 0.05 * largest
    dropped[0] = False
    return np.where(dropped[numbers], 0, labels), int(dropped.sum())


def plain_distant(labels: np.ndarray, grid: Grid) -> tuple[np.ndarray, int]:
    numbers, sizes = found(labels == 2)
    if not (labels == 1).any():
        return labels, 0
    distance_mm = edt.edt(~filled(labels == 1), anisotropy=grid.spacing_mm, black_border=False)
    nearest = [distance_mm[numbers == number].min() for number in range(1, len(sizes))]
    dropped = np.array([False, *(value > 5 for value in nearest)])
    return np.where(dropped[numbers], 0, labels), int(dropped.sum())


def plain_small(labels: np.ndarray, grid: Grid) -> tuple[np.ndarray, int]:
    numbers, sizes = found(labels == 2)
    dropped = sizes < grid.min_lesion_voxels
    dropped[0] = False
    padded = np.pad(labels == 1, 1)
    near = np.zeros(labels.shape, dtype=bool)
    for step in np.ndindex(3, 3, 3):
        near |= padded[tuple(slice(at, at + n) for at, n in zip(step, labels.shape, strict=True))]
    touching = np.isin(np.arange(len(sizes)), numbers[near])
    becomes = touching[numbers].astype(np.uint8)
    return np.where(dropped[numbers], becomes, labels), int(dropped.sum())


def plain_unlikely(labels: np.ndarray, grid: Grid, hu: np.ndarray) -> tuple[np.ndarray, int]:
    numbers, sizes = found(labels == 2)
    width = ring_px(labels.shape, grid.spacing_mm)
    signs = LesionSigns.of(numbers, labels, hu, len(sizes) - 1, width)
    outside = (signs.surrounded < 0.4) & (signs.part < 0.1)
    fluid = (signs.mean_hu < 30) & (signs.liver_hu - signs.mean_hu > 40) & (signs.part < 0.1)
    dropped = outside | fluid | (signs.contrast_hu < 15)
    dropped[0] = False
    becomes = np.where(outside, 0, 1).astype(np.uint8)[numbers]
    return np.where(dropped[numbers], becomes, labels), int(dropped.sum())


def filled(mask: np.ndarray) -> np.ndarray:
    planes = np.zeros(mask.shape, dtype=np.uint8)
    for plane, target in zip(mask.astype(np.uint8), planes, strict=True):
        outlines, _ = cv2.findContours(plane, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(target, outlines, -1, 1, cv2.FILLED)
    return planes.astype(bool)


def drawn(seed: int, shape: tuple[int, int, int], bodies: int, specks: int) -> np.ndarray:
    """Boxes of background, liver and tumour over each other, some at the border, and specks."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.uint8)
    for label in rng.choice([0, 1, 1, 1, 2, 2], bodies):
        starts = [int(rng.integers(length)) for length in shape]
        sides = [int(rng.integers(1, max(2, length // 2))) for length in shape]
        labels[tuple(slice(at, at + n) for at, n in zip(starts, sides, strict=True))] = label
    places = tuple(rng.integers(length, size=specks) for length in shape)
    labels[places] = rng.integers(3, size=specks)
    return labels


def drawn_hu(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Cubes of four voxels, each of one value: means of lesions differ, some from the liver's."""
    cubes = np.random.default_rng(seed).integers(-60, 180, [-(-length // 4) for length in shape])
    for axis in range(3):
        cubes = cubes.repeat(4, axis)
    return cubes[tuple(slice(length) for length in shape)].astype(np.int16)


@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(5, 16), st.integers(1, 48), st.integers(1, 48)),
    bodies=st.integers(0, 12),
    specks=st.integers(0, 60),
    spacing_mm=st.one_of(st.sampled_from(SPACINGS_MM), st.tuples(*[st.floats(0.3, 6)] * 3)),
)
@example(seed=0, shape=(16, 48, 48), bodies=0, specks=2000, spacing_mm=(1.0, 1.0, 1.0))
@settings(max_examples=300, deadline=None)
def test_crops_change_nothing(
    seed: int,
    shape: tuple[int, int, int],
    bodies: int,
    specks: int,
    spacing_mm: tuple[float, float, float],
) -> None:
    """Labels and counts are those of the plain rules over the whole array."""
    labels = drawn(seed, shape, bodies, specks)
    hu = drawn_hu(seed, shape)
    given_labels = labels.copy()
    grid = Grid(spacing_mm, min_lesion_mm3=30, min_lesion_px=10, lesion_limits=LIMITS)
    cleaned, removals = postprocess(labels, grid, Rules(), hu)
    expected, counts = plain(labels, grid, hu)
    assert np.array_equal(cleaned, expected)
    assert [(removal.components, removal.voxels) for removal in removals] == counts
    assert np.array_equal(labels, given_labels)


@pytest.mark.parametrize("gap", range(1, 12))
def test_reach_of_the_crop(gap: int) -> None:
    """A lesion beside a distant liver is measured to it, in each direction, up to the bound."""
    for axis in range(3):
        labels = np.zeros((30, 30, 30), dtype=np.uint8)
        labels[5:15, 5:15, 5:15] = 1
        place = [slice(8, 12)] * 3
        place[axis] = slice(14 + gap, 15 + gap)
        labels[tuple(place)] = 2
        grid = Grid((0.5, 0.5, 0.5), min_lesion_mm3=0, min_lesion_px=0)
        _, removals = postprocess(labels, grid, Rules(liver_fragments=False))
        far = gap * 0.5 > 5
        assert removals[1] == Removal("distant_tumor", True, None, int(far), 16 * far)


def test_densest_components() -> None:
    """Every second voxel of a small crop is a component of its own."""
    for shape in ((1, 1, 3), (1, 3, 3), (3, 3, 3), (5, 7, 5)):
        mask = np.zeros(shape, dtype=bool)
        mask[::2, ::2, ::2] = True
        _, sizes = components(mask)
        assert sizes[1:].tolist() == [1] * int(mask.sum())
