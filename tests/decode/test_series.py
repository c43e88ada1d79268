"""Which images of a study make the volume: every row of what a hospital may send."""

import io
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from dicom_files import series, to_bytes
from highdicom import Volume
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    RTDoseStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from service.decode import decode
from service.decode.options import DecodeOptions
from service.errors import (
    DuplicateSlices,
    InconsistentSeries,
    NoCtSeries,
    NoGeometry,
    UnreadableFile,
    UnsupportedPixels,
    WrongModality,
)
from service.volume import Scan


def read(datasets: list[Dataset], options: DecodeOptions) -> Scan:
    return decode([to_bytes(dataset) for dataset in datasets], options)


def codes(scan: Scan) -> list[str]:
    return [notice.code for notice in scan.notices]


def stranger(volume: Volume, datasets: list[Dataset], number: int = 99) -> Dataset:
    """A further image of the same series, at the position of its first slice."""
    (dataset,) = series(volume[:1], seed=number)
    dataset.InstanceNumber = number
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        setattr(dataset, keyword, getattr(datasets[0], keyword))
    return dataset


def _coronal(dataset: Dataset) -> None:
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def _smaller(dataset: Dataset) -> None:
    dataset.Rows, dataset.PixelData = 48, dataset.PixelData[: 96 * 48 * 2]


def _finer(dataset: Dataset) -> None:
    dataset.PixelSpacing = [1, 1]


def _far(dataset: Dataset) -> None:
    dataset.ImagePositionPatient[2] = 700


def _nowhere(dataset: Dataset) -> None:
    del dataset.ImagePositionPatient


@pytest.mark.parametrize("make_odd", [_coronal, _smaller, _finer, _far, _nowhere])
def test_one_odd_image_is_left_out(
    clean_volume: Volume, options: DecodeOptions, make_odd: Callable[[Dataset], None]
) -> None:
    """A scout, dose screen or monitoring image that ImageType says nothing of is named."""
    datasets = series(clean_volume[:6])
    odd = stranger(clean_volume, datasets)
    make_odd(odd)
    scan = read([odd, *datasets], options)
    assert np.array_equal(scan.volume.array, clean_volume.array[:6])
    (notice,) = scan.notices
    assert notice.code == "objects_left_out"
    assert "Slice 99" in notice.message


def test_two_scouts_are_left_out(clean_volume: Volume, options: DecodeOptions) -> None:
    """One from the front and one from the side, as many scanners take them."""
    datasets = series(clean_volume[:6])
    front, side = (stranger(clean_volume, datasets, number) for number in (98, 99))
    front.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    side.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    assert codes(read([front, *datasets, side], options)) == ["objects_left_out"] * 2


def test_several_of_another_orientation_are_refused(
    clean_volume: Volume, options: DecodeOptions
) -> None:
    """Two slices that agree with each other are no accident."""
    datasets = series(clean_volume[:6])
    others = [stranger(clean_volume, datasets, number) for number in (98, 99)]
    for other in others:
        _coronal(other)
    with pytest.raises(InconsistentSeries, match="slice 98 than in slice 1"):
        read([*datasets, *others], options)


def test_an_odd_image_beside_few_is_refused(clean_volume: Volume, options: DecodeOptions) -> None:
    """Of four slices and a fifth nobody knows which one is the odd one."""
    datasets = series(clean_volume[:4])
    odd = stranger(clean_volume, datasets)
    _coronal(odd)
    with pytest.raises(InconsistentSeries, match="slice 99"):
        read([*datasets, odd], options)


@pytest.mark.parametrize(
    ("words", "left_out"),
    [
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], True),
        (["DERIVED", "SECONDARY", "SCREEN SAVE"], True),
        (["DERIVED", "SECONDARY", "OTHER", "DOSE_INFO"], True),
        (["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"], False),
    ],
)
def test_image_type(
    clean_volume: Volume, options: DecodeOptions, words: list[str], left_out: bool
) -> None:
    """Words that vendors use for images that belong to no volume."""
    datasets = series(clean_volume[:3])
    datasets[2].ImageType = words
    scan = read(datasets, options)
    assert scan.volume.spatial_shape[0] == (2 if left_out else 3)
    assert codes(scan) == ["objects_left_out"] * left_out


