"""The phantom's volumes are what its formulas say."""

import math

import numpy as np
import pytest

from service.phantom import Phantom, abdomen_hu
from service.volume import LIVER_LABEL, TUMOR_LABEL


@pytest.mark.parametrize("seed", [0, 7, 31])
def test_sampled_volumes_are_the_closed_form(seed: int) -> None:
    """Voxels times voxel volume give the ellipsoids' volumes; 1 % is the edge's rounding."""
    phantom = Phantom.draw(seed)
    _, labels = phantom.sample(slices=90, size=256)
    ml = labels.voxel_volume / 1000
    assert (labels.array >= LIVER_LABEL).sum() * ml == pytest.approx(phantom.liver_ml, rel=0.01)
    assert (labels.array == TUMOR_LABEL).sum() * ml == pytest.approx(phantom.tumor_ml, rel=0.01)


def test_lesions_lie_inside_the_liver_and_apart() -> None:
    """Sampled finely, every lesion is surrounded by liver."""
    for seed in range(20):
        lesions = Phantom.draw(seed).lesions
        for index, lesion in enumerate(lesions):
            for other in lesions[index + 1 :]:
                gap = math.dist(lesion.center_mm, other.center_mm)
                assert gap > lesion.semi_axes_mm[0] + other.semi_axes_mm[0] + 5
    _, labels = Phantom.draw(3).sample(60, 128)
    padded = np.pad(labels.array, 1)
    for axis in range(3):
        for step in (-1, 1):
            neighbour = np.roll(padded, step, axis)
            assert not ((padded == TUMOR_LABEL) & (neighbour == 0)).any()


def test_same_seed_same_phantom() -> None:
    """The self-test needs the same voxels on every machine."""
    assert np.array_equal(abdomen_hu(5, 3, 32), abdomen_hu(5, 3, 32))
    assert not np.array_equal(abdomen_hu(5, 3, 32), abdomen_hu(6, 3, 32))
