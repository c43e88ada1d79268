"""What each rule removes, and what it leaves."""

from dataclasses import replace

import numpy as np
import pytest

from service.inference.contract import LesionLimits
from service.inference.postprocess import Grid, Removal, Rules, postprocess

GRID = Grid(spacing_mm=(2.0, 1.0, 1.0), min_lesion_mm3=30, min_lesion_px=10)
UNKNOWN = Grid(spacing_mm=None, min_lesion_mm3=30, min_lesion_px=10)
LIMITS = LesionLimits(surrounded=0.5, fluid_hu=20, contrast_hu=10)


def liver_with(*changes: tuple[tuple[slice, ...], int]) -> np.ndarray:
    labels = np.zeros((10, 60, 60), dtype=np.uint8)
    labels[2:8, 5:35, 5:35] = 1
    for place, value in changes:
        labels[place] = value
    return labels


def box(z: tuple[int, int], y: tuple[int, int], x: tuple[int, int]) -> tuple[slice, ...]:
    return slice(*z), slice(*y), slice(*x)


def by_rule(removals: tuple[Removal, ...]) -> dict[str, Removal]:
    return {removal.rule: removal for removal in removals}


def test_small_fragments_of_liver_go() -> None:
    """Under 5 % of the largest piece; a second piece above it stays."""
    labels = liver_with((box((2, 4), (50, 55), (50, 55)), 1), (box((2, 8), (5, 25), (40, 50)), 1))
    cleaned, removals = postprocess(labels, GRID, Rules())
    assert (cleaned[:, 50:] == 0).all()
    assert (cleaned[2:8, 5:25, 40:50] == 1).all()
    assert by_rule(removals)["liver_fragments"] == Removal("liver_fragments", True, None, 1, 50)


def test_a_liver_of_specks_is_none() -> None:
    """A largest piece under 1 mL, with all that lies beside it; 1 mL stays."""
    for slices, kept in ((4, False), (5, True)):
        labels = np.zeros((10, 60, 60), dtype=np.uint8)
        labels[2 : 2 + slices, 5:15, 5:15] = 1
        labels[2:4, 8:10, 8:10] = 2
        labels[4:6, 40:44, 40:44] = 1
        cleaned, removals = postprocess(labels, GRID, Rules(small_lesions=False))
        assert np.array_equal(cleaned, labels if kept else np.zeros_like(labels))
        removed = Removal("liver_fragments", True, None, 0 if kept else 2, 0 if kept else 432)
        assert by_rule(removals)["liver_fragments"] == removed


def test_corner_contact_keeps_a_fragment() -> None:
    """26-connected: a piece that touches by a corner belongs to the organ."""
    labels = liver_with((box((8, 9), (35, 36), (35, 36)), 1))
    assert np.array_equal(postprocess(labels, GRID, Rules())[0], labels)


def test_distant_tumor_goes_as_a_whole() -> None:
    """6 mm from the filled liver is too far, 4 mm is not; a deep part keeps all of its lesion."""
    rules = Rules(liver_fragments=False)
    near = liver_with((box((3, 6), (10, 20), (39, 50)), 2))
    far = liver_with((box((3, 6), (10, 20), (41, 50)), 2))
    assert np.array_equal(postprocess(near, GRID, rules)[0], near)
    cleaned, removals = postprocess(far, GRID, rules)
    assert (cleaned != 2).all()
    assert by_rule(removals)["distant_tumor"].components == 1


def test_distance_is_in_millimetres() -> None:
    """Three empty slices of 2 mm are 8 mm between voxel centres."""
    labels = np.zeros((20, 40, 40), dtype=np.uint8)
    labels[2:8, 5:35, 5:35] = 1
    rules = Rules(liver_fragments=False)
    for first, kept in ((9, True), (11, False)):
        labels[8:] = 0
        labels[first : first + 4, 10:20, 10:20] = 2
        assert (postprocess(labels, GRID, rules)[0] == 2).any() == kept


def test_large_tumor_at_the_edge_stays() -> None:
    """A tumour whose inside is far from parenchyma is one lesion that touches it."""
    labels = liver_with((box((2, 8), (5, 35), (35, 58)), 2))
    assert np.array_equal(postprocess(labels, GRID, Rules())[0], labels)


