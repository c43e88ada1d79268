"""The pairs of LiTS and Decathlon folders are found, or what is amiss is named."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
from nifti_pairs import problems

from training.data import open_dataset
from training.data.pairs import find_pairs


def test_decathlon_layout(tmp_path: Path, phantom_folder: Path) -> None:
    """`dataset.json` names the pairs and what the labels mean."""
    for folder, source in (("imagesTr", "volume-1.nii"), ("labelsTr", "segmentation-1.nii")):
        (tmp_path / folder).mkdir()
        data = (phantom_folder / source).read_bytes()
        (tmp_path / folder / "liver_1.nii.gz").write_bytes(gzip.compress(data))
    description = {
        "labels": {"0": "background", "1": "liver", "2": "cancer"},
        "training": [{"image": "./imagesTr/liver_1.nii.gz", "label": "./labelsTr/liver_1.nii.gz"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    prepared = tmp_path / "prepared"
    assert [case.name for case in open_dataset(tmp_path, prepared).cases] == ["liver_1"]

    once = description["training"]
    description["training"] = [*once, *once]
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    assert problems(tmp_path, prepared) == ["liver_1: expected each image once, found it twice"]
    description["training"] = once
    (tmp_path / "dataset.json").write_text(json.dumps(description))

    shutil.copy(tmp_path / "imagesTr/liver_1.nii.gz", tmp_path / "imagesTr/liver_2.nii.gz")
    assert problems(tmp_path, prepared) == ["liver_2.nii.gz: dataset.json does not name it"]
    (tmp_path / "imagesTr/liver_2.nii.gz").unlink()
    (tmp_path / "labelsTr/liver_1.nii.gz").unlink()
    assert problems(tmp_path, prepared) == ["liver_1: the mask is missing"]
    description["labels"] = {"0": "background", "1": "vessel", "2": "tumour"}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    assert "expected 1 liver and 2 tumour" in problems(tmp_path, prepared)[0]


@pytest.mark.parametrize("name", ["Tumour", "liver tumor", "cancer", "Lesions", None])
def test_what_a_tumour_may_be_called(tmp_path: Path, name: str | None) -> None:
    """The task's second label, in small or capital letters; or the data have none."""
    described = {
        "labels": {"1": "Liver"} | ({} if name is None else {"2": name}),
        "training": [{"image": "image.nii", "label": "label.nii"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    for file in ("image.nii", "label.nii"):
        (tmp_path / file).touch()
    assert [pair.name for pair in find_pairs(tmp_path)[0]] == ["image"]


@pytest.mark.parametrize("name", ["vessel", "spleen", ""])
def test_another_second_label_is_refused(tmp_path: Path, name: str) -> None:
    """A network would learn vessels as tumours."""
    labels = {"0": "background", "1": "liver", "2": name}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "training": []}))
    assert problems(tmp_path, tmp_path) == [
        f"dataset.json: expected 1 liver and 2 tumour, found 0 background, 1 liver, 2 {name}"
    ]


def test_what_has_no_pair_is_named(pair: Path, tmp_path: Path) -> None:
    """A volume without a mask, a mask without a volume, and a folder without any."""
    (pair / "volume-0.nii").rename(pair / "volume-1.nii")
    assert problems(pair, tmp_path / "prepared") == [
        "volume-1: the mask is missing",
        "segmentation-0: the volume is missing",
    ]
    (tmp_path / "empty").mkdir()
    assert "expected volume-N.nii with segmentation-N.nii" in problems(tmp_path / "empty", pair)[0]
    assert "found none" in problems(tmp_path / "nowhere", pair)[0]


def test_names_are_whole_and_files_of_others_are_passed_over(
    pair: Path, tmp_path: Path, phantom_folder: Path
) -> None:
    """A name may hold blanks; hidden copies, folders and a test set's volumes are no cases."""
    for kind in ("volume", "segmentation"):
        shutil.copy(phantom_folder / f"{kind}-1.nii", pair / f"{kind}-5 b-2.nii")
        (pair / f"._{kind}-0.nii").write_bytes(b"of another system")
        (pair / f"{kind}-7.nii").mkdir()
    shutil.copy(pair / "volume-0.nii", pair / "test-volume-0.nii")
    cases = open_dataset(pair, tmp_path / "prepared").cases
    assert [case.name for case in cases] == ["volume-0", "volume-5 b-2"]


@pytest.mark.parametrize("name", ["liver tumour", "liver_lesion", "parenchyma"])
def test_a_first_label_that_is_no_liver_is_refused(tmp_path: Path, name: str) -> None:
    """A data set of lesions alone would be learned as one of livers."""
    labels = {"0": "background", "1": name}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "training": []}))
    assert problems(tmp_path, tmp_path) == [
        f"dataset.json: expected 1 liver and 2 tumour, found 0 background, 1 {name}"
    ]


def test_a_missing_file_hides_no_bad_one(pair: Path, tmp_path: Path, phantom_folder: Path) -> None:
    """Whole pairs are read although another one is not whole."""
    shutil.copy(phantom_folder / "volume-1.nii", pair)
    (pair / "segmentation-0.nii").write_bytes(b"damaged")
    assert problems(pair, tmp_path / "prepared") == [
        "volume-1: the mask is missing",
        "volume-0: mask: expected a NIfTI file, found a damaged one",
    ]


def test_a_case_under_two_names_is_refused(pair: Path, tmp_path: Path) -> None:
    """Folds would learn from the one and be measured on the other; links and gzip hide nothing."""
    for kind in ("volume", "segmentation"):
        (pair / f"{kind}-2.nii").symlink_to(pair / f"{kind}-0.nii")
        (pair / f"{kind}-7.nii.gz").write_bytes(
            gzip.compress((pair / f"{kind}-0.nii").read_bytes())
        )
    assert problems(pair, tmp_path / "prepared") == [
        "volume-2: expected another case, found volume-0 once more",
        "volume-7: expected another case, found volume-0 once more",
    ]
