"""However the patient lies in the file, the model sees the same and the answer lies the same."""

import io
import zipfile

import numpy as np
import pytest
from conftest import ORIENTATIONS
from fakes import FakeSegmenter, by_threshold, right_half
from highdicom import Volume

from service.decode import decode
from service.decode.options import DecodeOptions
from service.findings import measure
from service.inference.postprocess import Rules
from service.inference.segment import Segmentation, segment
from service.phantom import Phantom
from service.phantom_files import ct_datasets, nifti_bytes
from service.volume import Scan, SourceReference, to_canonical


def as_dicom(volume: Volume) -> list[bytes]:
    """The volume's files in an order that has nothing to do with their positions."""
    files = []
    for dataset in ct_datasets(volume):
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        files.append(buffer.getvalue())
    return files[::2] + files[1::2]


def segmented(volume: Volume, model: FakeSegmenter, rules: Rules | None = None) -> Segmentation:
    spacing = volume.spacing
    source = SourceReference("nifti", (spacing[1], spacing[2]), spacing[0])
    return segment(Scan(volume, source), model, rules or Rules())


def test_there_are_48() -> None:
    """Six permutations, eight flips."""
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_model_sees_identical_bytes(clean_volume: Volume, orientation: str) -> None:
    """The array handed to the session is byte-identical for every orientation."""
    model = FakeSegmenter(by_threshold)
    segmented(clean_volume.to_patient_orientation(orientation), model)
    handed = np.concatenate(model.handed)
    assert handed.dtype == np.int16
    assert handed.tobytes() == np.asarray(clean_volume.array)[..., None].tobytes()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_volumes_are_the_closed_form(
    phantom: Phantom, clean_volume: Volume, orientation: str
) -> None:
    """Liver and tumour volumes; 2 % and 6 % are the rounding of edges on this coarse grid."""
    found = segmented(clean_volume.to_patient_orientation(orientation), FakeSegmenter(by_threshold))
    findings = measure(found).findings
    assert findings.liver.volume_ml == pytest.approx(phantom.liver_ml, rel=0.02)
    assert findings.tumor.volume_ml == pytest.approx(phantom.tumor_ml, rel=0.06)
    by_size = sorted(phantom.lesions, key=lambda lesion: -lesion.volume_ml)
    found_at = sorted(lesion.centroid_mm for lesion in findings.lesions if lesion.centroid_mm)
    # A fifth of a voxel: the centroid of a voxelised sphere.
    assert np.allclose(found_at, sorted(lesion.center_mm for lesion in by_size), atol=1.0)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_right_half_lies_on_the_right(clean_volume: Volume, orientation: str) -> None:
    """A model that labels only the patient's right half gets a centroid right of the middle.

    The grid is centred on the origin, so the centroid is (-100, 0, 0) mm: right is -x in LPS.
    """
    volume = clean_volume.to_patient_orientation(orientation)
    found = segmented(volume, FakeSegmenter(right_half))
    (lesion,) = measure(found).findings.lesions
    assert lesion.centroid_mm == pytest.approx((-100, 0, 0), abs=0.01)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("file_format", ["dicom", "nifti"])
def test_files_of_every_orientation(
    clean_volume: Volume, options: DecodeOptions, orientation: str, file_format: str
) -> None:
    """Written as files and read again, the canonical volume is the phantom's, values and places."""
    volume = clean_volume.to_patient_orientation(orientation)
    files = as_dicom(volume) if file_format == "dicom" else [nifti_bytes(volume)]
    scan = decode(files, options)
    canonical = to_canonical(scan.volume).volume
    assert np.array_equal(canonical.array, clean_volume.array)
    assert np.allclose(canonical.affine, clean_volume.affine, atol=1e-4)
    first = scan.volume.get_closest_patient_orientation()[0]
    assert str(first.value) in "HPL"


def test_oblique_volume_returns_on_its_own_grid(clean_volume: Volume) -> None:
    """A volume turned by 20 degrees keeps its affine, and its labels lie where its values are."""
    angle = np.radians(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turned = Volume(clean_volume.array, turn @ clean_volume.affine, "PATIENT")
    found = segmented(turned.to_patient_orientation("FRA"), FakeSegmenter(by_threshold))
    source = found.scan.volume
    assert found.labels.geometry_equal(source)
    rules_off = Rules(False, False, False, False)
    raw = segmented(source, FakeSegmenter(by_threshold), rules_off)
    assert np.array_equal(raw.labels.array, by_threshold(np.asarray(source.array)))


@pytest.mark.parametrize("degrees", [45, -45, 135])
@pytest.mark.parametrize("plane", [(0, 1), (0, 2), (1, 2)])
def test_turned_half_way_between_two_orientations(
    clean_volume: Volume, plane: tuple[int, int], degrees: int
) -> None:
    """Two axes are then equally near; labels lie where their values are all the same."""
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[np.ix_(plane, plane)] = [
        [np.cos(angle), -np.sin(angle)],
        [np.sin(angle), np.cos(angle)],
    ]
    # Cubes, since oblong pixels are interpolated.
    affine = clean_volume.affine @ np.diag([4 / side for side in clean_volume.spacing] + [1.0])
    turned = Volume(clean_volume.array[:, :90], turn @ affine, "PATIENT")
    rules_off = Rules(False, False, False, False)
    found = segmented(turned, FakeSegmenter(by_threshold), rules_off)
    assert found.labels.geometry_equal(turned)
    assert np.array_equal(found.labels.array, by_threshold(np.asarray(turned.array)))


def test_zip_order_does_not_matter(clean_volume: Volume, options: DecodeOptions) -> None:
    """Slices are ordered by position, never by name or number."""
    files = as_dicom(clean_volume)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index, data in enumerate(reversed(files)):
            archive.writestr(f"{index}", data)
    scan = decode([buffer.getvalue()], options)
    assert np.array_equal(scan.volume.array, clean_volume.array)
