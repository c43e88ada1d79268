"""SEG, NIfTI and pictures say what the labels say, in the right place."""

import gzip
import io
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import highdicom
import nibabel
import numpy as np
import pytest
from conftest import ORIENTATIONS
from dicom_files import series, to_bytes
from fakes import FakeSegmenter, by_threshold, make_contract
from highdicom import Volume
from pydicom import Dataset, dcmread

from service import pipeline
from service.errors import NoDicomSource
from service.phantom_files import nifti_bytes
from service.pipeline import Options, Result
from service.settings import Settings


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
    for name, rule in (("found", by_threshold), ("empty", lambda hu: np.zeros(hu.shape))):
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(pipeline.dicom_seg(dicom_result(clean_volume, rule)[0]))
        validator = Path(sys.executable).parent / "dciodvfy"
        checked = subprocess.run([validator, path], capture_output=True, text=True, check=False)
        assert "Segmentation" in checked.stderr
        errors = [line for line in checked.stderr.splitlines() if line.startswith("Error")]
        assert errors == []


def test_a_retry_gives_the_same_bytes(clean_volume: Volume) -> None:
    """Same source, model and moment: the same SEG and the same NIfTI, byte for byte."""
    results = [dicom_result(clean_volume)[0] for _ in range(2)]
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    files = []
    for result in results:
        object.__setattr__(result, "created_at", moment)
        files.append((pipeline.dicom_seg(result), dict(pipeline.outputs(result))["mask.nii.gz"]))
    assert files[0] == files[1]


def test_other_parameters_other_uids(clean_volume: Volume) -> None:
    """A result made otherwise is another object."""
    files = [to_bytes(dataset) for dataset in series(clean_volume)]
    model = FakeSegmenter(by_threshold)
    rules = pipeline.Rules(small_lesions=False)
    first = pipeline.run(files, Options(), model, Settings())
    second = pipeline.run(files, Options(rules=rules), model, Settings())
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    "keywords",
    [
        ("FrameOfReferenceUID",),
        ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
        ("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
        ("SliceThickness", "InstanceNumber", "SeriesNumber", "Manufacturer", "ImageType"),
        ("PositionReferenceIndicator", "AcquisitionNumber", "KVP", "RescaleType"),
    ],
)
def test_sparse_headers_still_give_a_seg(clean_volume: Volume, keywords: tuple[str, ...]) -> None:
    """Scanners and anonymisers leave attributes out; the result does not need them."""
    datasets = series(clean_volume[8:20])
    for dataset in datasets:
        for keyword in keywords:
            delattr(dataset, keyword)
    result = result_of([to_bytes(dataset) for dataset in datasets])
    seg = read_seg(pipeline.dicom_seg(result))
    found = seg.get_volume(combine_segments=True)
    assert (found.array > 0).sum() == (expected_segments(result) > 0).sum()


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


def test_no_seg_from_nifti(clean_volume: Volume) -> None:
    """A DICOM result needs a DICOM source; everything else is made all the same."""
    result = result_of([nifti_bytes(clean_volume)])
    with pytest.raises(NoDicomSource):
        pipeline.dicom_seg(result)
    assert "mask.dcm" not in dict(pipeline.outputs(result))
