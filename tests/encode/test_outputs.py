"""SEG, NIfTI and pictures say what the labels say, in the right place."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import cv2
import highdicom
import nibabel
import numpy as np
import pytest
from conftest import ORIENTATIONS
from dicom_files import series, to_bytes
from encode.objects import errors_in
from fakes import FakeSegmenter, by_threshold, make_contract
from highdicom import Volume
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from service import pipeline
from service.encode.nifti import image_nii_gz, mask_nii_gz
from service.encode.png import preview_png
from service.errors import NoDicomSource
from service.inference.postprocess import Rules
from service.inference.segment import Segmentation
from service.notices import Notice
from service.phantom_files import nifti_bytes
from service.pipeline import Options, Result
from service.settings import Settings
from service.volume import Scan, SourceReference


def result_of(
    files: list[bytes], rule: Callable[[np.ndarray], np.ndarray] = by_threshold
) -> Result:
    return pipeline.run(files, Options(), FakeSegmenter(rule, make_contract()), Settings())


def dicom_result(
    volume: Volume, rule: Callable[[np.ndarray], np.ndarray] = by_threshold
) -> tuple[Result, list[Dataset]]:
    datasets = series(volume)
    return result_of([to_bytes(dataset) for dataset in datasets], rule), datasets


def read_seg(data: bytes) -> highdicom.seg.Segmentation:
    return highdicom.seg.segread(io.BytesIO(data))


def expected_segments(result: Result) -> np.ndarray:
    """Segment numbers: 1 for liver without lesions, lesion id + 1 for lesions."""
    ids = np.asarray(result.measured.lesion_ids.array)
    return np.where(ids > 0, ids + 1, np.asarray(result.segmentation.labels.array) == 1)


@pytest.mark.parametrize("orientation", ["HPL", "FPL", "HAR", "LFP", "PFL", "RHA", "ALH"])
def test_seg_reads_back_on_the_source_grid(clean_volume: Volume, orientation: str) -> None:
    """highdicom reads the segments back, voxel for voxel, at the source's positions."""
    result, datasets = dicom_result(clean_volume.to_patient_orientation(orientation))
    seg = read_seg(pipeline.dicom_seg(result))
    source = result.segmentation.scan.volume
    found = seg.get_volume(combine_segments=True).match_geometry(source)
    assert np.array_equal(found.array, expected_segments(result))
    assert seg.FrameOfReferenceUID == datasets[0].FrameOfReferenceUID
    assert seg.StudyInstanceUID == datasets[0].StudyInstanceUID
    assert seg.PatientName == datasets[0].PatientName


def test_seg_segments(clean_volume: Volume) -> None:
    """One liver and a segment for each lesion, coded and tracked."""
    result, _ = dicom_result(clean_volume)
    seg = read_seg(pipeline.dicom_seg(result))
    labels = [item.SegmentLabel for item in seg.SegmentSequence]
    assert labels == ["Liver without lesions", "Lesion 1", "Lesion 2", "Lesion 3"]
    assert [
        item.SegmentedPropertyTypeCodeSequence[0].CodeValue for item in seg.SegmentSequence
    ] == [
        "10200004",
        *["108369006"] * 3,
    ]
    assert len({item.TrackingUID for item in seg.SegmentSequence}) == 4
    assert {item.SegmentAlgorithmType for item in seg.SegmentSequence} == {"AUTOMATIC"}


def test_seg_frames_name_their_source(clean_volume: Volume) -> None:
    """Every frame refers to the instance at its position."""
    result, datasets = dicom_result(clean_volume)
    positions = {
        str(dataset.SOPInstanceUID): [float(x) for x in dataset.ImagePositionPatient]
        for dataset in datasets
    }
    seg = dcmread(io.BytesIO(pipeline.dicom_seg(result)))
    for frame in seg.PerFrameFunctionalGroupsSequence:
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        expected = positions[image.ReferencedSOPInstanceUID]
        assert np.allclose([float(x) for x in position], expected, atol=0.01)


def test_nothing_found_is_a_valid_seg(clean_volume: Volume) -> None:
    """Neither liver nor tumour: an object with the liver's segment and no voxel in it."""
    result, _ = dicom_result(clean_volume, lambda hu: np.zeros(hu.shape))
    seg = dcmread(io.BytesIO(pipeline.dicom_seg(result)))
    assert len(seg.SegmentSequence) == 1
    assert not seg.pixel_array.any()


