"""Tilted and unevenly spaced series: with `resample` the numbers and places are the patient's."""

import gzip
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
from dicom_files import series, to_bytes
from encode.objects import errors_in
from encode.test_outputs import expected_segments
from fakes import FakeSegmenter
from highdicom import Volume
from pydicom import Dataset

from service import pipeline
from service.decode import decode
from service.decode.options import DecodeOptions
from service.errors import GantryTilt, TooManyVoxels, UnevenSliceSpacing
from service.phantom import Ellipsoid
from service.pipeline import Options
from service.settings import Settings
from service.volume import LIVER_LABEL, TUMOR_LABEL

LIVER = Ellipsoid((-20, -10, 5), (70, 60, 55), hu=108)
LESION = Ellipsoid((-40, -15, 15), (18, 18, 18), hu=300)
BACKGROUND_HU = -100
SIZE, PIXEL_MM = 120, 2.5

MEDIAN_STEP = [5.0] * 32
MISSING = [5.0] * 9 + [15.0] + [5.0] * 8 + [10.0] + [5.0] * 8
CHANGING = [3.0] * 26 + [5.0] * 18
"""Distances between slices, in mm: even, with missing slices, and of two protocols."""


def middle_thresholds(hu: np.ndarray) -> np.ndarray:
    """Labels at the middle between two values, so that interpolation does not move an edge."""
    liver, tumor = (BACKGROUND_HU + LIVER.hu) / 2, (LIVER.hu + LESION.hu) / 2
    return np.where(hu > tumor, TUMOR_LABEL, np.where(hu > liver, LIVER_LABEL, 0))


@dataclass(frozen=True)
class Slices:
    """A series of the phantom and the LPS position of every slice's first pixel."""

    datasets: list[Dataset]
    files: list[bytes]
    positions: np.ndarray


def scanned(steps_mm: Sequence[float], tilt_degrees: float = 0.0) -> Slices:
    """Slices of a tilted gantry: the table moves along z by `steps_mm`, the planes lean back."""
    tilt = math.radians(tilt_degrees)
    right, down = np.array([1.0, 0, 0]), np.array([0, math.cos(tilt), math.sin(tilt)])
    heights = np.concatenate([[0.0], np.cumsum(steps_mm)])
    center = np.array([0, 0, 0]) - (right + down) * (SIZE - 1) / 2 * PIXEL_MM
    positions = center + np.outer(heights - heights.mean(), [0, 0, 1])
    pixels = np.arange(SIZE) * PIXEL_MM
    grid = pixels[None, :, None] * right + pixels[:, None, None] * down
    hu = np.full((len(heights), SIZE, SIZE), BACKGROUND_HU, dtype=np.int16)
    for plane, position in zip(hu, positions, strict=True):
        x, y, z = np.moveaxis(grid + position, -1, 0)
        for body in (LIVER, LESION):
            plane[body.contains(x, y, z)] = body.hu
    affine = np.eye(4)
    affine[:3, :3] = np.stack([np.cross(right, down) * 5, down * PIXEL_MM, right * PIXEL_MM], -1)
    datasets = series(Volume(hu, affine, "PATIENT"))
    for dataset, position in zip(datasets, positions, strict=True):
        dataset.ImagePositionPatient = [f"{value:.4f}" for value in position]
    return Slices(datasets, [to_bytes(dataset) for dataset in datasets], positions)


def answer(slices: Slices, resample: bool = True) -> pipeline.Result:
    model = FakeSegmenter(middle_thresholds)
    return pipeline.run(slices.files, Options(resample=resample), model, Settings())


CASES = {
    "5 degrees": (MEDIAN_STEP, 5.0),
    "12 degrees": (MEDIAN_STEP, 12.0),
    "20 degrees": (MEDIAN_STEP, -20.0),
    "missing slices": (MISSING, 0.0),
    "changing spacing": (CHANGING, 0.0),
    "tilt and missing slices": (MISSING, 15.0),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Slices, pipeline.Result]:
    slices = scanned(*CASES[request.param])
    return slices, answer(slices)


def test_volumes(case: tuple[Slices, pipeline.Result]) -> None:
    """The closed form within 2 % for the liver; the lesion of 18 mm is 4 to 12 slices: 12 %."""
    findings = case[1].measured.findings
    assert findings.liver.volume_ml == pytest.approx(LIVER.volume_ml, rel=0.02)
    assert findings.tumor.volume_ml == pytest.approx(LESION.volume_ml, rel=0.12)
    assert findings.burden == pytest.approx(LESION.volume_ml / LIVER.volume_ml, rel=0.12)


def test_places(case: tuple[Slices, pipeline.Result]) -> None:
    """The lesion's centre within a slice, every contour point on the liver's surface."""
    result = case[1]
    (lesion,) = result.measured.findings.lesions
    assert np.linalg.norm(np.array(lesion.centroid_mm) - LESION.center_mm) < 2.5
    document = pipeline.result_document(result)
    center, axes = np.array(LIVER.center_mm), np.array(LIVER.semi_axes_mm)
    for contour in document.contours:
        if contour.structure == "liver":
            (polygon,) = contour.polygons
            points = (np.array(polygon.exterior_mm) - center) / axes
            # A pixel is 2.5 mm, a slice of the coarsest grid 5 mm, the shortest semi-axis 55 mm.
            assert np.abs(np.linalg.norm(points, axis=1) - 1).max() < 0.12


