"""Series of phantom slices to damage, and their bytes."""

import io
import zipfile
from collections.abc import Iterable

from highdicom import Volume
from pydicom import Dataset

from service.phantom_files import ct_datasets


def series(volume: Volume, seed: int = 0) -> list[Dataset]:
    """Datasets of the volume's slices, ready to be changed."""
    return ct_datasets(volume, seed)


def to_bytes(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def to_zip(files: Iterable[bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, data in enumerate(files):
            archive.writestr(f"series/{index:04d}", data)
    return buffer.getvalue()


def zip_of(datasets: Iterable[Dataset]) -> bytes:
    return to_zip(to_bytes(dataset) for dataset in datasets)