def test_a_file_sent_twice(clean_volume: Volume, options: DecodeOptions) -> None:
    """Byte for byte the same: read once, with a warning that names the slice."""
    files = [to_bytes(dataset) for dataset in series(clean_volume[:4])]
    scan = decode([*files, files[2]], options)
    assert np.array_equal(scan.volume.array, clean_volume.array[:4])
    assert codes(scan) == ["sent_twice"]
    assert "slice(s) 3" in scan.notices[0].message


def test_two_files_of_one_identity(clean_volume: Volume, options: DecodeOptions) -> None:
    """The same SOPInstanceUID with other bytes: nobody knows which one is right."""
    datasets = series(clean_volume[:4])
    other = stranger(clean_volume, datasets)
    other.SOPInstanceUID = datasets[2].SOPInstanceUID
    with pytest.raises(DuplicateSlices, match=r"SOPInstanceUID.*slice 99"):
        read([*datasets, other], options)


def test_different_slices_at_one_position(clean_volume: Volume, options: DecodeOptions) -> None:
    """Nothing tells them apart: refused, with both named."""
    datasets = series(clean_volume[:4])
    with pytest.raises(DuplicateSlices, match=r"slices (1 and 99|99 and 1) at the same"):
        read([*datasets, stranger(clean_volume, datasets)], options)


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "TemporalPositionIdentifier"])
def test_phases_in_one_series(clean_volume: Volume, options: DecodeOptions, keyword: str) -> None:
    """The phase with most slices, then the first; the warning names all of them."""
    first, second = series(clean_volume[:5]), series(clean_volume[:6], seed=2)
    for number, phase in ((7, first), (8, second)):
        for dataset in phase:
            setattr(dataset, keyword, number)
            dataset.SeriesInstanceUID = first[0].SeriesInstanceUID
            dataset.StudyInstanceUID = first[0].StudyInstanceUID
            dataset.FrameOfReferenceUID = first[0].FrameOfReferenceUID
    scan = read([*first, *second], options)
    assert scan.volume.spatial_shape[0] == 6
    assert codes(scan) == ["other_acquisitions"]
    assert "8 (6 slices) was segmented" in scan.notices[0].message
    assert "7 (5 slices)" in scan.notices[0].message
    scan = read([*second[:5], *first], options)
    assert "7 (5 slices) was segmented" in scan.notices[0].message


@pytest.mark.parametrize("offset_mm", [0.02, 0.5])
def test_phases_that_begin_apart(
    clean_volume: Volume, options: DecodeOptions, offset_mm: float
) -> None:
    """Phases a little apart are phases too: resample does not weave them into one volume."""
    first, second = series(clean_volume[:6]), series(clean_volume[:6], seed=2)
    for dataset in second:
        dataset.ImagePositionPatient[2] += offset_mm
        dataset.AcquisitionNumber = 2
        dataset.SeriesInstanceUID = first[0].SeriesInstanceUID
        dataset.StudyInstanceUID = first[0].StudyInstanceUID
        dataset.FrameOfReferenceUID = first[0].FrameOfReferenceUID
    for resample in (False, True):
        scan = read([*second, *first], replace(options, resample=resample))
        assert scan.volume.spatial_shape[0] == 6
        assert codes(scan) == ["other_acquisitions"]
        assert np.array_equal(scan.volume.array, clean_volume[:6].array)