def test_seg_validates(clean_volume: Volume, tmp_path: Path) -> None:
    """dciodvfy finds no error in an ordinary and in an empty object."""
    for rule in (by_threshold, lambda hu: np.zeros(hu.shape)):
        data = pipeline.dicom_seg(dicom_result(clean_volume, rule)[0])
        assert errors_in(data, "Segmentation", tmp_path) == []


def test_a_retry_gives_the_same_bytes(clean_volume: Volume) -> None:
    """The same request again: the same SEG and the same NIfTI, byte for byte."""
    first, second = (dicom_result(clean_volume)[0] for _ in range(2))
    assert pipeline.dicom_seg(first) == pipeline.dicom_seg(second)
    masks = [dict(pipeline.outputs(result))["mask.nii.gz"] for result in (first, second)]
    assert masks[0] == masks[1]


def test_seg_nifti_and_json_agree(clean_volume: Volume) -> None:
    """Every format has the same voxels of liver and of each lesion."""
    result, _ = dicom_result(clean_volume)
    findings = pipeline.result_document(result).findings
    segments = read_seg(pipeline.dicom_seg(result)).get_volume(combine_segments=True)
    counts = np.bincount(np.asarray(segments.array).ravel())
    assert [int(count) for count in counts[2:]] == [item.voxels for item in findings.lesions]
    assert counts[1] == findings.liver.voxels - findings.tumor.voxels
    data = gzip.decompress(dict(pipeline.outputs(result))["mask.nii.gz"])
    mask = np.asarray(nibabel.Nifti1Image.from_bytes(data).dataobj)
    assert (mask >= 1).sum() == findings.liver.voxels
    assert (mask == 2).sum() == findings.tumor.voxels


def test_other_parameters_other_uids(clean_volume: Volume) -> None:
    """A result made otherwise is another object."""
    files = [to_bytes(dataset) for dataset in series(clean_volume)]
    model = FakeSegmenter(by_threshold)
    rules = ({}, {"small_lesions": False}, {"unlikely_lesions": False})
    prints = {
        pipeline.run(files, Options(rules=Rules(**each)), model, Settings()).fingerprint
        for each in rules
    }
    assert len(prints) == 3


def seg_of_changed(volume: Volume, **changes: object) -> tuple[Result, bytes]:
    """The SEG of a series whose attributes were changed in every slice; None removes one."""
    files = []
    for dataset in series(volume):
        data = to_bytes(dataset)
        changed = dcmread(io.BytesIO(data))
        for keyword, value in changes.items():
            if value is None:
                delattr(changed, keyword)
            else:
                tag = tag_for_keyword(keyword)
                vr = dictionary_VR(keyword)
                encoded = str(value).encode("latin-1")
                changed[tag] = RawDataElement(
                    Tag(tag), vr, len(encoded), encoded + b" " * (len(encoded) % 2), 0, False, True
                )
        buffer = io.BytesIO()
        changed.save_as(buffer, enforce_file_format=False)
        files.append(buffer.getvalue())
    result = result_of(files)
    return result, pipeline.dicom_seg(result)