def test_labels_are_on_the_source_slices(case: tuple[Slices, pipeline.Result]) -> None:
    """As many slices as were sent, each with its own voxels' labels but for the edges."""
    slices, result = case
    labels = np.asarray(result.segmentation.labels.array)
    hu = np.asarray(result.segmentation.scan.volume.array)
    assert labels.shape == hu.shape == (len(slices.files), SIZE, SIZE)
    assert (labels != middle_thresholds(hu)).mean() < 0.005
    warnings = pipeline.result_document(result).warnings
    assert [warning.code for warning in warnings] == ["resampled"]


def test_seg_frames_lie_on_their_source_slices(
    case: tuple[Slices, pipeline.Result], tmp_path: Path
) -> None:
    """Each frame at the position of the instance it names, with that slice's voxels; valid."""
    slices, result = case
    data = pipeline.dicom_seg(result)
    seg = highdicom.seg.segread(io.BytesIO(data))
    uids = [str(dataset.SOPInstanceUID) for dataset in slices.datasets]
    source = result.segmentation.scan.source.sop_instance_uids
    expected = expected_segments(result)
    frames = np.asarray(seg.pixel_array)
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        uid = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        position = [float(x) for x in groups.PlanePositionSequence[0].ImagePositionPatient]
        assert np.allclose(position, slices.positions[uids.index(uid)], atol=1e-3)
        segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        assert np.array_equal(frame, expected[source.index(uid)] == segment)
    assert errors_in(data, "Segmentation", tmp_path) == []


def test_nifti_mask_lies_in_the_patient(case: tuple[Slices, pipeline.Result]) -> None:
    """The mask's affine, sheared or of the regular grid, puts liver and lesion where they are."""
    data = gzip.decompress(dict(pipeline.outputs(case[1]))["mask.nii.gz"])
    mask = nibabel.Nifti1Image.from_bytes(data)
    labels = np.asarray(mask.dataobj)
    voxel_ml = abs(np.linalg.det(mask.affine[:3, :3])) / 1000
    assert (labels > 0).sum() * voxel_ml == pytest.approx(LIVER.volume_ml, rel=0.03)
    lps = nibabel.affines.apply_affine(mask.affine, np.argwhere(labels == 2)) * (-1, -1, 1)
    assert np.linalg.norm(lps.mean(axis=0) - LESION.center_mm) < 2.5
    evenly = case[0].positions[1:] - case[0].positions[:-1]
    if np.allclose(evenly, evenly[0], atol=1e-3):
        assert int(mask.header["qform_code"]) == 0
        assert labels.shape[2] == len(case[0].files)


@pytest.mark.parametrize(
    ("name", "error"),
    [("12 degrees", GantryTilt), ("missing slices", UnevenSliceSpacing)],
)
def test_refused_unless_asked(options: DecodeOptions, name: str, error: type) -> None:
    """Without `resample` the refusal names the slice and says what would help."""
    with pytest.raises(error, match=r"slices? \d+.*resample=true"):
        decode(scanned(*CASES[name]).files, options)


def test_a_wide_gap_is_refused(options: DecodeOptions) -> None:
    """Nothing can be said of what lies in a hole of 60 mm."""
    steps = [5.0] * 8 + [60.0] + [5.0] * 8
    with pytest.raises(UnevenSliceSpacing, match="at most 50 mm"):
        decode(scanned(steps).files, replace(options, resample=True))


def test_a_steep_drift_is_refused(options: DecodeOptions) -> None:
    """No gantry tilts by more than 45 degrees."""
    datasets = scanned(MEDIAN_STEP).datasets
    for index, dataset in enumerate(datasets):
        dataset.ImagePositionPatient[1] = 6.0 * index
    with pytest.raises(GantryTilt, match="at most 45 degrees"):
        decode([to_bytes(item) for item in datasets], replace(options, resample=True))


def test_sagittal_slices_are_not_resampled(options: DecodeOptions, clean_volume: Volume) -> None:
    """Diameters need axial planes, so only axial slices are taken."""
    datasets = series(clean_volume.to_patient_orientation("LFP"))
    del datasets[40]
    with pytest.raises(UnevenSliceSpacing, match="axial slices only"):
        decode([to_bytes(item) for item in datasets], replace(options, resample=True))


def test_resampled_voxels_are_counted(options: DecodeOptions) -> None:
    """The limit holds for the regular grid too, which tilt makes larger than the slices."""
    slices = scanned(MEDIAN_STEP, 20.0)
    limit = replace(options, resample=True, max_voxels=len(slices.files) * SIZE * SIZE + 1000)
    with pytest.raises(TooManyVoxels, match="once resampled"):
        decode(slices.files, limit)


def test_a_regular_series_stays_as_it_is() -> None:
    """`resample` changes nothing where nothing has to be resampled: the same bytes."""
    slices = scanned(MEDIAN_STEP)
    plain, asked = answer(slices, resample=False), answer(slices)
    assert pipeline.dicom_seg(plain) == pipeline.dicom_seg(asked)
    assert asked.segmentation.scan.irregular is None


def test_another_identity() -> None:
    """The same pixels at other positions are another source, with other UIDs."""
    even, tilted = answer(scanned(MEDIAN_STEP, 5.0)), answer(scanned(MEDIAN_STEP, 6.0))
    assert even.fingerprint != tilted.fingerprint