@pytest.mark.parametrize("slices_each", [1, 2])
def test_a_slice_taken_twice_of_many_acquisitions(
    clean_volume: Volume, options: DecodeOptions, slices_each: int
) -> None:
    """Scanned step by step each slice has an acquisition of its own: none of them is the scan."""
    datasets = series(clean_volume[:12])
    for index, dataset in enumerate(datasets):
        dataset.AcquisitionNumber = index // slices_each
    again = stranger(clean_volume, datasets)
    again.AcquisitionNumber = 99
    with pytest.raises(DuplicateSlices, match=r"slices 1 and 99 .* one at a time"):
        read([*datasets, again], options)


def test_acquisitions_that_take_turns(clean_volume: Volume, options: DecodeOptions) -> None:
    """Each between the slices of the other, evenly: one volume."""
    datasets = series(clean_volume[:8])
    for dataset in datasets[::2]:
        dataset.AcquisitionNumber = 2
    scan = read(datasets, options)
    assert scan.volume.spatial_shape[0] == 8
    assert codes(scan) == []


def test_acquisitions_one_after_the_other(clean_volume: Volume, options: DecodeOptions) -> None:
    """Two acquisitions that continue each other are one volume."""
    datasets = series(clean_volume[:8])
    for dataset in datasets[4:]:
        dataset.AcquisitionNumber = 2
    scan = read(datasets, options)
    assert scan.volume.spatial_shape[0] == 8
    assert codes(scan) == []


def test_the_main_series_begins_with_a_scout(clean_volume: Volume, options: DecodeOptions) -> None:
    """What most of its images are makes a series axial, not the first file."""
    main, small = series(clean_volume[:8]), series(clean_volume[:4], seed=2)
    scout = stranger(clean_volume, main)
    _coronal(scout)
    scan = read([scout, *main, *small], options)
    assert scan.volume.spatial_shape[0] == 8
    assert sorted(codes(scan)) == ["objects_left_out", "other_series"]


def test_grey_before_colour(clean_volume: Volume, options: DecodeOptions) -> None:
    """A larger series of coloured maps does not stand in the way of the CT."""
    maps, small = series(clean_volume[:8]), series(clean_volume[:4], seed=2)
    for dataset in maps:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    scan = read([*maps, *small], options)
    assert scan.volume.spatial_shape[0] == 4
    assert codes(scan) == ["other_series"]
    with pytest.raises(UnsupportedPixels, match="one sample"):
        read(maps, options)


def test_localisers_only(clean_volume: Volume, options: DecodeOptions) -> None:
    """The refusal says what they are."""
    datasets = series(clean_volume[:2])
    for dataset in datasets:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    with pytest.raises(NoCtSeries, match="localisers or dose screens only"):
        read(datasets, options)


def test_thinnest_of_equal_series(clean_volume: Volume, options: DecodeOptions) -> None:
    """Of two series with as many slices the thinner one; the other named by number and UID."""
    thick, thin = series(clean_volume[:4], seed=1), series(clean_volume[:4], seed=2)
    for dataset in thin:
        dataset.SliceThickness, dataset.SeriesNumber = 1, 5
    scan = read([*thick, *thin], options)
    assert scan.source.sop_instance_uids[0] == thin[0].SOPInstanceUID
    assert f"3 ({thick[0].SeriesInstanceUID})" in scan.notices[0].message


def test_twelve_bits_unsigned(clean_volume: Volume, options: DecodeOptions) -> None:
    """BitsStored 12 in 16: what stands above the stored bits is no part of the value."""
    datasets = series(clean_volume[:3])
    for dataset in datasets:
        stored = np.frombuffer(dataset.PixelData, "<u2")
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.PixelData = (stored | 0xA000).astype("<u2").tobytes()
    assert np.array_equal(read(datasets, options).volume.array, clean_volume.array[:3])


def test_thirty_two_bits(clean_volume: Volume, options: DecodeOptions) -> None:
    """Values too wide for a table go the long way, to the same units."""
    datasets = series(clean_volume[:3])
    for dataset in datasets:
        stored = np.frombuffer(dataset.PixelData, "<u2").astype("<i4") - 1024
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 32, 32, 31
        dataset.PixelRepresentation, dataset.RescaleIntercept = 1, 0
        dataset.PixelData = stored.tobytes()
    assert np.array_equal(read(datasets, options).volume.array, clean_volume.array[:3])


