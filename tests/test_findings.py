"""Volumes, lesions and diameters against values worked out by hand."""

import cc3d
import numpy as np
import pytest
from highdicom import Volume
from hypothesis import given, settings
from hypothesis import strategies as st

from service.findings import Findings, measure
from service.inference.segment import Segmentation
from service.volume import Scan, SourceReference


def measured(
    labels: np.ndarray,
    spacing_mm: tuple[float, float, float] | None = (2.0, 0.5, 1.5),
    pixel_spacing_mm: tuple[float, float] | None = None,
    hu: np.ndarray | None = None,
    probability: int = 204,
) -> Findings:
    """Findings of labels [slice, row, column] on an axial grid of that spacing (None: an image)."""
    slice_mm, row_mm, column_mm = spacing_mm or (1.0, 1.0, 1.0)
    affine = np.array(
        [[0, 0, column_mm, 10], [0, row_mm, 0, 20], [slice_mm, 0, 0, 30], [0, 0, 0, 1.0]]
    )
    volume = Volume(np.zeros(labels.shape, np.int16) if hu is None else hu, affine, "PATIENT")
    if spacing_mm is None:
        source = SourceReference("png", pixel_spacing_mm, None)
    else:
        source = SourceReference("nifti", spacing_mm[1:], spacing_mm[0])
    label_volume = volume.with_array(labels.astype(np.uint8))
    likely = volume.with_array(np.full(labels.shape, probability, np.uint8))
    return measure(Segmentation(Scan(volume, source), label_volume, likely, (), ())).findings


def test_volumes_and_burden() -> None:
    """Voxels times voxel volume; the organ holds its lesions, burden is tumour over organ."""
    labels = np.zeros((10, 20, 20))
    labels[2:8, 2:18, 2:18] = 1
    labels[3:5, 4:8, 4:8] = 2
    findings = measured(labels)
    assert findings.liver.volume_ml == pytest.approx(6 * 16 * 16 * 1.5 / 1000)
    assert findings.tumor.volume_ml == pytest.approx(2 * 4 * 4 * 1.5 / 1000)
    assert findings.parenchyma.volume_ml == pytest.approx((1536 - 32) * 1.5 / 1000)
    assert findings.burden == pytest.approx(32 / 1536)
    assert findings.liver.area_px is None


def test_nothing_found() -> None:
    """No liver is an answer: zeros, and no burden."""
    findings = measured(np.zeros((6, 8, 8)))
    assert (findings.liver.volume_ml, findings.tumor.volume_ml) == (0, 0)
    assert findings.burden is None
    assert findings.lesions == ()


def test_lesions_by_size_with_their_values() -> None:
    """Largest first; centroid, slices, mean HU and probability are the lesion's own."""
    labels = np.zeros((10, 30, 30))
    labels[1:9] = 1
    labels[2, 3:5, 3:5] = 2
    labels[5:8, 10:16, 20:22] = 2
    hu = np.where(labels == 2, 40, 100).astype(np.int16)
    hu[2, 3, 3] = 80
    first, second = measured(labels, hu=hu).lesions
    assert (first.id, second.id) == (1, 2)
    assert first.extent.voxels == 36
    assert first.slices == (5, 7)
    assert first.centroid_px == (6.0, 12.5, 20.5)
    # x = 10 + 1.5 column, y = 20 + 0.5 row, z = 30 + 2 slice
    assert first.centroid_mm == pytest.approx((40.75, 26.25, 42.0))
    assert (first.mean_hu, second.mean_hu) == (40.0, 50.0)
    assert first.mean_tumor_probability == pytest.approx(0.8)


