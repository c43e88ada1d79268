"""A network may see the neighbours of the slice that it labels; it never sees another case's."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from tiny_training import tiny_config

from training.batches import SliceBatches, in_window
from training.config import TrainingConfig
from training.context import Surroundings, case_as_seen, is_alone
from training.crossval import cross_validate
from training.data import Case, Dataset
from training.evaluation.decision import Space
from training.evaluation.predictors import open_predictor

STILL = {"rotation_deg": 0, "scale": (1, 1), "shift": 0, "contrast": 0, "brightness": 0,
         "gamma": 0, "noise": 0, "blur_probability": 0}  # fmt: skip
NETWORK = {"architecture": "unet", "filters": (8, 4, 4), "context": 3}


def seeing_three(**neighbours: object) -> TrainingConfig:
    return tiny_config(network=NETWORK, neighbours=neighbours, augment=STILL)


def gappy(case: Case, *kept: int) -> Case:
    return Case(case.name, tuple(case.slices[number] for number in kept), case.sha256)


def test_neighbours_lie_their_step_apart_on_both_sides(phantoms: Dataset) -> None:
    """In ascending number, the labelled slice in the middle."""
    case = phantoms.cases[0]
    seen = Surroundings(phantoms.slices).of(case.slices[3], 3, 2)
    assert seen.shape == (64, 64, 3)
    for channel, number in enumerate((1, 3, 5)):
        assert np.array_equal(seen[..., channel], case.slices[number].hu())


def test_slice_stands_for_neighbours_that_are_not_there(phantoms: Dataset) -> None:
    """Beyond the ends of a case and where the data set has a gap; never the next slice held."""
    case = gappy(phantoms.cases[0], 0, 1, 4)
    seen = case_as_seen(case, seeing_three())
    own = case.hu()
    assert seen.shape == (3, 64, 64, 3)
    assert np.array_equal(seen[..., 1], own)
    assert np.array_equal(seen[0, ..., 0], own[0])
    assert np.array_equal(seen[0, ..., 2], own[1])
    assert np.array_equal(seen[1, ..., 0], own[0])
    assert np.array_equal(seen[1, ..., 2], own[1])
    assert is_alone(seen[2])


def test_neighbours_are_of_the_same_case(phantoms: Dataset) -> None:
    """Cases share slice numbers."""
    first, second = phantoms.cases[:2]
    around = Surroundings([first.slices[4], *second.slices])
    assert is_alone(around.of(first.slices[4], 3, 1))
    assert not is_alone(around.of(second.slices[4], 3, 1))


def test_samples_show_the_slice_alone_as_often_as_asked(phantoms: Dataset) -> None:
    """Always, never, and with neighbours at each of the steps."""
    item = phantoms.cases[0].slices[4]
    for alone, expected in ((1.0, True), (0.0, False)):
        config = seeing_three(alone=alone, learning_steps=(1, 3))
        around = Surroundings(phantoms.slices)
        drawn = [around.drawn(item, config, np.random.default_rng(seed)) for seed in range(12)]
        assert {is_alone(planes) for planes in drawn} == {expected}
        below = {planes[..., 0].tobytes() for planes in drawn}
        near = {phantoms.cases[0].slices[number].hu().tobytes() for number in (3, 1)}
        assert below == ({item.hu().tobytes()} if expected else near)


def test_neighbours_are_warped_with_their_slice(phantoms: Dataset) -> None:
    """Alike slices stay alike in a sample that is turned, and its labels are the middle one's."""
    item = phantoms.cases[0].slices[4]
    turned = seeing_three(alone=1.0).model_copy(
        update={"augment": tiny_config(augment=STILL | {"rotation_deg": 40}).augment}
    )
    image, classes = SliceBatches(phantoms.slices, turned).sample(item, np.random.default_rng(5))
    assert is_alone(image)
    assert image.shape == (64, 64, 3)
    still, labels = SliceBatches(phantoms.slices, seeing_three(alone=1.0)).sample(
        item, np.random.default_rng(5)
    )
    assert not np.allclose(image, still)
    assert np.array_equal(labels.argmax(axis=-1), item.labels())
    assert np.allclose(still[..., 1], in_window(item.hu(), turned.window), atol=1e-6)
    assert classes.shape == labels.shape


def test_lesions_are_changed_only_where_the_slice_is_alone(phantoms: Dataset) -> None:
    """A neighbour would not show the lesion that was drawn."""
    liver = next(item for item in phantoms.slices if item.liver_px and not item.tumor_px)
    drawing = STILL | {"synthetic_lesions": {"probability": 1.0}}
    for alone in (1.0, 0.0):
        config = tiny_config(network=NETWORK, neighbours={"alone": alone}, augment=drawing)
        _, classes = SliceBatches(phantoms.slices, config).sample(liver, np.random.default_rng(3))
        assert bool(classes[..., 2].any()) == (alone == 1.0)


def test_an_even_context_has_no_middle() -> None:
    """Two slices cannot lie around a third."""
    with pytest.raises(ValidationError, match="must be odd"):
        tiny_config(network=NETWORK | {"context": 2})


def test_cross_validation_shows_neighbours(phantoms: Dataset, tmp_path: Path) -> None:
    """To the network that learns and to the one that labels: a run, and the same from its file."""
    config = seeing_three(alone=0.0)
    kept = cross_validate(config, phantoms, tmp_path, folds=2, only=(0,))
    run = open_predictor(str(kept.fold(0).path), Space())
    case = next(case for case in phantoms.cases if kept.has(case))
    assert np.array_equal(run.predict(case).labels, kept.prediction(case).labels)
    whole, apart = run.predict(case), run.predict(gappy(case, 0, 4))
    assert np.abs(whole.organ_probability[4].astype(int) - apart.organ_probability[1]).max() > 0
