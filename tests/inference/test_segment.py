"""What is handed to the model, and how its answer comes back."""

import numpy as np
import pytest
from fakes import FakeSegmenter, by_threshold, make_contract, middle_of_context, right_half
from highdicom import Volume

from service.inference.contract import FieldOfView, LesionLimits
from service.inference.postprocess import Removal, Rules
from service.inference.segment import segment
from service.irregular import Irregular
from service.volume import Scan, SourceReference

OFF = Rules(False, False, False, False)


def scan_of(volume: Volume) -> Scan:
    spacing = volume.spacing
    return Scan(volume, SourceReference("nifti", (spacing[1], spacing[2]), spacing[0]))


def test_fake_labels_by_threshold(clean_volume: Volume) -> None:
    """The fake's labels are those that the phantom was drawn with."""
    labels = by_threshold(np.asarray(clean_volume.array))
    assert set(np.unique(labels)) == {0, 1, 2}
    assert (labels == 2).sum() < 0.1 * (labels == 1).sum()


@pytest.mark.parametrize("batch_slices", [1, 5, 36, 50])
def test_batches_cover_every_slice_once(clean_volume: Volume, batch_slices: int) -> None:
    """The same labels whatever the size of the batches, with progress up to the end."""
    model, seen = FakeSegmenter(by_threshold, batch_slices=batch_slices), []
    found = segment(scan_of(clean_volume), model, OFF, progress=lambda *at: seen.append(at))
    assert np.array_equal(found.labels.array, by_threshold(np.asarray(clean_volume.array)))
    assert seen[-1] == (36, 36)
    assert max(len(batch) for batch in model.handed) <= batch_slices


def test_probability_of_tumour(clean_volume: Volume) -> None:
    """The model's probability is kept where it found tumour, whatever the rules then remove."""
    found = segment(scan_of(clean_volume), FakeSegmenter(by_threshold), OFF, 4)
    tumor = by_threshold(np.asarray(clean_volume.array)) == 2
    assert np.array_equal(found.tumor_probability.array, np.where(tumor, 204, 0))


def test_neighbours_by_distance(clean_volume: Volume) -> None:
    """Three slices of context 10 mm apart are two slices of 5 mm away; the ends repeat."""
    model = FakeSegmenter(by_threshold, middle_of_context(3, 10.0))
    segment(scan_of(clean_volume), model, OFF)
    handed = np.concatenate(model.handed)
    slices = np.asarray(clean_volume.array)
    assert handed.shape == (36, 96, 96, 3)
    assert np.array_equal(handed[10, ..., 0], slices[8])
    assert np.array_equal(handed[10, ..., 1], slices[10])
    assert np.array_equal(handed[10, ..., 2], slices[12])
    assert np.array_equal(handed[0, ..., 0], slices[0])
    assert np.array_equal(handed[35, ..., 2], slices[35])


def test_thick_sagittal_series_is_shown_in_proportion(clean_volume: Volume) -> None:
    """Axial pixels of a series with thick sagittal slices are oblong; the model sees squares."""
    axial = clean_volume[:, :, ::2]  # columns twice as far apart as rows
    model = FakeSegmenter(right_half)
    sagittal = axial.to_patient_orientation("LFP")
    found = segment(scan_of(sagittal), model, OFF)
    assert model.handed[0].shape == (36, 96, 96, 1)
    assert found.labels.spatial_shape == sagittal.spatial_shape
    back = found.labels.to_patient_orientation("HPL").array
    assert (back[:, :, :24] == 2).all()
    assert (back[:, :, 24:] == 0).all()


def test_stretched_labels_are_those_of_the_source_pixels(clean_volume: Volume) -> None:
    """Stretched three times, every source pixel is the middle one of its three: nothing moves."""
    axial = clean_volume[:, :, ::3]
    found = segment(scan_of(axial), FakeSegmenter(by_threshold), OFF)
    assert np.array_equal(found.labels.array, by_threshold(np.asarray(axial.array)))


def test_field_of_view_outside_training_warns(clean_volume: Volume) -> None:
    """The phantom shows 400 mm: inside 287 to 512, outside 450 to 512."""
    inside = segment(scan_of(clean_volume), FakeSegmenter(by_threshold), OFF)
    assert inside.notices == ()
    narrow = make_contract(field_of_view=FieldOfView(smallest_mm=450, largest_mm=512))
    outside = segment(scan_of(clean_volume), FakeSegmenter(by_threshold, narrow), OFF)
    assert [notice.code for notice in outside.notices] == ["field_of_view_unusual"]


