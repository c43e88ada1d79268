"""Surface distances with voxels of 3 x 1 x 2 mm, by hand and by brute force."""

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from training.evaluation.surface import surface_distances

SPACING_MM = (3.0, 1.0, 2.0)


def box(*bounds: tuple[int, int], shape: tuple[int, int, int] = (8, 9, 10)) -> NDArray[np.bool_]:
    found = np.zeros(shape, dtype=bool)
    found[tuple(slice(*bound) for bound in bounds)] = True
    return found


def point(*index: int) -> NDArray[np.bool_]:
    return box(*((place, place + 1) for place in index))


@pytest.mark.parametrize(
    ("step", "expected_mm"), [((1, 0, 0), 3), ((0, 1, 0), 1), ((0, 0, 1), 2), ((1, 2, 1), 17**0.5)]
)
def test_two_voxels_are_their_distance_apart(
    step: tuple[int, int, int], expected_mm: float
) -> None:
    """Each axis counts with its own spacing."""
    other = tuple(4 + move for move in step)
    found = surface_distances(point(4, 4, 4), point(*other), SPACING_MM)
    assert found is not None
    # float32 distances inside the transform
    assert (found.assd_mm, found.mssd_mm, found.rmsd_mm) == pytest.approx((expected_mm,) * 3, 1e-6)


def test_both_directions_are_pooled() -> None:
    """One voxel against two, 0 and 4 mm away: distances 0 from the one, 0 and 4 from the two.

    A mean of the two directions' means would be (0 + 2) / 2 = 1 mm; pooled it is 4 / 3 mm.
    """
    one, two = point(4, 4, 4), point(4, 4, 4) | point(4, 4, 6)
    found = surface_distances(one, two, SPACING_MM)
    assert found is not None
    assert found.assd_mm == pytest.approx(4 / 3)
    assert found.mssd_mm == pytest.approx(4)
    assert found.rmsd_mm == pytest.approx(4 / math.sqrt(3))


def test_inner_voxels_have_no_distance() -> None:
    """A full cube against one without its centre: the centre's neighbours are surface in one.

    Only in the hollow cube the six face neighbours of the hole are surface too; they are in the
    cube's outer layer already, and so is everything else: all distances are 0.
    """
    full = box((2, 5), (2, 5), (2, 5))
    found = surface_distances(full, full & ~point(3, 3, 3), SPACING_MM)
    assert found is not None
    assert (found.assd_mm, found.mssd_mm, found.rmsd_mm) == (0, 0, 0)


@pytest.mark.parametrize("seed", range(6))
def test_is_brute_force(seed: int) -> None:
    """The same as comparing every surface voxel with every other, faces and borders included."""
    rng = np.random.default_rng(seed)
    first, second = (rng.random((5, 6, 7)) < part for part in (0.7, 0.4))
    found = surface_distances(first, second, SPACING_MM)
    distances = _nearest(first, second) + _nearest(second, first)
    assert found is not None
    assert found.assd_mm == pytest.approx(np.mean(distances), rel=1e-6)
    assert found.mssd_mm == pytest.approx(max(distances), rel=1e-6)
    assert found.rmsd_mm == pytest.approx(np.sqrt(np.mean(np.square(distances))), rel=1e-6)


def _nearest(from_mask: NDArray[np.bool_], to_mask: NDArray[np.bool_]) -> list[float]:
    to_surface = _surface(to_mask)
    return [min(_apart_mm(one, other) for other in to_surface) for one in _surface(from_mask)]


def _surface(mask: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    padded = np.pad(mask, 1)
    steps = [step for step in itertools.product((-1, 0, 1), repeat=3) if sum(map(abs, step)) == 1]
    return [
        tuple(place)
        for place in np.argwhere(mask).tolist()
        if not all(padded[tuple(np.add(place, step) + 1)] for step in steps)
    ]


def _apart_mm(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    return math.dist(np.multiply(one, SPACING_MM), np.multiply(other, SPACING_MM))


def test_is_not_defined_without_both_or_without_spacing() -> None:
    """None, not a number that stands for nothing."""
    something, nothing = point(1, 1, 1), np.zeros((8, 9, 10), dtype=bool)
    assert surface_distances(something, nothing, SPACING_MM) is None
    assert surface_distances(nothing, something, SPACING_MM) is None
    assert surface_distances(nothing, nothing, SPACING_MM) is None
    assert surface_distances(something, something, None) is None