def test_tumor_in_a_hole_of_the_liver_stays() -> None:
    """The liver is filled before distances are taken."""
    labels = liver_with((box((3, 7), (8, 32), (8, 32)), 0), (box((4, 6), (18, 22), (18, 22)), 2))
    cleaned, _ = postprocess(labels, GRID, Rules(liver_fragments=False))
    assert (cleaned == 2).sum() == (labels == 2).sum()


def test_specks_become_what_surrounds_them() -> None:
    """A speck inside the liver becomes liver; one that lies alone becomes background."""
    rules = Rules(liver_fragments=False, distant_tumor=False)
    labels = liver_with((box((4, 5), (10, 12), (10, 12)), 2), (box((4, 5), (50, 52), (50, 52)), 2))
    cleaned, removals = postprocess(labels, GRID, rules)
    assert (cleaned[4, 10:12, 10:12] == 1).all()
    assert (cleaned[4, 50:52, 50:52] == 0).all()
    assert by_rule(removals)["small_lesions"] == Removal("small_lesions", True, None, 2, 8)


def test_smallest_lesion_is_in_cubic_millimetres() -> None:
    """30 mm3 of 2 mm3 voxels are 15 of them."""
    for voxels, kept in ((14, False), (15, True)):
        labels = liver_with((box((4, 5), (10, 11), (6, 6 + voxels)), 2))
        assert (postprocess(labels, GRID, Rules())[0] == 2).any() == kept


def test_image_keeps_both_volume_rules_off() -> None:
    """In a single slice the second piece of liver may be liver; only specks are dropped."""
    labels = liver_with((box((2, 3), (50, 55), (50, 55)), 1))[2:3]
    labels[0, 10, 10:19] = 2
    cleaned, removals = postprocess(labels, UNKNOWN, Rules())
    found = by_rule(removals)
    assert not found["liver_fragments"].applied
    assert "5 contiguous slices" in (found["distant_tumor"].reason or "")
    assert (cleaned[0, 50:55, 50:55] == 1).all()
    assert (cleaned != 2).all()


def test_four_slices_are_no_volume() -> None:
    """From five slices up the rules for volumes run."""
    for slices, applied in ((4, False), (5, True)):
        removals = postprocess(liver_with()[2 : 2 + slices], GRID, Rules())[1]
        assert by_rule(removals)["liver_fragments"].applied is applied


def test_switched_off_rules_say_so() -> None:
    """Nothing is removed, and the result says that the request wanted it so."""
    labels = liver_with((box((2, 4), (50, 55), (50, 55)), 2), (box((4, 5), (10, 11), (10, 11)), 2))
    off = Rules(False, False, False, False)
    limited = replace(GRID, lesion_limits=LIMITS)
    for grid, hu in ((GRID, None), (limited, None), (limited, np.zeros(labels.shape, np.int16))):
        cleaned, removals = postprocess(labels, grid, off, hu)
        assert np.array_equal(cleaned, labels)
        assert [removal.reason for removal in removals] == ["switched off by the request"] * 4


def test_empty_labels() -> None:
    """Nothing found stays nothing."""
    empty = np.zeros((8, 10, 10), dtype=np.uint8)
    for grid, hu in ((GRID, None), (replace(GRID, lesion_limits=LIMITS), empty.astype(np.int16))):
        cleaned, removals = postprocess(empty, grid, Rules(), hu)
        assert not cleaned.any()
        assert all(removal.voxels == 0 for removal in removals)


INSIDE = box((3, 6), (12, 18), (12, 18))
BESIDE = box((3, 6), (12, 18), (35, 41))
"""In the liver, and at its edge, outside: 108 voxels each, 216 mm3, 2 % of the organ."""


def drawn_hu(labels: np.ndarray, lesions: int) -> np.ndarray:
    """Liver of 100 HU, lesions of as many as is said."""
    return np.array([-50, 100, lesions], dtype=np.int16)[labels]


