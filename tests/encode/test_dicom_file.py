"""Large files are written faster, and are the same."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from dicom_files import to_bytes
from encode.test_outputs import dicom_result, result_of
from fakes import by_threshold
from highdicom import Volume
from multiframe_files import enhanced
from pydicom import Dataset

from service import pipeline
from service.encode import dicom_seg
from service.encode.dicom_file import dicom_file

SOURCES: dict[str, Callable[[Volume], pipeline.Result]] = {
    "ordinary": lambda volume: dicom_result(volume, by_threshold)[0],
    "multi-frame": lambda volume: result_of([to_bytes(enhanced(volume))]),
    "nothing found": lambda volume: dicom_result(volume, lambda hu: np.zeros(hu.shape))[0],
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["seg", "labelmap"])
def test_the_bytes_are_those_of_pydicom(
    clean_volume: Volume, monkeypatch: pytest.MonkeyPatch, name: str, source: str
) -> None:
    """Of the very dataset that is written: frames that share items, and compressed pixels."""
    made: list[Dataset] = []

    def keep(seg: Dataset) -> bytes:
        made.append(seg)
        return dicom_file(seg)

    monkeypatch.setattr(dicom_seg, "dicom_file", keep)
    ((_, written),) = pipeline.dicom_object(SOURCES[source](clean_volume), name)
    buffer = io.BytesIO()
    made[0].save_as(buffer)
    assert written == buffer.getvalue()
