"""The SEG of a multi-frame source refers to its frames."""

import io
from pathlib import Path

import highdicom
import numpy as np
import pytest
from dicom_files import to_bytes
from encode.objects import errors_in
from encode.test_outputs import expected_segments, result_of
from highdicom import Volume
from multiframe_files import enhanced
from pydicom import Dataset, dcmread

from service import pipeline


@pytest.fixture(scope="module")
def sources(clean_volume: Volume) -> list[Dataset]:
    """A concatenation: two instances of one series, the second one's frames in reverse."""
    first, second = (
        enhanced(clean_volume[:20], seed=1),
        enhanced(clean_volume[20:], seed=2, order=range(15, -1, -1)),
    )
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        setattr(second, keyword, getattr(first, keyword))
    return [first, second]


@pytest.fixture(scope="module")
def result(sources: list[Dataset]) -> pipeline.Result:
    return result_of([to_bytes(item) for item in sources])


def test_reads_back_on_the_source_grid(result: pipeline.Result) -> None:
    """highdicom reads the segments back, voxel for voxel."""
    seg = highdicom.seg.segread(io.BytesIO(pipeline.dicom_seg(result)))
    found = seg.get_volume(combine_segments=True).match_geometry(result.segmentation.scan.volume)
    assert np.array_equal(found.array, expected_segments(result))


def test_names_instance_and_frame(result: pipeline.Result, sources: list[Dataset]) -> None:
    """Each SEG frame refers to the source's frame at its position, and the series to both."""
    positions = {
        (str(whole.SOPInstanceUID), number): groups.PlanePositionSequence[0].ImagePositionPatient
        for whole in sources
        for number, groups in enumerate(whole.PerFrameFunctionalGroupsSequence, start=1)
    }
    seg = dcmread(io.BytesIO(pipeline.dicom_seg(result)))
    for groups in seg.PerFrameFunctionalGroupsSequence:
        (image,) = groups.DerivationImageSequence[0].SourceImageSequence
        expected = positions[str(image.ReferencedSOPInstanceUID), image.ReferencedFrameNumber]
        found = groups.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose([float(x) for x in found], [float(x) for x in expected], atol=0.01)
        assert image.ReferencedSOPClassUID == sources[0].SOPClassUID
    (series,) = seg.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == [
        whole.SOPInstanceUID for whole in sources
    ]


def test_validates(result: pipeline.Result, tmp_path: Path) -> None:
    """dciodvfy finds no error."""
    assert errors_in(pipeline.dicom_seg(result), "Segmentation", tmp_path) == []
