"""What each rule removes, and what it leaves."""

import numpy as np

from service.inference.postprocess import Grid, Removal, Rules, postprocess

GRID = Grid(spacing_mm=(2.0, 1.0, 1.0), min_lesion_mm3=30, min_lesion_px=10)
UNKNOWN = Grid(spacing_mm=None, min_lesion_mm3=30, min_lesion_px=10)


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
    off = Rules(liver_fragments=False, distant_tumor=False, small_lesions=False)
    cleaned, removals = postprocess(labels, GRID, off)
    assert np.array_equal(cleaned, labels)
    assert {removal.reason for removal in removals} == {"switched off by the request"}


def test_empty_labels() -> None:
    """Nothing found stays nothing."""
    empty = np.zeros((8, 10, 10), dtype=np.uint8)
    cleaned, removals = postprocess(empty, GRID, Rules())
    assert not cleaned.any()
    assert all(removal.voxels == 0 for removal in removals)