@given(seed=st.integers(0, 2**32), density=st.sampled_from([0.01, 0.05, 0.2, 0.6]))
@settings(max_examples=100, deadline=None)
def test_ids_are_those_of_the_whole_volume(seed: int, density: float) -> None:
    """Crops change nothing: components of all tumour, by falling size, in the order they come."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((8, 24, 24), dtype=np.uint8)
    labels[1:7, 2:20, 3:22] = 1
    labels[2:6, 4:18, 5:20][rng.random((4, 14, 15)) < density] = 2
    numbers = cc3d.connected_components((labels == 2).astype(np.uint8), connectivity=26)
    sizes = [int((numbers == number).sum()) for number in range(1, int(numbers.max()) + 1)]
    by_size = sorted(range(len(sizes)), key=lambda number: -sizes[number])
    expected = np.zeros(labels.shape)
    for lesion_id, number in enumerate(by_size, start=1):
        expected[numbers == number + 1] = lesion_id
    volume = Volume(np.zeros(labels.shape, np.int16), np.eye(4), "PATIENT")
    segmented = volume.with_array(labels)
    scan = Scan(volume, SourceReference("nifti", (1.0, 1.0), 1.0))
    result = measure(Segmentation(scan, segmented, segmented, (), ()))
    assert np.array_equal(result.lesion_ids.array, expected)
    for lesion in result.findings.lesions:
        voxels = np.argwhere(expected == lesion.id)
        assert lesion.extent.voxels == len(voxels)
        assert lesion.centroid_px == pytest.approx(tuple(voxels.mean(axis=0)))
        assert lesion.slices == (voxels[:, 0].min(), voxels[:, 0].max())


def test_corners_connect() -> None:
    """26-connected: two voxels that share a corner are one lesion."""
    labels = np.ones((6, 8, 8))
    labels[2, 2, 2] = labels[3, 3, 3] = 2
    assert len(measured(labels).lesions) == 1


def test_diameters_of_a_bar() -> None:
    """A bar of 8 x 2 pixels of 1.5 x 0.5 mm: its diagonal, and the chord across it."""
    labels = np.ones((6, 20, 20))
    labels[3, 5:7, 4:12] = 2
    (lesion,) = measured(labels).lesions
    longest, short = lesion.diameters.longest, lesion.diameters.short
    # The outline's farthest points are the middles of the end edges: 12 mm apart, 0.5 mm aside.
    assert longest.length_mm == pytest.approx(np.hypot(12, 0.5))
    assert 0.9 < (short.length_mm or 0) <= 1.05
    assert longest.length_px is None
    assert {end[0] for end in longest.ends_px} == {3.0}


def test_single_voxel_has_the_size_of_a_pixel() -> None:
    """One pixel of 0.5 x 1.5 mm is 1.5 mm long and 0.5 mm across."""
    labels = np.ones((6, 8, 8))
    labels[3, 4, 4] = 2
    (lesion,) = measured(labels).lesions
    assert lesion.diameters.longest.length_mm == pytest.approx(1.5)
    assert lesion.diameters.short.length_mm == pytest.approx(0.5)


def test_diameter_is_that_of_one_piece_in_one_slice() -> None:
    """A U that is open in one slice does not count the gap between its legs."""
    labels = np.ones((6, 40, 40))
    labels[2, 5:35, 5:8] = labels[2, 5:35, 30:33] = 2
    labels[3, 5:8, 5:33] = 2
    (lesion,) = measured(labels, spacing_mm=(2.0, 1.0, 1.0)).lesions
    assert lesion.diameters.longest.length_mm == pytest.approx(np.hypot(30, 2), abs=0.5)


def test_axial_plane_of_a_sagittal_series(clean_volume: Volume) -> None:
    """Diameters are axial whatever the slices are: a disc in the axial plane stays 30 mm long."""
    labels = np.zeros(clean_volume.spatial_shape, dtype=np.uint8)
    rows, columns = np.indices(labels.shape[1:])
    row_mm, column_mm = clean_volume.spacing[1:]
    disc = ((rows - 40) * row_mm) ** 2 + ((columns - 30) * column_mm) ** 2 <= 15**2
    labels[10:30][:, disc] = 2
    lengths = []
    for orientation in ("HPL", "LFP", "PRH"):
        volume = clean_volume.to_patient_orientation(orientation)
        placed = clean_volume.with_array(labels).to_patient_orientation(orientation)
        spacing = volume.spacing
        scan = Scan(volume, SourceReference("nifti", spacing[1:], spacing[0]))
        found = measure(Segmentation(scan, placed, placed, (), ())).findings.lesions[0]
        lengths.append(found.diameters.longest.length_mm)
        assert found.diameters.slice_spacing_mm == pytest.approx(5.0)
    assert lengths[0] == pytest.approx(30, abs=row_mm)
    assert lengths == pytest.approx([lengths[0]] * 3)


@pytest.mark.parametrize(
    ("slice_mm", "length_px", "measurable"),
    [(5, 10, True), (5, 9, False), (6, 11, False), (6, 13, True)],
)
def test_recist(slice_mm: float, length_px: int, measurable: bool) -> None:
    """Measurable from 10 mm at 5 mm slices, from twice the thickness at thicker ones."""
    labels = np.ones((6, 20, 20))
    labels[3, 5, 3 : 3 + length_px] = 2
    findings = measured(labels, spacing_mm=(slice_mm, 1.0, 1.0))
    assert findings.lesions[0].recist_measurable is measurable
    assert findings.recist_targets == ((1,) if measurable else ())


def test_at_most_two_targets_the_longest() -> None:
    """RECIST 1.1 allows two targets in the liver; the longest lesion need not be the largest."""
    labels = np.ones((8, 60, 60))
    labels[1:6, 2:14, 2:14] = 2
    labels[2, 30, 2:32] = 2
    labels[2, 40, 2:22] = 2
    findings = measured(labels, spacing_mm=(2.0, 1.0, 1.0))
    assert findings.recist_targets == (2, 3)


def test_image_without_spacing() -> None:
    """Areas in pixels, lengths in pixels, volumes null."""
    labels = np.zeros((1, 20, 20))
    labels[0, 2:18, 2:18] = 1
    labels[0, 5:7, 4:12] = 2
    findings = measured(labels, spacing_mm=None)
    lesion = findings.lesions[0]
    assert (findings.liver.area_px, findings.liver.volume_ml) == (256, None)
    assert findings.liver.area_mm2 is None
    assert findings.burden == pytest.approx(16 / 256)
    assert lesion.diameters.longest.length_mm is None
    assert lesion.diameters.longest.length_px == pytest.approx(np.hypot(8, 1))
    assert lesion.centroid_mm is None
    assert lesion.recist_measurable is None


def test_image_with_spacing() -> None:
    """Areas and lengths in millimetres, volumes still null."""
    labels = np.zeros((1, 20, 20))
    labels[0, 5:7, 4:12] = 2
    findings = measured(labels, spacing_mm=None, pixel_spacing_mm=(0.5, 0.5))
    assert findings.tumor.area_mm2 == pytest.approx(16 * 0.25)
    assert findings.tumor.volume_ml is None
