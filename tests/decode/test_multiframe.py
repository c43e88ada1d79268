"""Enhanced and legacy-converted CT are read through their functional groups."""

import imagecodecs
import numpy as np
import pytest
from dicom_files import series, to_bytes
from fakes import FakeSegmenter, by_threshold
from highdicom import Volume
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from multiframe_files import enhanced, set_group, stored
from pydicom import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import HTJ2KLossless, generate_uid

from service import pipeline
from service.decode import decode
from service.decode.options import DecodeOptions
from service.errors import (
    BadRequest,
    DuplicateSlices,
    InconsistentSeries,
    NoGeometry,
    UnevenSliceSpacing,
    UnreadableFile,
    UnsupportedPixels,
)
from service.settings import Settings


def read(datasets: list[Dataset], options: DecodeOptions) -> np.ndarray:
    return np.asarray(decode([to_bytes(item) for item in datasets], options).volume.array)


def test_enhanced(clean_volume: Volume, options: DecodeOptions) -> None:
    """Frames are sorted by their positions; headers name the one instance and each frame."""
    order = [4, 0, 2, 5, 1, 3]
    whole = enhanced(clean_volume[:6], order=order)
    scan = decode([to_bytes(whole)], options)
    assert np.array_equal(scan.volume.array, clean_volume.array[:6])
    assert np.allclose(scan.volume.affine, clean_volume.affine, atol=1e-4)
    assert scan.source.sop_instance_uids == (str(whole.SOPInstanceUID),) * 6
    assert [order[number - 1] for number in scan.source.frame_numbers] == [0, 1, 2, 3, 4, 5]


def test_legacy_converted(clean_volume: Volume, options: DecodeOptions) -> None:
    """What highdicom makes of single-frame slices has the slices' values and geometry."""
    whole = LegacyConvertedEnhancedCTImage(
        series(clean_volume[:6]), generate_uid(), 1, generate_uid(), 1
    )
    scan = decode([to_bytes(whole)], options)
    assert np.array_equal(scan.volume.array, clean_volume.array[:6])
    assert np.allclose(scan.volume.affine, clean_volume.affine, atol=1e-4)


def test_a_frame_overrides_what_is_shared(clean_volume: Volume, options: DecodeOptions) -> None:
    """Rescale and padding of each frame; a group per frame wins over the shared one."""
    whole = enhanced(clean_volume[:6])
    values = stored(whole)
    values[2] = values[2] * 2 + 100
    values[3, :10] = 7
    whole.PixelData = values.tobytes()
    whole.add_new("PixelPaddingValue", "US", 7)
    set_group(whole.PerFrameFunctionalGroupsSequence[2], "PixelValueTransformationSequence",
              RescaleSlope="0.5", RescaleIntercept=str(-1024 - 50), RescaleType="HU")  # fmt: skip
    expected = np.asarray(clean_volume.array[:6]).copy()
    expected[3, :10] = -1024
    assert np.array_equal(read([whole], options), expected)


@pytest.mark.parametrize("how", ["basic offset table", "no table", "extended offset table"])
def test_compressed_frames(clean_volume: Volume, options: DecodeOptions, how: str) -> None:
    """Each frame a fragment, found by either table or by counting."""
    whole = enhanced(clean_volume[:6])
    frames = [imagecodecs.htj2k_encode(frame) for frame in stored(whole)]
    if how == "extended offset table":
        whole.PixelData, whole.ExtendedOffsetTable, whole.ExtendedOffsetTableLengths = (
            encapsulate_extended(frames)
        )
    else:
        whole.PixelData = encapsulate(frames, has_bot=how == "basic offset table")
    whole["PixelData"].VR = "OB"
    whole["PixelData"].is_undefined_length = True
    whole.file_meta.TransferSyntaxUID = HTJ2KLossless
    assert np.array_equal(read([whole], options), clean_volume.array[:6])


def test_concatenation(clean_volume: Volume, options: DecodeOptions) -> None:
    """Several instances of one series are one volume, in whatever order they come."""
    first, second = enhanced(clean_volume[:4], seed=1), enhanced(clean_volume[4:9], seed=2)
    second.SeriesInstanceUID, second.StudyInstanceUID, second.FrameOfReferenceUID = (
        first.SeriesInstanceUID, first.StudyInstanceUID, first.FrameOfReferenceUID
    )  # fmt: skip
    scan = decode([to_bytes(second), to_bytes(first)], options)
    assert np.array_equal(scan.volume.array, clean_volume.array[:9])
    assert scan.source.sop_instance_uids[3:5] == (first.SOPInstanceUID, second.SOPInstanceUID)
    assert scan.source.frame_numbers == (1, 2, 3, 4, 1, 2, 3, 4, 5)


def test_single_frames_beside_multi_frame(clean_volume: Volume, options: DecodeOptions) -> None:
    """One series never holds both."""
    whole, single = enhanced(clean_volume[:6]), series(clean_volume[6:7], seed=2)[0]
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        setattr(single, keyword, getattr(whole, keyword))
    for groups in whole.PerFrameFunctionalGroupsSequence:
        del groups.FrameContentSequence  # with its StackID, which would tell them apart
    with pytest.raises(InconsistentSeries, match="found both"):
        decode([to_bytes(whole), to_bytes(single)], options)


