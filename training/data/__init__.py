"""Labelled CT volumes for training: LiTS and Decathlon folders of NIfTI, or a folder of slices."""

from pathlib import Path

from training.data.case import Case, Dataset, LabelledSlice
from training.data.nifti import read_nifti_folder
from training.data.pairs import find_pairs
from training.data.slice_folder import MANIFEST, read_slice_folder

__all__ = ["Case", "Dataset", "LabelledSlice", "open_dataset"]


def open_dataset(folder: Path, prepared: Path) -> Dataset:
    """Open a data set of any of the known layouts, by what the folder holds, and check all of it.

    NIfTI volumes are turned and unpacked once, into `prepared`. Raises `BadDataset`, which names
    every bad case.
    """
    if (folder / MANIFEST).exists():
        return read_slice_folder(folder)
    return read_nifti_folder(find_pairs(folder), prepared)