@pytest.mark.parametrize(
    ("limits", "hu", "inside", "beside"),
    [
        (LesionLimits(surrounded=0.5), 60, 2, 0),  # liver is on one of its four sides
        (LesionLimits(surrounded=0.1), 60, 2, 2),
        (LesionLimits(fluid_hu=20), 10, 1, 1),
        (LesionLimits(fluid_hu=20), 60, 2, 2),
        (LesionLimits(contrast_hu=10), 95, 1, 1),
        (LesionLimits(contrast_hu=10), 60, 2, 2),
        (LIMITS, 10, 1, 0),
        (LIMITS, 60, 2, 0),
    ],
)
def test_unlikely_lesions_become_what_they_lie_in(
    limits: LesionLimits, hu: int, inside: int, beside: int
) -> None:
    """Liver; or background, if what is hardly surrounded by liver goes for that. Others stay, and
    all that was given stays as it is.
    """
    labels = liver_with((INSIDE, 2), (BESIDE, 2))
    image = drawn_hu(labels, hu)
    given_labels, given_image = labels.copy(), image.copy()
    cleaned, removals = postprocess(labels, replace(GRID, lesion_limits=limits), Rules(), image)
    assert np.array_equal(cleaned, liver_with((INSIDE, inside), (BESIDE, beside)))
    gone = (inside != 2) + (beside != 2)
    assert [removal.components for removal in removals] == [0, 0, 0, gone]
    assert removals[3] == Removal("unlikely_lesions", True, None, gone, 108 * gone)
    assert np.array_equal(labels, given_labels)
    assert np.array_equal(image, given_image)


def test_what_unlikely_lesions_need() -> None:
    """Limits, which not every model sets, and the image where there is a lesion."""
    labels = liver_with((INSIDE, 2))
    image, limited = drawn_hu(labels, 100), replace(GRID, lesion_limits=LIMITS)
    for grid, hu, reason in (
        (GRID, image, "the model sets no limits"),
        (GRID, None, "the model sets no limits"),
        (limited, None, "needs the image"),
    ):
        cleaned, removals = postprocess(labels, grid, Rules(), hu)
        assert np.array_equal(cleaned, labels)
        assert removals[3] == Removal("unlikely_lesions", False, reason)
    assert postprocess(labels, limited, Rules(), image)[1][3].components == 1
    assert postprocess(liver_with(), limited, Rules())[1][3] == Removal("unlikely_lesions", True)


def test_unlikely_lesions_of_a_single_image() -> None:
    """Neither slices nor a spacing are needed."""
    labels = liver_with((INSIDE, 2))[4:5]
    grid = replace(UNKNOWN, lesion_limits=LIMITS)
    cleaned, removals = postprocess(labels, grid, Rules(), drawn_hu(labels, 100))
    assert np.array_equal(cleaned, liver_with()[4:5])
    assert [removal.applied for removal in removals] == [False, False, True, True]


@pytest.mark.parametrize(
    ("spacing_mm", "columns", "kept"),
    [
        ((2.0, 2.0, 2.0), 60, True),
        ((2.0, 3.0, 3.0), 60, False),
        (None, 149, False),
        (None, 151, True),
    ],
)
def test_ring_is_of_the_whole_slice(
    spacing_mm: tuple[float, float, float] | None, columns: int, kept: bool
) -> None:
    """A lesion in a hole that is a pixel wider on each side: a ring of one pixel sees no liver, of
    two it does. Unknown, it follows from the slice's longer side, not from that of the labels.
    """
    labels = np.zeros((1, 20, columns), dtype=np.uint8)
    labels[:, :, 5:25], labels[:, 8:13, 9:13], labels[:, 9:12, 10:12] = 1, 0, 2
    grid = Grid(spacing_mm, 0, 0, LesionLimits(surrounded=0.1))
    cleaned, _ = postprocess(labels, grid, Rules(), np.zeros(labels.shape, np.int16))
    assert (cleaned == 2).any() == kept


def test_unlikely_lesions_are_judged_after_the_other_rules() -> None:
    """Specks around it are liver by then, and count once."""
    labels = liver_with((INSIDE, 2))
    labels[4, 10:20:2, 10], labels[4, 10:20:2, 19] = 2, 2
    specks = int((labels == 2).sum()) - 108
    grid = replace(GRID, lesion_limits=LesionLimits(surrounded=1, contrast_hu=10))
    cleaned, removals = postprocess(labels, grid, Rules(), drawn_hu(labels, 60))
    assert np.array_equal(cleaned, liver_with((INSIDE, 2)))
    assert [(removal.components, removal.voxels) for removal in removals] == [
        (0, 0), (0, 0), (specks, specks), (0, 0),
    ]  # fmt: skip