@pytest.mark.filterwarnings("ignore")  # pydicom's own, of the values that this test is about
@pytest.mark.parametrize(
    "changes",
    [
        {"FrameOfReferenceUID": None},
        dict.fromkeys(("PatientName", "PatientID", "PatientBirthDate", "PatientSex")),
        dict.fromkeys(("StudyID", "StudyDate", "StudyTime", "AccessionNumber")),
        dict.fromkeys(("SliceThickness", "InstanceNumber", "SeriesNumber", "Manufacturer")),
        dict.fromkeys(("PositionReferenceIndicator", "AcquisitionNumber", "KVP", "ImageType")),
        {"SeriesInstanceUID": None},
        {"PatientSex": "U"},
        {"PatientSex": "male"},
        {"StudyTime": "12:30:00"},
        {"PatientBirthDate": "00000000"},
        {"PatientBirthDate": "in spring"},
        {"StudyDate": "20200101\\20200102"},
        {"SpecificCharacterSet": ""},
        {"SpecificCharacterSet": "ISO IR 100", "PatientName": "M\xfcller^Petra"},
        {"SpecificCharacterSet": "BOGUS 99"},
        {"SpecificCharacterSet": "\\ISO 2022 IR 87"},
        {"PatientName": "A\\B"},
        {"SliceThickness": "15mm"},
        {"SliceThickness": "15,0"},
        {"SpacingBetweenSlices": "-5.0"},
        {"LossyImageCompressionRatio": "abc"},
        {"PatientAge": "old"},
    ],
    ids=str,
)
def test_poor_headers_still_give_a_valid_seg(
    clean_volume: Volume, tmp_path: Path, changes: dict[str, object]
) -> None:
    """Scanners and anonymisers leave attributes out or write them wrong; the SEG is valid."""
    result, data = seg_of_changed(clean_volume[8:14], **changes)
    found = read_seg(data).get_volume(combine_segments=True)
    assert (found.array > 0).sum() == (expected_segments(result) > 0).sum()
    assert errors_in(data, "Segmentation", tmp_path) == []


def test_a_value_of_unknown_representation(clean_volume: Volume) -> None:
    """An identifier that cannot be read is null in the answer."""
    data = to_bytes(series(clean_volume[10:11])[0])
    at = data.index(b"\x20\x00\x0e\x00UI")
    result = result_of([data[: at + 4] + b"U\x01" + data[at + 6 :]])
    assert pipeline.result_document(result).source.series_instance_uid is None


@pytest.mark.parametrize("orientation", ORIENTATIONS[::5])
def test_nifti_mask_lies_on_the_file_grid(clean_volume: Volume, orientation: str) -> None:
    """Shape, affine and voxels are the source file's own, whatever its orientation."""
    data = nifti_bytes(clean_volume.to_patient_orientation(orientation))
    source = nibabel.Nifti1Image.from_bytes(data)
    files = dict(pipeline.outputs(result_of([data])))
    mask = nibabel.Nifti1Image.from_bytes(gzip.decompress(files["mask.nii.gz"]))
    assert mask.shape == source.shape
    assert np.allclose(mask.affine, source.affine)
    expected = by_threshold(np.asarray(source.dataobj))
    assert np.array_equal(np.asarray(mask.dataobj), expected)


@pytest.mark.parametrize("unit", ["meter", "mm", "micron"])
@pytest.mark.parametrize("code", [0, 1])
def test_nifti_results_are_read_as_their_source(clean_volume: Volume, unit: str, code: int) -> None:
    """Unit and codes are the file's: readers that go by them put mask and source together."""
    image = nibabel.Nifti1Image.from_bytes(nifti_bytes(clean_volume))
    mm = {"meter": 1e-3, "mm": 1.0, "micron": 1e3}[unit]
    affine = np.diag([mm, mm, mm, 1.0]) @ image.affine
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    image.header.set_xyzt_units(unit)
    result = result_of([image.to_bytes()])
    for data in (mask_nii_gz(result.segmentation), image_nii_gz(result.segmentation.scan)):
        header = nibabel.Nifti1Image.from_bytes(gzip.decompress(data)).header
        assert header.get_xyzt_units()[0] == unit
        assert (int(header["sform_code"]), int(header["qform_code"])) == (code, code)
        assert np.allclose(header.get_zooms(), image.header.get_zooms())


def test_dicom_and_nifti_masks_agree_in_space(clean_volume: Volume) -> None:
    """The NIfTI of a DICOM source puts its centroid where the labels put theirs."""
    result, _ = dicom_result(clean_volume.to_patient_orientation("LFP"))
    files = dict(pipeline.outputs(result))
    mask = nibabel.Nifti1Image.from_bytes(gzip.decompress(files["mask.nii.gz"]))
    voxels = np.argwhere(np.asarray(mask.dataobj) == 2)
    ras = nibabel.affines.apply_affine(mask.affine, voxels).mean(axis=0)
    labels = result.segmentation.labels
    lps = labels.map_indices_to_reference(np.argwhere(labels.array == 2)).mean(axis=0)
    assert np.allclose(ras, lps * (-1, -1, 1), atol=1e-3)


