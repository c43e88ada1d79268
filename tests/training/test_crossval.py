"""Cross-validation labels every case by a network that never saw its patient."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_training import tiny_config

from training.crossval import OutOfFold, cross_validate
from training.data import Dataset
from training.folds import make_folds
from training.prediction import Prediction
from training.run_folder import AnotherRun, RunFolder, load_network

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


def test_folds_of_two_divisions_are_never_mixed(tmp_path: Path, phantoms: Dataset) -> None:
    """Another number of folds, other settings or other cases are refused, and nothing is written.

    Also those of which no fold has been run yet: `fold-2` is new to a folder of two folds.
    """
    config = tiny_config(epochs=1)
    folds = make_folds(phantoms, {case.name: case.name for case in phantoms.cases}, 2)
    OutOfFold(tmp_path).claim(config, folds)
    before = sorted(tmp_path.rglob("*"))
    for what, which, other in (
        ("cross-validation", "cases, folds", (config, phantoms, tmp_path, 3, [2])),
        ("configuration", "epochs", (tiny_config(epochs=2), phantoms, tmp_path, 2, [0])),
        ("cross-validation", "cases",
         (config, phantoms.only({"volume-0", "volume-1"}), tmp_path, 2, [0])),
    ):  # fmt: skip
        with pytest.raises(AnotherRun, match=rf"of this {what}, found another \({which}\)"):
            cross_validate(*other)
    assert sorted(tmp_path.rglob("*")) == before


def test_held_out_cases_choose_nothing(
    tmp_path: Path, phantoms: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are looked at as the settings say, but neither stop a fold nor pick its network."""
    looks = iter([0.9, 0.1, 0.1])
    monkeypatch.setattr(
        "training.validate.mean_dice",
        lambda *_: {"liver_dice": 0.5, "tumor_dice": next(looks)},
    )
    config = tiny_config(epochs=3, validation={"every_epochs": 1, "patience": 1})
    kept = cross_validate(config, phantoms, tmp_path, folds=2, only=[0])
    assert [line["tumor_dice"] for line in kept.fold(0).logged()] == [0.9, 0.1, 0.1]
    last = load_network(kept.fold(0).checkpoint_path).get_weights()
    for one, other in zip(last, load_network(kept.fold(0).model_path).get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_predictions_are_those_of_this_network_and_case(tmp_path: Path, phantoms: Dataset) -> None:
    """A fold that is run anew leaves none of what an earlier network said, and what was said of one
    `volume-0` is not measured on another.
    """
    config = tiny_config(epochs=1)
    folds = make_folds(phantoms, {case.name: case.name for case in phantoms.cases}, 2)
    case = folds[0].held_out.cases[0]
    nonsense = np.full((8, 64, 64), 2, np.uint8)
    Prediction(nonsense, nonsense).save(OutOfFold(tmp_path).prediction_path(case))
    kept = cross_validate(config, phantoms, tmp_path, folds=2, only=[0])
    assert not (kept.prediction(case).labels == 2).all()
    with pytest.raises(ValueError, match=f"{case.name}: expected the case of the cross-validation"):
        kept.prediction(replace(case, sha256="another"))


def test_a_fold_that_cannot_learn_is_named(tmp_path: Path, phantoms: Dataset) -> None:
    """Before anything is trained."""
    with pytest.raises(ValueError, match="fold 0 of 2: expected slices with tumour"):
        cross_validate(tiny_config(), phantoms.only({"volume-0", "volume-3"}), tmp_path, 2)
    assert not list(tmp_path.iterdir())


def test_a_patient_in_two_folds_is_refused(
    tmp_path: Path, phantoms: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the folds were made."""
    together = tiny_config(same_patient=TOGETHER)
    apart = make_folds(phantoms, {case.name: case.name for case in phantoms.cases}, 5)
    monkeypatch.setattr("training.crossval.make_folds", lambda *_: apart)
    with pytest.raises(ValueError, match="expected each patient on one side"):
        cross_validate(together, phantoms, tmp_path, 5)
    assert not list(tmp_path.iterdir())
