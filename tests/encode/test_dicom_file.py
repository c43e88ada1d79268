"""Large files are written faster, and are the same."""

import io

import pytest
from encode.test_outputs import dicom_result
from highdicom import Volume
from pydicom import dcmread

from service import pipeline
from service.encode.dicom_file import dicom_file


@pytest.mark.parametrize("name", ["seg", "labelmap", "sr"])
def test_the_bytes_are_those_of_pydicom(clean_volume: Volume, name: str) -> None:
    """With frames that share items, with compressed pixels, and without either."""
    result, _ = dicom_result(clean_volume)
    (written,) = (data for _, data in pipeline.dicom_object(result, name))
    buffer = io.BytesIO()
    dcmread(io.BytesIO(written)).save_as(buffer, enforce_file_format=True)
    assert buffer.getvalue() == written
    assert dicom_file(dcmread(io.BytesIO(written))) == written
