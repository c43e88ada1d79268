"""Image and labels are changed together, and what is drawn is labelled."""

import cv2
import numpy as np
import pytest

from service.phantom import Phantom
from training.augment import Warp, _bend_weights, change_intensity, draw_crop
from training.config import AugmentConfig, SyntheticLesionConfig, SyntheticVeinConfig
from training.drawn_livers import change_lesion_contrast, draw_lesions, shift_organ
from training.drawn_veins import draw_veins
from training.grid import to_grid

EVERYTHING = AugmentConfig(
    rotation_deg=30, scale=(0.6, 1.6), flip_left_right=0.5, flip_front_back=0.5, elastic=0.02
)


@pytest.mark.parametrize("seed", range(8))
def test_label_of_the_warped_image_is_the_warped_label(seed: int) -> None:
    """The phantom's organ, found by its grey in the warped image, is where its label went.

    But for the pixels at its edge, where linear interpolation mixes two greys.
    """
    _, labels = Phantom.draw(seed).sample(4, 128, noise_hu=0)
    truth = (np.asarray(labels.array)[2] > 0).astype(np.float32)[..., None]
    warp = Warp.draw(np.random.default_rng(seed), (128, 128), EVERYTHING)
    image, label = warp.apply(0.25 + 0.5 * truth), warp.apply(truth)
    inside, outside = label == 1, label == 0
    assert inside.sum() > 100
    assert np.allclose(image[inside], 0.75, atol=1e-5)
    assert (image[outside] <= 0.25 + 1e-5).all()  # 0 where the warp looks beyond the slice


def test_flips_turn_the_slice_over() -> None:
    """Without any other change a flip is NumPy's."""
    still = {"rotation_deg": 0, "scale": (1, 1), "shift": 0}
    image = np.random.default_rng(0).random((40, 30, 1), dtype=np.float32)
    for flips, expected in (
        ({"flip_left_right": 1}, image[:, ::-1]),
        ({"flip_front_back": 1}, image[::-1]),
        ({}, image),
    ):
        config = AugmentConfig.model_validate({**still, **flips})
        warp = Warp.draw(np.random.default_rng(0), (40, 30), config)
        # OpenCV interpolates with 5 bits; a whole-numbered place is met to about 1e-2.
        assert np.abs(warp.apply(image) - expected).max() < 0.05


