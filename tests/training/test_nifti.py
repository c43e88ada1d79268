"""Folders of NIfTI volumes are taken whatever their orientation, or refused with names."""

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from service.phantom import Phantom
from service.phantom_files import nifti_bytes
from training.data import Dataset, open_dataset
from training.data.problems import BadDataset


def problems(folder: Path, prepared: Path) -> list[str]:
    with pytest.raises(BadDataset) as caught:
        open_dataset(folder, prepared)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def pair(tmp_path: Path, phantom_folder: Path) -> Path:
    """A folder of one case that the tests damage."""
    folder = tmp_path / "lits"
    folder.mkdir()
    for name in ("volume-0.nii", "segmentation-0.nii"):
        shutil.copy(phantom_folder / name, folder)
    return folder


def test_a_case_is_what_was_written(phantoms: Dataset) -> None:
    """Hounsfield units and labels of every slice, spacing, and counts that include tumour."""
    hu, labels = Phantom.draw(0).sample(8, 64, 0)
    case = phantoms.cases[0]
    assert case.name == "volume-0"
    assert np.array_equal(case.hu(), np.maximum(np.asarray(hu.array), -1024))
    assert np.array_equal(case.labels(), np.asarray(labels.array))
    assert case.spacing_mm == pytest.approx((180 / 8, 400 / 64, 400 / 64))
    assert case.liver_px == (np.asarray(labels.array) > 0).sum()
    assert [case.tumor_px > 0 for case in phantoms.cases] == [True, True, True, False, True]


@pytest.mark.parametrize("orientation", ["FAR", "RHP", "LAF", "PHL"])
def test_orientation_makes_no_difference(tmp_path: Path, orientation: str) -> None:
    """A pair stored in another orientation, gzipped, is the same case."""
    hu, labels = Phantom.draw(1).sample(8, 64, 1)
    for name, volume in (("volume-9", hu), ("segmentation-9", labels)):
        turned = nifti_bytes(volume.to_patient_orientation(orientation))
        (tmp_path / f"{name}.nii.gz").write_bytes(gzip.compress(turned))
    case = open_dataset(tmp_path, tmp_path / "prepared").cases[0]
    assert np.array_equal(case.labels(), np.asarray(labels.array))
    assert case.spacing_mm == pytest.approx((180 / 8, 400 / 64, 400 / 64))


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


def test_prepared_files_are_made_once_and_follow_their_source(pair: Path, tmp_path: Path) -> None:
    """A second look reads nothing anew; another source is another case."""
    prepared = tmp_path / "prepared"
    first = open_dataset(pair, prepared)
    made = {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}
    assert open_dataset(pair, prepared).sha256 == first.sha256
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*")} == made
    image = nibabel.load(pair / "volume-0.nii")
    changed = np.asarray(image.dataobj).copy()  # type: ignore[attr-defined]
    changed[0, 0, 0] += 1
    nibabel.save(nibabel.Nifti1Image(changed, image.affine), pair / "volume-0.nii")  # type: ignore[attr-defined]
    assert open_dataset(pair, prepared).sha256 != first.sha256


def test_half_prepared_files_are_made_anew(pair: Path, tmp_path: Path) -> None:
    """A preparation that was killed leaves no case behind."""
    prepared = tmp_path / "prepared"
    first = open_dataset(pair, prepared)
    (next(prepared.iterdir()) / "case.json").unlink()
    (next(prepared.iterdir()) / "hu.npy").write_bytes(b"half")
    again = open_dataset(pair, prepared)
    assert np.array_equal(again.cases[0].hu(), first.cases[0].hu())


