"""Labelled CT volumes for training: LiTS and Decathlon folders of NIfTI, or a folder of slices."""

from pathlib import Path

from training.data.case import Case, Dataset, LabelledSlice
from training.data.nifti import read_nifti_folder
from training.data.problems import BadDataset, Problem
from training.data.slice_folder import MANIFEST, read_slice_folder

__all__ = ["Case", "Dataset", "LabelledSlice", "open_dataset"]


def open_dataset(folder: Path, prepared: Path) -> Dataset:
    """Open a data set of any of the known layouts, by what the folder holds, and check all of it.

    NIfTI volumes are turned and unpacked once, into `prepared`. Raises `BadDataset`, which names
    every bad case.
    """
    is_slices = (folder / MANIFEST).exists()
    found = read_slice_folder(folder) if is_slices else read_nifti_folder(folder, prepared)
    _check_each_once(found)
    return found


def _check_each_once(data: Dataset) -> None:
    """Raises `BadDataset` for a case that is there under two names: folds would part them."""
    first: dict[str, str] = {}
    problems = []
    for case in data.cases:
        twin = first.setdefault(case.sha256, case.name)
        if twin != case.name:
            problems.append(Problem(case.name, f"expected another case, found {twin} once more"))
    if problems:
        raise BadDataset(problems)
