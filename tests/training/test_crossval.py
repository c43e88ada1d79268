"""Cross-validation labels every case by a network that never saw its patient."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_training import tiny_config

from training.crossval import cross_validate
from training.data import Dataset
from training.predict import Prediction
from training.run_folder import RunFolder

TOGETHER = (("volume-0", "volume-4"),)


def test_every_case_gets_a_prediction_from_outside_its_fold(
    tmp_path: Path, phantoms: Dataset
) -> None:
    """Also folds run one by one; those that are done are not done again."""
    config = tiny_config(epochs=1, same_patient=TOGETHER)
    told: list[str] = []
    kept = cross_validate(config, phantoms, tmp_path, folds=2, only=[1], tell=told.append)
    assert len(told) == 1
    assert told[0].startswith("fold 1 of 2: ")
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    cross_validate(config, phantoms, tmp_path, folds=2)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    for case in phantoms.cases:
        prediction = kept.prediction(case)
        assert prediction.labels.shape == (8, 64, 64)
        assert prediction.organ_probability is not None
        assert (prediction.organ_probability >= prediction.tumor_probability).all()
    trained = [set(RunFolder(tmp_path / f"fold-{n}").data()["cases"]) for n in (0, 1)]
    assert trained[0] | trained[1] == {case.name for case in phantoms.cases}
    assert not trained[0] & trained[1]
    assert [{"volume-0", "volume-4"} <= names for names in trained].count(True) == 1


def test_a_fold_that_there_is_not_is_refused(tmp_path: Path, phantoms: Dataset) -> None:
    """Before anything is trained."""
    with pytest.raises(ValueError, match=r"expected folds 0 to 1, found \[2\]"):
        cross_validate(tiny_config(), phantoms, tmp_path, folds=2, only=[2])
    assert not list(tmp_path.iterdir())


def test_prediction_is_kept_as_it_is(tmp_path: Path) -> None:
    """With and without the organ's probability; half a file is never there under its name."""
    labels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 3
    for organ in (None, labels * 100):
        path = tmp_path / "sub" / "case.npz"
        Prediction(labels, labels * 7, organ).save(path)
        read = Prediction.load(path)
        assert np.array_equal(read.labels, labels)
        assert np.array_equal(read.tumor_probability, labels * 7)
        if organ is None:
            assert read.organ_probability is None
        else:
            assert np.array_equal(read.organ_probability, organ)
        assert [item.name for item in path.parent.iterdir()] == ["case.npz"]


def test_fold_keeps_its_settings(tmp_path: Path, phantoms: Dataset) -> None:
    """What a fold was trained with stands in its folder."""
    config = tiny_config(epochs=1)
    cross_validate(config, phantoms, tmp_path, folds=2, only=[0])
    stored = json.loads((tmp_path / "fold-0" / "config.json").read_text())
    assert stored == config.model_dump(mode="json")
