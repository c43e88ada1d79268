"""Pairs of NIfTI volumes are taken whatever their orientation, or refused with names."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nifti_pairs import problems, rewritten

from service.phantom import Phantom
from service.phantom_files import nifti_bytes
from training.data import Dataset, open_dataset
from training.evaluation.decision import Space
from training.evaluation.evaluate import case_metrics


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


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("RGB", [(color, "u1") for color in "RGB"]), ("complex64", np.complex64)],
    ids=["RGB", "complex"],
)
def test_masks_of_no_plain_numbers_are_named(
    tmp_path: Path, phantom_folder: Path, kind: str, dtype: object
) -> None:
    """Beside every other bad one; an imaginary part is not lost without a word."""
    for path in phantom_folder.iterdir():
        shutil.copy(path, tmp_path)
    rewritten(tmp_path / "segmentation-0.nii", lambda labels: np.zeros(labels.shape, dtype))
    (tmp_path / "segmentation-1.nii").write_bytes(b"no NIfTI")
    assert problems(tmp_path, tmp_path / "prepared") == [
        f"volume-0: mask: expected integer or floating-point labels, found {kind}",
        "volume-1: mask: expected a NIfTI file, found a damaged one",
    ]


@pytest.mark.parametrize(
    ("change", "slope", "found"),
    [
        (lambda labels: labels.astype(np.float64) * 1e300, 3e38, "found also inf"),
        (lambda labels: np.where(labels > 0, np.inf, 0.0), 1, "found also inf"),
        (lambda labels: np.where(labels > 0, np.nan, 0.0), 1, "found also nan"),
        (lambda labels: labels[:0], 1, "mask: Expected"),
    ],
    ids=["slope", "infinite", "NaN", "empty"],
)
def test_masks_of_impossible_values_are_named(
    pair: Path,
    tmp_path: Path,
    change: Callable[[np.ndarray], np.ndarray],
    slope: float,
    found: str,
) -> None:
    """Whatever a header makes of the values, the case is named; warnings would fail this test."""
    rewritten(pair / "segmentation-0.nii", change, slope)
    (problem,) = problems(pair, tmp_path / "prepared")
    assert problem.startswith("volume-0: ")
    assert found in problem


def test_a_damaged_gzip_file_is_named(pair: Path, tmp_path: Path) -> None:
    """Wherever it is damaged: its frame, its end, or the packed bytes between."""
    for name in ("volume-0", "segmentation-0"):
        (pair / f"{name}.nii.gz").write_bytes(gzip.compress((pair / f"{name}.nii").read_bytes()))
        (pair / f"{name}.nii").unlink()
    whole = (pair / "volume-0.nii.gz").read_bytes()
    found = "volume-0: volume-0.nii.gz: expected a whole gzip file, found a damaged one"
    for damaged in (whole[1:], whole[:-9], whole[:20] + b"\xff" * 20 + whole[40:]):
        (pair / "volume-0.nii.gz").write_bytes(damaged)
        assert problems(pair, tmp_path / "prepared") == [found]


def test_one_slice_of_no_known_thickness_has_no_spacing(pair: Path, tmp_path: Path) -> None:
    """The decoder's 1 mm means nothing: nothing is measured in mm, and a notice is kept."""
    for name in ("volume-0.nii", "segmentation-0.nii"):
        rewritten(pair / name, lambda values: values[:, :, 4])
    case = open_dataset(pair, tmp_path / "prepared").cases[0]
    assert case.hu().shape == (1, 64, 64)
    assert case.spacing_mm is None
    assert [notice.code for notice in case.notices] == ["thickness_unknown"]
    found = case_metrics(case, case.labels(), case.labels(), Space())
    assert (found.liver.overlap.dice, found.liver.surface) == (1, None)


def test_notices_of_the_decoder_are_kept(pair: Path, tmp_path: Path) -> None:
    """Of the image; the next look, which decodes nothing, has them too."""
    assert open_dataset(pair, tmp_path / "prepared").cases[0].notices == ()
    rewritten(pair / "volume-0.nii", lambda hu: hu + np.int16(1024))
    for name in ("volume-0.nii", "segmentation-0.nii"):
        data = bytearray((pair / name).read_bytes())
        data[252:256] = bytes(4)  # qform_code and sform_code
        (pair / name).write_bytes(data)
    for _ in ("prepared now", "prepared before"):
        case = open_dataset(pair, tmp_path / "prepared").cases[0]
        codes = [notice.code for notice in case.notices]
        assert codes == ["orientation_unknown", "hu_range_unusual"]


def test_a_case_of_one_column_may_be_without_liver(pair: Path, tmp_path: Path) -> None:
    """A mask of one value is no damage, however few voxels an axis has."""
    rewritten(pair / "volume-0.nii", lambda hu: hu[32:33])
    rewritten(pair / "segmentation-0.nii", lambda labels: np.zeros_like(labels[32:33]))
    assert open_dataset(pair, tmp_path / "prepared").cases[0].labels().shape == (8, 64, 1)


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


def test_a_gzip_file_may_be_named_nii(pair: Path, tmp_path: Path) -> None:
    """As some tools write it; both files are read the same way."""
    first = open_dataset(pair, tmp_path / "prepared")
    for name in ("volume-0.nii", "segmentation-0.nii"):
        (pair / name).write_bytes(gzip.compress((pair / name).read_bytes()))
    assert open_dataset(pair, tmp_path / "prepared").sha256 == first.sha256
