"""Small data sets of known content."""

import csv
import shutil
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from training.data import Dataset
from training.data.nifti import read_nifti_folder
from training.phantom import write_phantoms


@pytest.fixture
def compiled() -> None:
    """For a test of more than a few steps, or of what becomes of the numbers in them."""


@pytest.fixture(autouse=True)
def few_steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps run one by one: TensorFlow takes 2 s to trace what two of them do in 0.1 s."""
    if "compiled" not in request.fixturenames:
        one_by_one = partialmethod(keras.Model.compile, run_eagerly=True)
        monkeypatch.setattr(keras.Model, "compile", one_by_one)


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five cases as LiTS lays them out, [8, 64, 64] each; volume-3 has no tumour."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, cases=5, slices=8, size=64)
    return folder


@pytest.fixture(scope="session")
def phantoms(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_nifti_folder(phantom_folder, tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def pair(tmp_path: Path, phantom_folder: Path) -> Path:
    """A folder of one case that the tests damage."""
    folder = tmp_path / "lits"
    folder.mkdir()
    for name in ("volume-0.nii", "segmentation-0.nii"):
        shutil.copy(phantom_folder / name, folder)
    return folder


@pytest.fixture
def write_slices(tmp_path: Path) -> Callable[..., Path]:
    """Writes two cases as a folder of slices: with tumour, liver only, and neither."""

    def write() -> Path:
        rows = []
        for case, split, around in (("volume-000", "train", 30), ("volume-001", "val", 31)):
            (tmp_path / case).mkdir()
            for index, (liver, tumor) in enumerate(((40, 10), (40, 0), (0, 0))):
                grey, labels = _slice(liver, tumor, around)
                lossless = [cv2.IMWRITE_WEBP_QUALITY, 101]
                cv2.imwrite(str(tmp_path / case / f"{index:03d}.webp"), grey, lossless)
                cv2.imwrite(str(tmp_path / case / f"{index:03d}.png"), labels)
                rows.append([case, index, split, int((labels > 0).sum()), (labels == 2).sum()])
        with (tmp_path / "manifest.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["volume", "slice", "split", "liver_or_tumour_pixels", "tumour_pixels"])
            writer.writerows(rows)
        return tmp_path

    return write


def _slice(liver: int, tumor: int, around: int) -> tuple[np.ndarray, np.ndarray]:
    grey, labels = np.full((128, 128), around, np.uint8), np.zeros((128, 128), np.uint8)
    grey[20 : 20 + liver, 10:60] = 160
    labels[20 : 20 + liver, 10:60] = 1
    grey[24 : 24 + tumor, 20:30] = 90
    labels[24 : 24 + tumor, 20:30] = 2
    return grey, labels
