"""Batches hold what the cases hold, in the proportions asked for, whenever they are made."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits
from tiny_training import WINDOW, tiny_config

from training.batches import EmptyKind, SliceBatches, _CaseBalanced, in_window
from training.config import TrainingConfig
from training.data import Dataset, open_dataset

STILL = {"rotation_deg": 0, "scale": (1, 1), "shift": 0, "contrast": 0, "brightness": 0,
         "gamma": 0, "noise": 0, "blur_probability": 0}  # fmt: skip


@pytest.fixture
def data(write_slices: Callable[[], Path]) -> Dataset:
    return open_dataset(write_slices(), Path("unused"))


def batches(data: Dataset, config: TrainingConfig, epoch: int = 0) -> SliceBatches:
    made = SliceBatches(data.slices, config)
    made.epoch = epoch
    return made


def test_window_ends_are_0_and_1() -> None:
    """Hounsfield units beyond them are clipped."""
    hu = np.array([[-500, -40, 60, 160, 900]], np.int16)
    assert in_window(hu, WINDOW).tolist() == [[0, 0, 0.5, 1, 1]]


def test_batch_has_the_kinds_asked_for(data: Dataset) -> None:
    """So many slices with tumour, with liver only, and without liver, in that order."""
    sampling = {"with_tumor": 2, "liver_only": 1, "without_liver": 1}
    images, classes = batches(data, tiny_config(sampling=sampling, augment=STILL))[0]
    assert images.shape == (4, 64, 64, 1)
    assert classes.shape == (4, 64, 64, 3)
    assert np.array_equal(classes.sum(axis=-1), np.ones((4, 64, 64)))
    present = classes.any(axis=(1, 2))
    assert present[:, 2].tolist() == [True, True, False, False]
    assert present[:, 1].tolist() == [True, True, True, False]


def test_batches_leave_the_cores_to_the_network(data: Dataset) -> None:
    """OpenCV and BLAS use one thread while there are batches to make, and then all again."""

    def threads() -> set[int]:
        blas = threadpool_info()
        return {cv2.getNumThreads()} | {
            pool["num_threads"] for pool in blas if pool["user_api"] == "blas"
        }

    cv2.setNumThreads(2)
    with threadpool_limits(2, "blas"):
        made = batches(data, tiny_config(steps_per_epoch=2, augment=STILL))
        assert [threads() for _ in made] == [{1}, {1}]
        assert threads() == {2}


def test_a_kind_that_no_case_has_is_named(data: Dataset) -> None:
    """Rather than a batch without it, or an endless search."""
    liver_only = [item for item in data.slices if not item.tumor_px]
    with pytest.raises(EmptyKind, match="slices with tumour"):
        SliceBatches(liver_only, tiny_config())


def test_batch_depends_on_seed_epoch_and_index_only(data: Dataset) -> None:
    """A resumed run sees what an unbroken one would have seen, however many threads make it."""
    first = SliceBatches(data.slices, tiny_config())
    second = SliceBatches(data.slices, tiny_config(), workers=3)
    list(first)
    first.epoch = second.epoch = 3
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
    third = first[0][0]
    first.on_epoch_end()
    assert not np.array_equal(first[0][0], third)
    assert not np.array_equal(first[0][0], first[1][0])
    assert not np.array_equal(batches(data, tiny_config(seed=2), 4)[0][0], first[0][0])


def test_first_epochs_are_crops_around_the_structures(data: Dataset) -> None:
    """Crops hold the rarest structure of their slice; later epochs see the whole grid."""
    config = tiny_config(crop=32, crop_epochs=1, augment=STILL)
    images, classes = batches(data, config)[0]
    assert images.shape[1:] == (32, 32, 1)
    assert classes[0, ..., 2].any()
    assert batches(data, config, epoch=1)[0][0].shape[1:] == (64, 64, 1)


def test_lesions_are_drawn_into_liver_without_tumour_only(data: Dataset) -> None:
    """With certainty where the probability is 1, and never into slices without liver."""
    sampling = {"with_tumor": 0, "liver_only": 3, "without_liver": 2}
    drawn = {"probability": 1, "radius_px": (4, 8)}
    config = tiny_config(sampling=sampling, augment={**STILL, "synthetic_lesions": drawn})
    _, classes = batches(data, config)[0]
    assert classes.any(axis=(1, 2))[:, 2].tolist() == [True, True, True, False, False]


MOVING = {**STILL, "rotation_deg": 30, "scale": (0.7, 1.4), "shift": 0.1, "elastic": 0.02,
          "flip_left_right": 0.5, "flip_front_back": 0.5}  # fmt: skip


def test_the_label_of_an_augmented_slice_is_the_augmented_label(phantoms: Dataset) -> None:
    """In a sample as it is learned from, the organ is where the image shows it.

    The image is drawn from its labels here, so that every pixel away from an edge is known.
    """
    config = tiny_config(augment=MOVING)
    made = SliceBatches(phantoms.slices, config)
    seen = 0
    for case in phantoms.cases:
        for item in case.slices:
            hu = np.choose(item.labels(), (-40, 60, 160)).astype(np.int16)  # 0, half, 1
            drawn = replace(item, pixels=Drawn(hu, item.labels()))
            image, classes = made.sample(drawn, np.random.default_rng(item.index))
            labels = classes.argmax(axis=-1)
            inner = cv2.erode((labels == 1).astype(np.uint8), np.ones((3, 3))) == 1
            outer = cv2.dilate((labels > 0).astype(np.uint8), np.ones((3, 3))) == 0
            assert np.allclose(image[..., 0][inner], 0.5, atol=0.02)
            assert np.allclose(image[..., 0][outer], 0, atol=0.02)
            assert (image[..., 0][labels == 2] > 0.4).all()
            seen += inner.sum()
    assert seen > 1000


@dataclass(frozen=True)
class Drawn:
    """Pixels that are the same for every number."""

    image: np.ndarray
    mask: np.ndarray

    def hu(self, index: int) -> np.ndarray:
        return self.image

    def labels(self, index: int) -> np.ndarray:
        return self.mask


@pytest.mark.parametrize(
    ("kind", "change", "inside"),
    [
        ("with_tumor", {"contrast": 0.5}, None),
        ("with_tumor", {"noise": 0.2}, None),
        ("with_tumor", {"lesion_contrast": 0.5}, "tumour"),
        ("liver_only", {"organ_shift": 0.3}, "liver"),
        ("liver_only", {"synthetic_veins": {"probability": 1, "width_px": (1, 2)}}, "liver"),
        ("liver_only", {"synthetic_lesions": {"probability": 1}}, "liver"),
    ],
)
def test_each_change_reaches_the_samples(
    data: Dataset, kind: str, change: dict[str, object], inside: str | None
) -> None:
    """What a setting asks for is seen where it belongs, and nowhere else."""
    sampling = {"with_tumor": 0, "liver_only": 0, "without_liver": 0, kind: 8}
    still, _ = batches(data, tiny_config(sampling=sampling, augment=STILL))[0]
    changed, classes = batches(data, tiny_config(sampling=sampling, augment={**STILL, **change}))[0]
    assert still.shape == changed.shape
    apart = np.abs(changed - still[0])[..., 0].min(axis=0, initial=1)
    some = np.abs(changed - still[0])[..., 0].max(axis=0)
    assert some.max() > 0.02
    if inside is not None:
        structure = classes[0, ..., 2 if inside == "tumour" else 1]
        near = cv2.dilate(structure.astype(np.uint8), np.ones((9, 9))) == 1
        assert apart[~near].max() < 1e-6


def test_cases_are_drawn_by_the_root_of_their_slices(phantoms: Dataset) -> None:
    """One with nine times the slices comes three times as often, each of its slices alike."""
    many = phantoms.cases[0].slices[0]
    few = phantoms.cases[1].slices[0]
    sampler = _CaseBalanced([replace(many, index=number) for number in range(9)] + [few])
    rng = np.random.default_rng(0)
    drawn = [sampler.draw(rng) for _ in range(4000)]
    of_many = [item.index for item in drawn if item.case == many.case]
    assert len(of_many) / len(drawn) == pytest.approx(0.75, abs=0.03)
    assert np.bincount(of_many, minlength=9) == pytest.approx(np.full(9, 3000 / 9), rel=0.2)