@pytest.mark.parametrize("shape", [(128, 128), (70, 131)])
def test_a_part_of_a_warp_is_cut_out_of_the_whole(shape: tuple[int, int]) -> None:
    """With rotation, zoom, flips and bend, in the middle and at every edge."""
    image = np.random.default_rng(0).random((*shape, 2), dtype=np.float32)
    rows, columns = shape
    for seed in range(8):
        warp = Warp.draw(np.random.default_rng(seed), shape, EVERYTHING)
        whole = warp.apply(image)
        for part in (
            (slice(5, 40), slice(11, 63)),
            (slice(0, 33), slice(columns - 20, columns)),
            (slice(rows - 7, rows), slice(0, columns)),
            (slice(rows // 2, rows // 2 + 1), slice(9, 10)),
        ):
            found = warp.apply(image, part)
            assert found.shape == whole[part].shape
            # OpenCV places to 1/32 pixel; a sum rounded otherwise may be one such step away.
            assert np.abs(found - whole[part]).max() < 2 / 32


@pytest.mark.parametrize("shape", [(64, 64), (40, 96), (300, 7)])
def test_bend_is_smooth_between_its_nodes(shape: tuple[int, int]) -> None:
    """The same as OpenCV's cubic resampling of the coarse grid, in float32."""
    nodes = np.random.default_rng(0).normal(0, 5, (5, 5)).astype(np.float32)
    by_row, by_column = (_bend_weights(size) for size in shape)
    expected = cv2.resize(nodes, shape[::-1], interpolation=cv2.INTER_CUBIC)
    assert np.abs(by_row @ nodes @ by_column.T - expected).max() < 1e-4


def test_bend_is_added_to_where_a_pixel_comes_from() -> None:
    """Of a ramp that shows its own x and y; the first nodes are x, the second y."""
    rows, columns = 60, 90
    ramp = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).astype(np.float32)
    bend = np.random.default_rng(0).normal(0, 2, (2, 5, 5)).astype(np.float32)
    found = Warp((rows, columns), np.eye(2, 3), bend).apply(ramp)
    wanted = [cv2.resize(one, (columns, rows), interpolation=cv2.INTER_CUBIC) for one in bend]
    inner = (slice(12, -12), slice(12, -12))  # nothing comes in from outside
    moved = (found - ramp)[inner] - np.stack(wanted, axis=-1)[inner]
    assert np.abs(moved).max() <= 1 / 32  # OpenCV places to this


@pytest.mark.parametrize("shape", [(128, 128), (80, 120)])
@pytest.mark.parametrize("seed", range(8))
def test_a_point_moves_with_the_slice(shape: tuple[int, int], seed: int) -> None:
    """The middle of a warped disc is where its own middle is said to come to lie."""
    still_bend = EVERYTHING.model_copy(update={"elastic": 0.0})
    warp = Warp.draw(np.random.default_rng(seed), shape, still_bend)
    points = np.array([(30, 48), (52, 60), (44, 90)])
    seen = 0
    for point, moved in zip(points, warp.moved(points), strict=True):
        disc = np.zeros(shape, np.float32)
        cv2.circle(disc, (int(point[1]), int(point[0])), 3, 1.0, cv2.FILLED)
        if (moved < 8).any() or (moved > np.array(shape) - 8).any():
            continue  # cut off by the edge
        warped = warp.apply(disc[..., None])[..., 0]
        middle = (np.indices(shape) * warped).sum(axis=(1, 2)) / warped.sum()
        assert np.abs(middle - moved).max() < 0.25  # a quarter of a pixel
        seen += 1
    assert seen


def test_intensity_stays_in_the_window() -> None:
    """Whatever is drawn, values stay between the window's ends and change."""
    config = AugmentConfig(coarse=3, coarse_probability=1, blur_probability=1)
    image = np.random.default_rng(1).random((64, 48, 1), dtype=np.float32)
    changed = change_intensity(image, np.random.default_rng(2), config)
    assert changed.shape == image.shape
    assert changed.dtype == np.float32
    assert 0 <= changed.min() < changed.max() <= 1
    assert changed.std() < image.std()  # a coarser, blurred scan


def test_crops_stay_inside() -> None:
    """Also for a structure in the corner and a crop as large as the slice."""
    labels = np.zeros((64, 64), np.uint8)
    labels[0, 0] = 2
    rng = np.random.default_rng(0)
    still = Warp.draw(rng, labels.shape, AugmentConfig(rotation_deg=0, scale=(1, 1), shift=0))
    for side in (32, 64):
        rows, columns = draw_crop(rng, labels, still, 64, side)
        assert (rows.start, columns.start) == (0, 0)
        assert (rows.stop, columns.stop) == (side, side)


@pytest.mark.parametrize(
    ("shape", "grid"), [((128, 128), 128), ((128, 128), 64), ((96, 128), 128), ((128, 80), 64)]
)
def test_crops_follow_the_rarest_structure(shape: tuple[int, int], grid: int) -> None:
    """Wherever rotation, zoom, shift and flips bring one of two lesions, one in the corner of a
    large liver, the crop shows tumour, if the whole slice does.
    """
    labels = np.zeros(shape, np.uint8)
    labels[4:-4, 4:-4] = 1
    labels[6:11, 6:11] = labels[-30:-25, -24:-19] = 2
    config = AugmentConfig(
        rotation_deg=30, scale=(0.6, 1.6), shift=0.3, flip_left_right=0.5, flip_front_back=0.5
    )
    tumor = (labels == 2).astype(np.float32)[..., None]
    seen = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        warp = Warp.draw(rng, shape, config)
        crop = draw_crop(rng, labels, warp, grid, grid // 4)
        on_grid = to_grid(warp.apply(tumor), grid)[..., 0] > 0.5
        # A few voxels at the edge may be none of those that are tried.
        if on_grid.sum() * (max(shape) / grid) ** 2 >= 20:
            seen += 1
            assert on_grid[crop].any()
    assert seen > 20


@pytest.mark.parametrize("shape", [(128, 128), (64, 128)])
def test_crops_leave_what_left_the_slice(shape: tuple[int, int]) -> None:
    """Of two lesions one is moved out at the top: every crop shows the other."""
    labels = np.zeros(shape, np.uint8)
    labels[2:7, 20:25] = labels[40:45, 100:105] = 2
    up = Warp(shape, np.array([(1.0, 0, 0), (0, 1, 20)]), np.zeros((2, 5, 5), np.float32))
    on_grid = to_grid(up.apply((labels == 2).astype(np.float32)[..., None]), 128)[..., 0] > 0.5
    assert on_grid.sum() == 25
    for seed in range(40):
        assert on_grid[draw_crop(np.random.default_rng(seed), labels, up, 128, 32)].any()


def test_a_crop_is_not_always_centred() -> None:
    """Its lesion lies up to a quarter of its side from the middle, and nowhere always."""
    labels = np.ones((128, 128), np.uint8)
    labels[64, 70] = 2
    still = Warp(labels.shape, np.eye(2, 3), np.zeros((2, 5, 5), np.float32))
    places = []
    for seed in range(200):
        rows, columns = draw_crop(np.random.default_rng(seed), labels, still, 128, 32)
        places += [64 - rows.start, 70 - columns.start]
    assert 8 <= min(places) < 11
    assert 21 < max(places) <= 24


def test_a_crop_of_background_lies_anywhere() -> None:
    """Inside the grid, at its edges and between them."""
    nothing = np.zeros((96, 128), np.uint8)
    starts = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        warp = Warp.draw(rng, nothing.shape, EVERYTHING)
        rows, columns = draw_crop(rng, nothing, warp, 64, 24)
        assert (rows.stop - rows.start, columns.stop - columns.start) == (24, 24)
        starts.append((rows.start, columns.start))
    for axis in zip(*starts, strict=True):
        assert (min(axis), max(axis)) == (0, 64 - 24)
        assert len(set(axis)) > 30


@pytest.fixture
def slice_with_lesion() -> tuple[np.ndarray, np.ndarray]:
    """A disc of liver at 0.6 with a disc of tumour at 0.4, air around."""
    y, x = np.mgrid[:128, :128] - 64.0
    labels = (x**2 + y**2 < 50**2).astype(np.uint8)
    labels[(x - 15) ** 2 + y**2 < 10**2] = 2
    return np.choose(labels, (0.1, 0.6, 0.4)).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(4))
def test_lesions_change_their_contrast_and_nothing_else(
    slice_with_lesion: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    """The lesion moves by at most the part asked for; liver away from it and air stay."""
    image, labels = slice_with_lesion
    changed = change_lesion_contrast(image, labels, np.random.default_rng(seed), 0.5)
    assert changed[64, 79] == pytest.approx(0.4, abs=0.1 + 1e-6)
    assert changed[64, 79] != pytest.approx(0.4, abs=1e-3)
    assert np.array_equal(changed[labels == 0], image[labels == 0])
    assert changed[64, 30] == image[64, 30]


def test_organ_changes_its_grey_and_nothing_else(
    slice_with_lesion: tuple[np.ndarray, np.ndarray],
) -> None:
    """In about every other sample, both ways, as far as asked; a lesion keeps its contrast."""
    image, labels = slice_with_lesion
    away = cv2.dilate((labels > 0).astype(np.uint8), np.ones((13, 13))) == 0
    inside = cv2.erode((labels == 1).astype(np.uint8), np.ones((9, 9))) == 1
    shifts = []
    for seed in range(200):
        shifted = shift_organ(image, labels, np.random.default_rng(seed), 0.2)
        assert np.array_equal(shifted[away], image[away])
        shifts.append(float((shifted - image)[inside].mean()))
    assert 70 < sum(shift == 0 for shift in shifts) < 130
    assert -0.2 <= min(shifts) < -0.15
    assert 0.15 < max(shifts) <= 0.2
    assert shift_organ(image, labels, np.random.default_rng(1), 0) is image
    assert shift_organ(image, np.zeros_like(labels), np.random.default_rng(1), 0.2) is image


@pytest.mark.parametrize("grey", [0.2, 0.8])
def test_a_lesion_never_leaves_the_window_with_its_organ(
    slice_with_lesion: tuple[np.ndarray, np.ndarray], grey: float
) -> None:
    """A shift far beyond the window's ends leaves the lesion apart from the liver; a liver without
    lesions goes to the end.
    """
    image, labels = slice_with_lesion
    image = np.where(labels == 2, grey - 0.1, np.where(labels == 1, grey, 0.5)).astype(np.float32)
    inside = cv2.erode((labels == 1).astype(np.uint8), np.ones((9, 9))) == 1
    lesion = cv2.erode((labels == 2).astype(np.uint8), np.ones((3, 3))) == 1
    seen = []
    for seed in range(60):
        shifted = shift_organ(image, labels, np.random.default_rng(seed), 2.0)
        assert shifted[inside].mean() - shifted[lesion].mean() > 0.05
        healthy = shift_organ(image, np.minimum(labels, 1), np.random.default_rng(seed), 2.0)
        seen.append(float(healthy[inside].mean()))
    assert min(seen) == 0
    assert max(seen) == 1


def test_contrast_needs_both_structures(slice_with_lesion: tuple[np.ndarray, np.ndarray]) -> None:
    """A slice without tumour, or without liver beside it, stays as it is."""
    image, labels = slice_with_lesion
    rng = np.random.default_rng(0)
    for partial in (labels == 1, np.where(labels == 2, 2, 0)):
        same = change_lesion_contrast(image, partial.astype(np.uint8), rng, 0.5)
        assert np.array_equal(same, image)


@pytest.mark.parametrize("seed", range(8))
def test_drawn_lesions_are_labelled_and_stay_in_the_organ(seed: int) -> None:
    """What became darker is labelled tumour, and nothing outside of the liver changed."""
    y, x = np.mgrid[:128, :128] - 64.0
    labels = (x**2 + y**2 < 50**2).astype(np.uint8)
    image = np.where(labels, 0.6, 0.1).astype(np.float32)
    config = SyntheticLesionConfig(probability=1, bright=0, contrast=(0.2, 0.3), radius_px=(4, 12))
    drawn, changed = draw_lesions(image, labels, np.random.default_rng(seed), config)
    assert (changed == 2).any()
    assert np.array_equal(changed > 0, labels > 0)
    assert np.array_equal(drawn[labels == 0], image[labels == 0])
    # Half of the least contrast, less what the texture may add: three deviations of 0.05.
    darker = (drawn < 0.6 - 0.2 / 2) & (labels > 0)
    assert (changed[darker] == 2).mean() > 0.9
    assert drawn[changed == 2].mean() < 0.55
    assert (image[labels == 1] == np.float32(0.6)).all()  # the source is left alone


def test_no_lesion_is_drawn_without_a_liver() -> None:
    """A slice of background comes back as it is."""
    nothing = np.zeros((32, 32), np.uint8)
    image = np.full((32, 32), 0.3, np.float32)
    config = SyntheticLesionConfig(probability=1)
    drawn, labels = draw_lesions(image, nothing, np.random.default_rng(0), config)
    assert np.array_equal(drawn, image)
    assert not labels.any()


@pytest.mark.parametrize("seed", [0, *range(2, 9)])  # with 1 the ends are too near one another
def test_drawn_veins_are_long_dark_and_inside_the_liver(seed: int) -> None:
    """Nothing becomes brighter, nothing outside of the liver or in a lesion changes, and what is
    darkened is far longer than it is wide.
    """
    y, x = np.mgrid[:128, :128] - 64.0
    labels = (x**2 + y**2 < 60**2).astype(np.uint8)
    labels[60:70, 60:70] = 2
    image = np.where(labels == 1, 0.6, 0.1).astype(np.float32)
    config = SyntheticVeinConfig(probability=1, most=1, width_px=(3, 5), contrast=(0.2, 0.3))
    drawn = draw_veins(image, labels, np.random.default_rng(seed), config)
    assert (drawn <= image).all()
    assert np.array_equal(drawn[labels != 1], image[labels != 1])
    assert (image[labels == 1] == np.float32(0.6)).all()  # the source is left alone
    dark = (drawn < 0.6 - 0.2 / 2) & (labels == 1)
    assert dark.any()
    (_, (height, width), _) = cv2.minAreaRect(np.argwhere(dark).astype(np.float32))
    assert max(height, width) > 3 * 5
    assert max(height, width) > 2 * min(height, width)


def test_no_vein_is_drawn_without_room() -> None:
    """Not into background, and not into a liver that is hardly longer than a vein is wide."""
    image = np.full((32, 32), 0.5, np.float32)
    config = SyntheticVeinConfig(probability=1, width_px=(4, 5))
    labels = np.zeros((32, 32), np.uint8)
    assert np.array_equal(draw_veins(image, labels, np.random.default_rng(0), config), image)
    labels[10:20, 10:20] = 1
    for seed in range(20):
        assert np.array_equal(draw_veins(image, labels, np.random.default_rng(seed), config), image)