def test_padding_range(clean_volume: Volume, options: DecodeOptions) -> None:
    """PixelPaddingValue to PixelPaddingRangeLimit, both ends included."""
    datasets = series(clean_volume[:3])
    for dataset in datasets:
        stored = np.frombuffer(dataset.PixelData, "<u2").reshape(96, 96).copy()
        stored[0], stored[1], stored[2], stored[3] = 4000, 4050, 4100, 4101
        dataset.PixelData = stored.tobytes()
        dataset.add_new("PixelPaddingValue", "US", 4000)
        dataset.add_new("PixelPaddingRangeLimit", "US", 4100)
    found = read(datasets, options).volume.array
    assert (found[:, :3] == -1024).all()
    assert (found[:, 3] == 4101 - 1024).all()


@pytest.mark.parametrize(("value", "limit"), [(63536, -1500), (-2000, 64036), (64036, 63536)])
def test_padding_range_of_signed_pixels(
    clean_volume: Volume, options: DecodeOptions, value: int, limit: int
) -> None:
    """Each end of the range may be written signed or as its bits, and either may come first."""
    (dataset,) = series(clean_volume[:1])
    hu = np.array(clean_volume.array[0])
    hu[0], hu[1], hu[2] = -2000, -1500, 30
    dataset.PixelRepresentation, dataset.RescaleIntercept = 1, 0
    dataset.PixelData = hu.astype("<i2").tobytes()
    dataset.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
    dataset.add_new("PixelPaddingRangeLimit", "SS" if limit < 0 else "US", limit)
    assert np.array_equal(read([dataset], options).volume.array[0], np.maximum(hu, -1024))


def test_padding_that_eight_bits_cannot_hold(clean_volume: Volume, options: DecodeOptions) -> None:
    """A value outside the pixels' range is none of them: 48 is not -2000."""
    (dataset,) = series(clean_volume[:1])
    stored = np.tile(np.arange(0, 192, 2, dtype=np.uint8), (96, 1))
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.RescaleSlope, dataset.RescaleIntercept = 7, 10, -1000
    dataset.PixelData = stored.tobytes()
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    found = read([dataset], options).volume.array[0]
    assert np.array_equal(found, stored.astype(int) * 10 - 1000)


def _zero_bits(dataset: Dataset) -> None:
    dataset.BitsStored, dataset.HighBit = 0, -1 % 65536


def _packed(dataset: Dataset) -> None:
    dataset.BitsAllocated = 12


def _density(dataset: Dataset) -> None:
    dataset.RescaleType = "ED"


def _no_slope(dataset: Dataset) -> None:
    dataset.RescaleSlope = 0


def _endless_slope(dataset: Dataset) -> None:
    dataset.RescaleSlope = "1e300"


def _endless_intercept(dataset: Dataset) -> None:
    dataset.RescaleIntercept = "-1e39"


def _zero_rows(dataset: Dataset) -> None:
    dataset.Rows = 0


def _nan_position(dataset: Dataset) -> None:
    dataset["ImagePositionPatient"]._value = ["nan", "0", "0"]


def _endless_position(dataset: Dataset) -> None:
    dataset.ImagePositionPatient = ["1e300", "0", "0"]


def _far_away(dataset: Dataset) -> None:
    dataset.ImagePositionPatient = ["0", "0", "1e7"]


def _endless_cosines(dataset: Dataset) -> None:
    dataset.ImageOrientationPatient = ["1e200"] * 6


