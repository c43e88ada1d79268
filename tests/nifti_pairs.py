"""Files of NIfTI that tests change, and what a data set says of them."""

import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from training.data import open_dataset
from training.data.problems import BadDataset


def problems(folder: Path, prepared: Path) -> list[str]:
    with pytest.raises(BadDataset) as caught:
        open_dataset(folder, prepared)
    return [str(problem) for problem in caught.value.problems]


def rewritten(path: Path, change: Callable[[np.ndarray], np.ndarray], slope: float = 1) -> None:
    """The file with other values, which its header scales by `slope`."""
    image = nibabel.Nifti1Image.from_bytes(path.read_bytes())
    header = image.header.copy()
    values = change(np.asarray(image.dataobj))
    header.set_data_dtype(values.dtype)
    data = bytearray(nibabel.Nifti1Image(values, None, header).to_bytes())
    data[112:120] = struct.pack("<ff", slope, 0)
    path.write_bytes(data)