def test_localiser_frames_are_left_out(clean_volume: Volume, options: DecodeOptions) -> None:
    """A frame says by its type that it is a localiser."""
    whole = enhanced(clean_volume[:7])
    set_group(whole.PerFrameFunctionalGroupsSequence[6], "CTImageFrameTypeSequence",
              FrameType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"])  # fmt: skip
    scan = decode([to_bytes(whole)], options)
    assert np.array_equal(scan.volume.array, clean_volume.array[:6])
    assert [notice.code for notice in scan.notices] == ["objects_left_out"]


def test_several_stacks_are_like_several_series(
    clean_volume: Volume, options: DecodeOptions
) -> None:
    """The stack with most frames is taken, the other one named."""
    whole = enhanced(clean_volume[:9])
    for groups in whole.PerFrameFunctionalGroupsSequence[:3]:
        set_group(groups, "FrameContentSequence", StackID="2")
    scan = decode([to_bytes(whole)], options)
    assert np.array_equal(scan.volume.array, clean_volume.array[3:9])
    assert [notice.code for notice in scan.notices] == ["other_series"]


def test_temporal_positions(clean_volume: Volume, options: DecodeOptions) -> None:
    """Of several phases in one instance the first is taken, with a warning."""
    whole = enhanced(clean_volume[:6])
    groups = whole.PerFrameFunctionalGroupsSequence
    for index in range(6):
        set_group(groups[index], "FrameContentSequence", TemporalPositionIndex=1 + index // 3)
        set_group(groups[index], "PlanePositionSequence",
                  ImagePositionPatient=[0, 0, 5 * (index % 3)])  # fmt: skip
    scan = decode([to_bytes(whole)], options)
    assert np.array_equal(scan.volume.array, clean_volume.array[:3])
    (notice,) = scan.notices
    assert notice.code == "other_acquisitions"
    assert "temporal position 1 (3 slices) was segmented, not temporal position 2" in notice.message


def _no_groups(whole: Dataset) -> None:
    del whole.PerFrameFunctionalGroupsSequence


def _fewer_groups(whole: Dataset) -> None:
    del whole.PerFrameFunctionalGroupsSequence[2]


def _many_frames(whole: Dataset) -> None:
    whole.NumberOfFrames = 2_000_000_000


def _no_position(whole: Dataset) -> None:
    del whole.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence


def _same_position(whole: Dataset) -> None:
    groups = whole.PerFrameFunctionalGroupsSequence
    groups[2].PlanePositionSequence = groups[1].PlanePositionSequence


def _short(whole: Dataset) -> None:
    whole.PixelData = whole.PixelData[: 96 * 96 * 2 * 4]


def _not_hu(whole: Dataset) -> None:
    set_group(whole.PerFrameFunctionalGroupsSequence[2], "PixelValueTransformationSequence",
              RescaleSlope=1, RescaleIntercept=0, RescaleType="Z_EFF")  # fmt: skip


def _gap(whole: Dataset) -> None:
    groups = whole.PerFrameFunctionalGroupsSequence
    x, y, z = groups[5].PlanePositionSequence[0].ImagePositionPatient
    groups[5].PlanePositionSequence[0].ImagePositionPatient = [x, y, z + 5]


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_no_groups, UnreadableFile, "each of 6 frames.* instance 1"),
        (_fewer_groups, UnreadableFile, "each of 6 frames.* instance 1"),
        (_many_frames, UnreadableFile, "instance 1"),
        (_no_position, NoGeometry, "ImagePositionPatient .* slice 1 frame 3"),
        (_same_position, DuplicateSlices, "slices 1 frame 2 and 1 frame 3"),
        (_short, UnreadableFile, "cut off at 0 in slice 1 frame 5"),
        (_not_hu, UnsupportedPixels, "RescaleType Z_EFF in slice 1 frame 3"),
        (_gap, UnevenSliceSpacing, "between slices 1 frame 5 and 1 frame 6"),
    ],
)
def test_damage_is_refused(
    clean_volume: Volume, options: DecodeOptions, damage: object, error: type, message: str
) -> None:
    """Each defect names the frame."""
    whole = enhanced(clean_volume[:6])
    damage(whole)
    with pytest.raises(error, match=message) as raised:
        decode([to_bytes(whole)], options)
    assert isinstance(raised.value, BadRequest)


def test_the_whole_answer(clean_volume: Volume) -> None:
    """Findings of a multi-frame source are those of its slices, and name its instance."""
    model = FakeSegmenter(by_threshold)
    whole = enhanced(clean_volume)
    results = [
        pipeline.run(files, pipeline.Options(), model, Settings())
        for files in ([to_bytes(whole)], [to_bytes(item) for item in series(clean_volume)])
    ]
    documents = [pipeline.result_document(result) for result in results]
    assert documents[0].findings.liver == documents[1].findings.liver
    assert set(documents[0].source.sop_instance_uids) == {str(whole.SOPInstanceUID)}
    assert documents[0].source.frame_numbers == tuple(range(1, 37))
    assert documents[1].source.frame_numbers == ()