@pytest.mark.filterwarnings("ignore")  # pydicom's own, of the values that this test is about
@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (_zero_bits, UnsupportedPixels),
        (_packed, UnsupportedPixels),
        (_density, UnsupportedPixels),
        (_no_slope, UnsupportedPixels),
        (_endless_slope, UnsupportedPixels),
        (_endless_intercept, UnsupportedPixels),
        (_zero_rows, UnreadableFile),
        (_nan_position, NoGeometry),
        (_endless_position, NoGeometry),
        (_far_away, NoGeometry),
        (_endless_cosines, NoGeometry),
    ],
)
def test_one_bad_header(
    clean_volume: Volume,
    options: DecodeOptions,
    damage: Callable[[Dataset], None],
    error: type[Exception],
) -> None:
    """A header that cannot be right refuses the series, and names the slice."""
    datasets = series(clean_volume[:4])
    damage(datasets[2])
    with pytest.raises(error, match="slice 3"):
        read(datasets, options)


@pytest.mark.parametrize(
    ("sop_class", "modality", "error", "message"),
    [
        (SecondaryCaptureImageStorage, "CT", NoCtSeries, "Secondary Capture Image Storage"),
        (SecondaryCaptureImageStorage, "OT", WrongModality, "Expected CT, found OT"),
        (RTDoseStorage, "RTDOSE", WrongModality, "found RTDOSE"),
        ("1.2.3.4", "CT", NoCtSeries, r"1\.2\.3\.4"),
        ("Doe^John", "CT", NoCtSeries, r": \?"),
        (CTImageStorage, "PT", WrongModality, "found PT"),
    ],
)
def test_what_is_no_ct(
    clean_volume: Volume,
    options: DecodeOptions,
    sop_class: str,
    modality: str,
    error: type[Exception],
    message: str,
) -> None:
    """Refused with the modality, or the class where the modality is right."""
    datasets = series(clean_volume[:3])
    files = []
    for dataset in datasets:
        dataset.SOPClassUID, dataset.Modality = sop_class, modality
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=False)
        files.append(buffer.getvalue())
    with pytest.raises(error, match=message):
        decode(files, options)


def test_slices_are_sorted_by_position(clean_volume: Volume, options: DecodeOptions) -> None:
    """Neither InstanceNumber nor the order of the files says anything."""
    datasets = series(clean_volume[:9])
    for index, dataset in enumerate(datasets):
        dataset.InstanceNumber = (index * 7) % 9
    order = np.random.default_rng(0).permutation(9)
    scan = read([datasets[index] for index in order], options)
    assert np.array_equal(scan.volume.array, clean_volume.array[:9])


def test_pixels_take_little_memory(options: DecodeOptions) -> None:
    """Beside the files that came in: the volume, its headers, and one slice at a time."""
    volume = Volume(np.zeros((60, 256, 256), dtype=np.int16), np.diag([5.0, 1, 1, 1]), "PATIENT")
    files = [to_bytes(dataset) for dataset in series(volume)]
    generous = replace(options, max_voxels=10**9)
    decode(files[:1], generous)
    tracemalloc.start()
    decode(files, generous)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 60 headers of about 60 elements are 5 MB; the table of all values and its making 3 MB.
    assert peak < volume.array.nbytes + 12e6


def test_a_scan_does_not_keep_its_files(options: DecodeOptions) -> None:
    """Once decoded, the volume and small headers are all that is left."""
    volume = Volume(np.zeros((40, 128, 128), dtype=np.int16), np.diag([5.0, 1, 1, 1]), "PATIENT")
    datasets = series(volume)
    tracemalloc.start()
    files = [to_bytes(dataset) for dataset in datasets]
    scan = decode(files, options)
    del files
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A header is about 60 elements of half a kilobyte; a file here has 33 kB.
    assert kept < scan.volume.array.nbytes + 40 * 25_000


def test_frames_of_reference(clean_volume: Volume, options: DecodeOptions) -> None:
    """A slice of another frame of reference is never the odd one out: nothing can be compared."""
    datasets = series(clean_volume[:9])
    datasets[8].FrameOfReferenceUID = generate_uid()
    with pytest.raises(InconsistentSeries, match=r"FrameOfReferenceUID.*slice 9"):
        read(datasets, options)