def test_no_liver_is_an_answer(clean_volume: Volume) -> None:
    """Empty labels, with a notice."""
    found = segment(scan_of(clean_volume), FakeSegmenter(lambda hu: np.zeros(hu.shape)), OFF)
    assert not found.labels.array.any()
    assert [notice.code for notice in found.notices] == ["no_liver_found"]


LIVER = np.s_[3:21, 6:36, 4:30]
SOLID, FLUID = np.s_[6:10, 12:18, 8:15], np.s_[13:18, 24:29, 17:25]
LIMITED = make_contract(lesion_limits=LesionLimits(fluid_hu=20))


def with_fluid() -> Volume:
    """A liver of 108 HU in fat, with a lesion of 52 HU and one of 5 HU, 2 x 1.5 x 1.5 mm."""
    hu = np.full((24, 44, 40), -100, dtype=np.int16)
    hu[LIVER], hu[SOLID], hu[FLUID] = 108, 52, 5
    affine = np.diag([0.0, 0, 0, 1])
    affine[2, 0], affine[1, 1], affine[0, 2] = 2, 1.5, 1.5
    return Volume(hu, affine, "PATIENT")


def all_found(hu: np.ndarray) -> np.ndarray:
    """The liver and both lesions."""
    return np.where((hu == 52) | (hu == 5), 2, np.where(hu == 108, 1, 0))


def expected(volume: Volume) -> np.ndarray:
    """The fluid is liver."""
    hu = np.asarray(volume.array)
    return np.where(hu == 5, 1, all_found(hu))


@pytest.mark.parametrize("orientation", ["HPL", "FAR", "LFP", "PRF"])
def test_fluid_is_no_lesion(orientation: str) -> None:
    """However the patient lies in the file, the rule sees each lesion's own Hounsfield units."""
    volume = with_fluid().to_patient_orientation(orientation)
    segmenter = FakeSegmenter(all_found, LIMITED)
    found = segment(scan_of(volume), segmenter, Rules())
    assert np.array_equal(found.labels.array, expected(volume))
    assert found.removals[3] == Removal("unlikely_lesions", True, None, 1, 5 * 5 * 8)
    kept = segment(scan_of(volume), segmenter, Rules(unlikely_lesions=False))
    assert np.array_equal(kept.labels.array, all_found(np.asarray(volume.array)))
    assert kept.removals[3] == Removal("unlikely_lesions", False, "switched off by the request")


@pytest.mark.parametrize("orientation", ["HPL", "HAR"])
def test_fluid_of_an_irregular_scan(orientation: str) -> None:
    """The rule sees the regular grid that the model saw: without two of its slices, and with others
    shifted, the scan has fewer slices, rows and columns than that.
    """
    whole = with_fluid().to_patient_orientation(orientation)
    sources = np.delete(np.arange(24), [11, 12])
    volume = Volume(np.asarray(whole.array)[sources], whole.affine, "PATIENT")
    positions = np.array(
        [whole.map_indices_to_reference(np.array([[n, 0, 0]]))[0] for n in sources]
    )
    positions[:5] += 2 * whole.affine[:3, 1] + whole.affine[:3, 2]
    irregular = Irregular(positions, whole.affine)
    assert irregular.grid((44, 40)).shape == (24, 46, 41)
    scan = Scan(volume, scan_of(whole).source, irregular=irregular)
    segmenter = FakeSegmenter(all_found, LIMITED)
    found = segment(scan, segmenter, Rules())
    assert np.array_equal(found.labels.array, expected(volume))
    assert found.removals[3] == Removal("unlikely_lesions", True, None, 1, 5 * 5 * 8)
    kept = segment(scan, segmenter, Rules(unlikely_lesions=False))
    assert np.array_equal(kept.labels.array, all_found(np.asarray(volume.array)))


def test_limits_of_images() -> None:
    """Slices of unknown spacing, and one alone."""
    hu = np.asarray(with_fluid().array)
    for stack in (hu, hu[14:15]):
        volume = Volume(stack, np.diag([1.0, 1, 1, 1])[[2, 1, 0, 3]], "PATIENT")
        scan = Scan(volume, SourceReference("png", None, None))
        found = segment(scan, FakeSegmenter(all_found, LIMITED), Rules())
        assert np.array_equal(found.labels.array, expected(volume))


def test_without_tumour_there_is_nothing_to_drop() -> None:
    """The rule says so: it needs the image only where there is a lesion."""
    healthy = FakeSegmenter(lambda hu: (all_found(hu) > 0).astype(np.uint8), LIMITED)
    found = segment(scan_of(with_fluid()), healthy, Rules())
    assert (np.asarray(found.labels.array) == (np.asarray(with_fluid().array) > 0)).all()
    assert found.removals[3] == Removal("unlikely_lesions", True, None)