def test_masks_are_the_labels(clean_volume: Volume) -> None:
    """Each PNG mask holds 0, 1 and 2 themselves, in the source's rows and columns."""
    result, _ = dicom_result(clean_volume.to_patient_orientation("LFP"))
    files = dict(pipeline.outputs(result))
    for index, labels in enumerate(np.asarray(result.segmentation.labels.array)):
        data = np.frombuffer(files[f"masks/{index:04d}.png"], np.uint8)
        assert np.array_equal(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), labels)


@pytest.mark.parametrize("orientation", ["HPL", "HAR", "LFP", "PHR"])
def test_overlays_show_the_patient_the_usual_way(clean_volume: Volume, orientation: str) -> None:
    """Turned so, the overlay of every orientation of the same plane is the same picture."""
    shown = dict(
        pipeline.outputs(dicom_result(clean_volume.to_patient_orientation(orientation))[0])
    )
    usual = {"H": "HPL", "L": "LFP", "P": "PFL"}[orientation[0]]
    expected = dict(pipeline.outputs(dicom_result(clean_volume.to_patient_orientation(usual))[0]))
    names = [name for name in expected if name.startswith("overlays/")]
    assert len(names) == clean_volume.to_patient_orientation(orientation).spatial_shape[0]
    for name in names[::7]:
        assert shown[name] == expected[name]


def test_preview_shows_the_liver_on_the_left(clean_volume: Volume) -> None:
    """The patient's right is on the picture's left, and there the outline is."""
    files = dict(pipeline.outputs(dicom_result(clean_volume.to_patient_orientation("FAR"))[0]))
    image = cv2.imdecode(np.frombuffer(files["preview.png"], np.uint8), cv2.IMREAD_COLOR).astype(
        int
    )
    tile = image[:320, :320]
    green = (tile[..., 1] - tile[..., 2] > 60) & (tile[..., 1] - tile[..., 0] > 40)
    assert green.sum() > 20
    assert np.argwhere(green)[:, 1].mean() < 160


@pytest.mark.parametrize(
    ("format", "code", "known"),
    [("dicom", None, True), ("nifti", "orientation_unknown", False), ("png", None, False)],
)
def test_sides_are_marked_only_where_they_are_known(
    clean_volume: Volume, format: str, code: str | None, known: bool
) -> None:
    """R and L stand in the preview of a source that says where they are, and of no other."""
    notices = () if code is None else (Notice(code, ""),)
    scan = Scan(clean_volume, SourceReference(format, (1, 1), 1), notices)
    labels = clean_volume.with_array(np.zeros(clean_volume.spatial_shape, np.uint8))
    preview = preview_png(
        Segmentation(scan, labels, labels, (), ()), make_contract().window, "caption"
    )
    picture = cv2.imdecode(np.frombuffer(preview, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert (picture[150:165, 5:16].max() > 200) == known


def test_no_seg_from_nifti(clean_volume: Volume) -> None:
    """A DICOM result needs a DICOM source; everything else is made all the same."""
    result = result_of([nifti_bytes(clean_volume)])
    with pytest.raises(NoDicomSource):
        pipeline.dicom_seg(result)
    assert "mask.dcm" not in dict(pipeline.outputs(result))


def test_many_lesions_keep_their_numbers() -> None:
    """Segment numbers above 255 are not cut to a byte."""
    labels = np.zeros((6, 24, 36), dtype=np.uint8)
    labels[1:5, 1:23, 1:35] = 1
    labels[2:5:2, 3:21:2, 3:33:2] = 2
    affine = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    volume = Volume(np.where(labels == 2, 52, labels * 108).astype(np.int16), affine, "PATIENT")
    rules = Rules(small_lesions=False)
    files = [to_bytes(dataset) for dataset in series(volume)]
    result = pipeline.run(files, Options(rules=rules), FakeSegmenter(by_threshold), Settings())
    seg = read_seg(pipeline.dicom_seg(result))
    volume = seg.get_volume(combine_segments=True).to_patient_orientation("HPL")
    numbers = np.asarray(volume.array)
    count = int((labels == 2).sum())
    assert seg.number_of_segments == count + 1 > 256
    assert np.array_equal(numbers == 1, labels[1:5] == 1)  # empty slices have no frames
    assert sorted(numbers[numbers > 1]) == list(range(2, count + 2))