def test_every_bad_pair_is_named(tmp_path: Path, phantom_folder: Path) -> None:
    """Other labels, another shape, another place, a damaged file: all at once, by case."""
    for path in phantom_folder.iterdir():
        shutil.copy(path, tmp_path)
    hu, labels = Phantom.draw(0).sample(8, 64, 0)
    wrong = np.asarray(labels.array).copy()
    wrong[0, 0, 0] = 3
    moved = labels.affine.copy()
    moved[2, 3] += 5
    from highdicom import Volume

    (tmp_path / "segmentation-0.nii").write_bytes(nifti_bytes(labels.with_array(wrong)))
    (tmp_path / "segmentation-1.nii").write_bytes(nifti_bytes(labels[:7]))
    (tmp_path / "segmentation-2.nii").write_bytes(
        nifti_bytes(Volume(np.asarray(labels.array), moved, "PATIENT"))
    )
    (tmp_path / "volume-3.nii").write_bytes(nifti_bytes(hu)[:5000])
    (tmp_path / "segmentation-4.nii").write_bytes(b"no NIfTI")
    found = problems(tmp_path, tmp_path / "prepared")
    assert found[0] == (
        "volume-0: expected the labels 0 background, 1 liver, 2 tumour, found also 3"
    )
    assert found[1].startswith("volume-1: expected a mask of the image's shape (8, 64, 64), found")
    assert found[2] == "volume-2: expected a mask where the image is, found it 5.0 mm away"
    assert found[3].startswith("volume-3: image: Expected a whole NIfTI file")
    assert found[4] == "volume-4: mask: expected a NIfTI file, found a damaged one"


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


def rewritten(path: Path, change: Callable[[np.ndarray], np.ndarray], slope: float = 1) -> None:
    """The file with other values, which its header scales by `slope`."""
    image = nibabel.Nifti1Image.from_bytes(path.read_bytes())
    header = image.header.copy()
    values = change(np.asarray(image.dataobj))
    header.set_data_dtype(values.dtype)
    data = bytearray(nibabel.Nifti1Image(values, None, header).to_bytes())
    data[112:120] = struct.pack("<ff", slope, 0)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "slope"),
    [
        (lambda labels: labels.astype(np.float32), 1),
        (lambda labels: labels.astype(np.float64) + 1e-7, 1),
        (lambda labels: (labels * 100).astype(np.uint8), 0.01),
    ],
    ids=["float", "rounded", "scaled"],
)
def test_labels_may_be_stored_as_other_numbers(
    pair: Path, tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], slope: float
) -> None:
    """As floating-point numbers, or scaled by the header, whose slope is rounded."""
    before = open_dataset(pair, tmp_path / "prepared").cases[0].labels()
    rewritten(pair / "segmentation-0.nii", change, slope)
    after = open_dataset(pair, tmp_path / "prepared").cases[0].labels()
    assert np.array_equal(before, after)


def test_half_a_label_is_none(pair: Path, tmp_path: Path) -> None:
    """What interpolation leaves behind is not rounded away."""
    rewritten(pair / "segmentation-0.nii", lambda labels: labels.astype(np.float32) * 0.75)
    assert "found also 0.75, 1.5" in problems(pair, tmp_path / "prepared")[0]


def test_a_case_without_liver_is_a_case(pair: Path, tmp_path: Path) -> None:
    """LiTS has one: its mask is 0 everywhere."""
    rewritten(pair / "segmentation-0.nii", np.zeros_like)
    case = open_dataset(pair, tmp_path / "prepared").cases[0]
    assert (case.liver_px, case.labels().max()) == (0, 0)


def test_mask_may_be_stored_in_another_orientation(pair: Path, tmp_path: Path) -> None:
    """What counts is where its voxels lie in the patient."""
    before = open_dataset(pair, tmp_path / "prepared").cases[0].labels()
    labels = Phantom.draw(0).sample(8, 64, 0)[1]
    turned = nifti_bytes(labels.to_patient_orientation("LAF"))
    (pair / "segmentation-0.nii").write_bytes(turned)
    assert np.array_equal(open_dataset(pair, tmp_path / "prepared").cases[0].labels(), before)


def test_names_are_whole_and_files_of_others_are_passed_over(pair: Path, tmp_path: Path) -> None:
    """A name may hold blanks; hidden copies, folders and a test set's volumes are no cases."""
    for kind in ("volume", "segmentation"):
        shutil.copy(pair / f"{kind}-0.nii", pair / f"{kind}-5 b-2.nii")
        (pair / f"._{kind}-0.nii").write_bytes(b"of another system")
        (pair / f"{kind}-7.nii").mkdir()
    shutil.copy(pair / "volume-0.nii", pair / "test-volume-0.nii")
    cases = open_dataset(pair, tmp_path / "prepared").cases
    assert [case.name for case in cases] == ["volume-0", "volume-5 b-2"]
