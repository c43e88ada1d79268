"""Batches hold what the folder holds, changed together, in the proportions asked for."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from service.volume import HounsfieldWindow
from training.augment import Warp, draw_crop
from training.config import AugmentConfig, SamplingConfig, TrainingConfig
from training.data import SliceBatches, in_window, read_manifest
from training.grid import grid_weights, to_grid

WINDOW = HounsfieldWindow(lower_hu=-40, upper_hu=160)
STILL = AugmentConfig(
    rotation_deg=0, scale=(1, 1), shift=0, contrast=0, brightness=0, gamma=0, noise=0,
    blur_probability=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases in the form of the slice folder: with tumour, liver only, and neither."""
    folder = tmp_path_factory.mktemp("slices")
    rows = []
    for case in ("volume-000", "volume-001"):
        (folder / case).mkdir()
        for index, (liver, tumor) in enumerate(((40, 10), (40, 0), (0, 0))):
            grey = np.full((128, 128), 30, np.uint8)
            labels = np.zeros((128, 128), np.uint8)
            grey[20 : 20 + liver, 10:60] = 160
            labels[20 : 20 + liver, 10:60] = 1 if liver else 0
            grey[24 : 24 + tumor, 20:30] = 90
            labels[24 : 24 + tumor, 20:30] = 2
            cv2.imwrite(
                str(folder / case / f"{index:03d}.webp"), grey, [cv2.IMWRITE_WEBP_QUALITY, 101]
            )
            cv2.imwrite(str(folder / case / f"{index:03d}.png"), labels)
            split = "train" if case == "volume-000" else "val"
            rows.append([case, index, split, int((labels > 0).sum()), int((labels == 2).sum())])
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["volume", "slice", "split", "liver_or_tumour_pixels", "tumour_pixels"])
        writer.writerows(rows)
    return folder


def config(**changes: object) -> TrainingConfig:
    fields = {"name": "test", "window": WINDOW, "grid": 64, "steps_per_epoch": 2, **changes}
    return TrainingConfig.model_validate(fields)


def test_manifest_names_what_the_files_hold(folder: Path) -> None:
    """Pixels of liver include tumour; grey is the data set's window."""
    slices = read_manifest(folder)
    assert len(slices) == 6
    first = slices[0]
    assert (first.liver_px, first.tumor_px) == (2000, 100)
    assert (first.labels() == 2).sum() == 100
    assert first.hu()[22, 12] == round(-40 + 200 * 160 / 255)
    assert in_window(np.array([[-500, -40, 60, 160, 900]], np.int16), WINDOW).tolist() == [
        [0, 0, 0.5, 1, 1]
    ]


def test_batch_has_the_kinds_asked_for(folder: Path) -> None:
    """So many slices with tumour, with liver only, and without liver, in that order."""
    sampling = SamplingConfig(with_tumor=2, liver_only=1, without_liver=1)
    batches = SliceBatches(read_manifest(folder), config(sampling=sampling, augment=STILL))
    images, classes = batches.batch(0, 0)
    assert images.shape == (4, 64, 64, 1)
    assert classes.shape == (4, 64, 64, 3)
    assert np.array_equal(classes.sum(axis=-1), np.ones((4, 64, 64)))
    present = classes.any(axis=(1, 2))
    assert present[:, 2].tolist() == [True, True, False, False]
    assert present[:, 1].tolist() == [True, True, True, False]


def test_batch_depends_on_seed_epoch_and_index_only(folder: Path) -> None:
    """A resumed run sees what an unbroken one would have seen."""
    slices = read_manifest(folder)
    first, second = (SliceBatches(slices, config()) for _ in range(2))
    list(first.epoch(0))
    for one, other in zip(first.epoch(3), second.epoch(3), strict=True):
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
    assert not np.array_equal(first.batch(0, 0)[0], first.batch(1, 0)[0])
    assert not np.array_equal(first.batch(0, 0)[0], first.batch(0, 1)[0])


def test_first_epochs_are_crops_around_the_structures(folder: Path) -> None:
    """Crops hold the rarest structure of their slice."""
    batches = SliceBatches(read_manifest(folder), config(crop=32, crop_epochs=1, augment=STILL))
    images, classes = batches.batch(0, 0)
    assert images.shape[1:] == (32, 32, 1)
    assert classes[:4, ..., 2].any(axis=(1, 2)).all()
    assert batches.batch(1, 0)[0].shape[1:] == (64, 64, 1)


@pytest.mark.parametrize("seed", range(8))
def test_image_and_labels_are_warped_together(seed: int) -> None:
    """A bright structure and its label are at the same place after any warp."""
    labels = np.zeros((128, 96, 1), np.float32)
    labels[30:70, 20:50] = 1
    warp = Warp.draw(np.random.default_rng(seed), (128, 96), AugmentConfig())
    assert np.array_equal(warp.apply(labels * 0.5), warp.apply(labels) * 0.5)
    assert warp.apply(labels).sum() > 0


def test_crops_stay_inside() -> None:
    """Also for a structure in the corner and a crop as large as the slice."""
    classes = np.zeros((64, 64, 3), np.float32)
    classes[..., 0] = 1
    classes[0, 0] = (0, 0, 1)
    rng = np.random.default_rng(0)
    for side in (32, 64):
        rows, columns = draw_crop(rng, classes, side)
        assert (rows.start, columns.start) == (0, 0)
        assert (rows.stop, columns.stop) == (side, side)


@pytest.mark.parametrize(
    ("size", "grid"), [(512, 256), (300, 256), (511, 64), (64, 256), (100, 99)]
)
def test_grid_is_pillow_bilinear(size: int, grid: int) -> None:
    """The same resampling as Pillow's BILINEAR, apart from the border, where air is outside."""
    rng = np.random.default_rng(1)
    image = rng.random((size, size), dtype=np.float32)
    ours = to_grid(image[..., None], grid)[..., 0]
    theirs = np.asarray(Image.fromarray(image).resize((grid, grid), Image.Resampling.BILINEAR))
    margin = int(np.ceil(grid / size)) + 1
    inner = (slice(margin, -margin), slice(margin, -margin))
    assert np.abs(ours[inner] - theirs[inner]).max() < 1e-5


def test_grid_pads_with_air() -> None:
    """A slice that is not square lies in the middle of the square of its longer side."""
    weights = grid_weights(100, 200, 50)
    assert weights.shape == (50, 100)
    assert not weights[:11].any()
    assert weights[15:35].sum(axis=1) == pytest.approx(np.ones(20))
