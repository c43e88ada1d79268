"""A DICOM series becomes Hounsfield units in the right place, or is refused by name."""

import io
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from dicom_files import series, to_bytes
from highdicom import Volume
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from service.decode import decode
from service.decode.archive import ArchiveLimits
from service.decode.options import DecodeOptions
from service.errors import (
    ArchiveTooLarge,
    BadRequest,
    DuplicateSlices,
    GantryTilt,
    InconsistentSeries,
    InvalidParameter,
    NoGeometry,
    TooManyVoxels,
    UnevenSliceSpacing,
    UnreadableFile,
    UnsupportedPixels,
    WrongModality,
)
from service.phantom_files import PHANTOM_NAME


def read(datasets: list[Dataset], options: DecodeOptions) -> Volume:
    return decode([to_bytes(dataset) for dataset in datasets], options).volume


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_uncompressed_syntaxes(clean_volume: Volume, options: DecodeOptions, syntax: str) -> None:
    """Implicit little and explicit big endian hold the same values as explicit little endian."""
    files = []
    for dataset in series(clean_volume[:6]):
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        buffer = io.BytesIO()
        dataset.save_as(
            buffer,
            implicit_vr=syntax == ImplicitVRLittleEndian,
            little_endian=syntax != ExplicitVRBigEndian,
            enforce_file_format=True,
        )
        files.append(buffer.getvalue())
    assert np.array_equal(decode(files, options).volume.array, clean_volume.array[:6])


def test_without_preamble(clean_volume: Volume, options: DecodeOptions) -> None:
    """A data set without PS3.10's preamble and file meta information is read all the same."""
    files = []
    for dataset in series(clean_volume[:4]):
        buffer = io.BytesIO()
        del dataset.file_meta
        dataset.save_as(buffer, implicit_vr=True, little_endian=True)
        files.append(buffer.getvalue())
    assert np.array_equal(decode(files, options).volume.array, clean_volume.array[:4])


def test_run_length_encoding(clean_volume: Volume, options: DecodeOptions) -> None:
    """RLE, which pydicom decodes itself."""
    datasets = series(clean_volume[:3])
    for dataset in datasets:
        dataset.compress(RLELossless, generate_instance_uid=False)
    assert np.array_equal(read(datasets, options).array, clean_volume.array[:3])


def test_rescale_of_each_slice(clean_volume: Volume, options: DecodeOptions) -> None:
    """Slope and intercept may differ within a series."""
    datasets = series(clean_volume[:5])
    for index, dataset in enumerate(datasets):
        stored = np.frombuffer(dataset.PixelData, "<u2").astype(int) * 2 + 100 * index
        dataset.PixelData = stored.astype("<u2").tobytes()
        dataset.RescaleSlope, dataset.RescaleIntercept = "0.5", str(-1024 - 50 * index)
    assert np.array_equal(read(datasets, options).array, clean_volume.array[:5])


def test_padding_is_air(clean_volume: Volume, options: DecodeOptions) -> None:
    """PixelPaddingValue, and whatever lies under -1024 HU, becomes -1024."""
    datasets = series(clean_volume[:3])
    for dataset in datasets:
        stored = np.frombuffer(dataset.PixelData, "<u2").reshape(96, 96).astype("<i2")
        stored[:10], stored[10:20] = -2000, 3000
        dataset.PixelRepresentation, dataset.PixelData = 1, stored.tobytes()
        dataset.add_new("PixelPaddingValue", "SS", 3000)
    found = read(datasets, options).array
    assert (found[:, :20] == -1024).all()
    assert np.array_equal(found[:, 20:], clean_volume.array[:3, 20:])


def test_monochrome1_does_not_change_hounsfield_units(
    clean_volume: Volume, options: DecodeOptions
) -> None:
    """It says how to show the values, not what they are."""
    datasets = series(clean_volume[:3])
    for dataset in datasets:
        dataset.PhotometricInterpretation = "MONOCHROME1"
    assert np.array_equal(read(datasets, options).array, clean_volume.array[:3])


def test_single_slice_has_its_thickness(clean_volume: Volume, options: DecodeOptions) -> None:
    """One slice is a volume as thick as it says; without a thickness volumes are unknown."""
    (dataset,) = series(clean_volume[10:11])
    scan = decode([to_bytes(dataset)], options)
    assert scan.source.slice_spacing_mm == pytest.approx(5.0)
    del dataset.SliceThickness
    scan = decode([to_bytes(dataset)], options)
    assert scan.source.slice_spacing_mm is None
    assert [notice.code for notice in scan.notices] == ["thickness_unknown"]


def test_localiser_and_other_objects_are_left_out(
    clean_volume: Volume, options: DecodeOptions
) -> None:
    """A localiser, a dose screen and a text file are named in a notice, and do no harm."""
    datasets = series(clean_volume[:5])
    localiser, screen = series(clean_volume[:2], seed=1)
    localiser.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    localiser.SeriesInstanceUID = datasets[0].SeriesInstanceUID
    screen.SOPClassUID = screen.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    files = [to_bytes(dataset) for dataset in (*datasets, localiser, screen)]
    scan = decode([*files, b"read me"], options)
    assert np.array_equal(scan.volume.array, clean_volume.array[:5])
    assert [notice.code for notice in scan.notices] == ["objects_left_out", "objects_left_out"]


def test_series_with_most_slices_is_taken(clean_volume: Volume, options: DecodeOptions) -> None:
    """The axial series with most slices, unless the request names another."""
    long, short = series(clean_volume[:6], seed=1), series(clean_volume[:4], seed=2)
    sagittal = series(clean_volume.to_patient_orientation("LFP")[:9], seed=3)
    files = [to_bytes(dataset) for dataset in (*short, *sagittal, *long)]
    scan = decode(files, options)
    assert scan.volume.spatial_shape == (6, 96, 96)
    (notice,) = scan.notices
    assert notice.code == "other_series"
    assert short[0].SeriesInstanceUID in notice.message
    asked = replace(options, series_instance_uid=str(short[0].SeriesInstanceUID))
    assert decode(files, asked).volume.spatial_shape == (4, 96, 96)
    with pytest.raises(InvalidParameter):
        decode(files, replace(options, series_instance_uid="1.2.3"))


def _tilt(datasets: list[Dataset]) -> None:
    for index, dataset in enumerate(datasets):
        dataset.ImagePositionPatient[1] = float(dataset.ImagePositionPatient[1]) + 1.3 * index


def _gap(datasets: list[Dataset]) -> None:
    del datasets[4]


def _duplicate(datasets: list[Dataset]) -> None:
    datasets[5].ImagePositionPatient = datasets[4].ImagePositionPatient


def _mixed_orientation(datasets: list[Dataset]) -> None:
    datasets[3].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def _mixed_size(datasets: list[Dataset]) -> None:
    datasets[3].Rows, datasets[3].PixelData = 48, datasets[3].PixelData[: 96 * 48 * 2]


def _two_frames_of_reference(datasets: list[Dataset]) -> None:
    datasets[3].FrameOfReferenceUID = generate_uid()


def _no_position(datasets: list[Dataset]) -> None:
    del datasets[3].ImagePositionPatient


def _no_spacing(datasets: list[Dataset]) -> None:
    datasets[3].PixelSpacing = None


def _zero_spacing(datasets: list[Dataset]) -> None:
    for dataset in datasets:
        dataset.PixelSpacing = [0, 0]


def _short_pixels(datasets: list[Dataset]) -> None:
    datasets[3].PixelData = datasets[3].PixelData[:1000]


def _no_pixels(datasets: list[Dataset]) -> None:
    del datasets[3].PixelData


def _color(datasets: list[Dataset]) -> None:
    datasets[3].SamplesPerPixel = 3


def _no_intercept(datasets: list[Dataset]) -> None:
    del datasets[3].RescaleIntercept


def _mr(datasets: list[Dataset]) -> None:
    for dataset in datasets:
        dataset.SOPClassUID, dataset.Modality = MRImageStorage, "MR"


def _enhanced(datasets: list[Dataset]) -> None:
    for dataset in datasets:
        dataset.SOPClassUID = EnhancedCTImageStorage


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_tilt, GantryTilt, r"slice 8 9\.1 mm beside it \(about 14\.6 degrees"),
        (_gap, UnevenSliceSpacing, r"5 mm between slices, found 10 mm between slices 4 and 6"),
        (_duplicate, DuplicateSlices, r"slices 5 and 6"),
        (_mixed_orientation, InconsistentSeries, r"slice 4"),
        (_mixed_size, InconsistentSeries, r"one Rows, .* slice 4"),
        (_two_frames_of_reference, InconsistentSeries, r"FrameOfReferenceUID.* slice 4"),
        (_no_position, NoGeometry, r"ImagePositionPatient .* slice 4"),
        (_no_spacing, NoGeometry, r"PixelSpacing .* slice 4"),
        (_zero_spacing, NoGeometry, r"PixelSpacing of 0\.01 to 100"),
        (_short_pixels, UnreadableFile, r"slice 4"),
        (_no_pixels, UnreadableFile, r"slice 4"),
        (_color, UnsupportedPixels, r"slice 4"),
        (_no_intercept, UnsupportedPixels, r"slice 4"),
        (_mr, WrongModality, r"Expected CT, found MR"),
        (_enhanced, UnreadableFile, r"functional groups .* instance 1"),
    ],
)
def test_what_makes_no_volume_is_refused(
    clean_volume: Volume,
    options: DecodeOptions,
    damage: Callable[[list[Dataset]], None],
    error: type[BadRequest],
    message: str,
) -> None:
    """Each defect has an answer of its own that names the slice by InstanceNumber."""
    datasets = series(clean_volume[:8])
    damage(datasets)
    with pytest.raises(error, match=message) as raised:
        read(datasets, options)
    assert type(raised.value) is error
    assert not re.search(PHANTOM_NAME, str(raised.value))


def test_rounded_positions_are_accepted(clean_volume: Volume, options: DecodeOptions) -> None:
    """Scanners round positions to a tenth of a millimetre and cosines to three decimals."""
    datasets = series(clean_volume[:8])
    for index, dataset in enumerate(datasets):
        dataset.ImagePositionPatient[2] = round(-80 + 3.33 * index, 1)
        dataset.ImageOrientationPatient = [1, 0, 0.0004, 0, 1, 0]
    assert read(datasets, options).spacing[0] == pytest.approx(3.33, abs=0.01)


@pytest.mark.parametrize("length", [1, 132, 140, 400, 2000])
def test_truncated_file(clean_volume: Volume, options: DecodeOptions, length: int) -> None:
    """A file cut anywhere is refused, never an exception of another kind."""
    data = to_bytes(series(clean_volume[:1])[0])
    with pytest.raises(BadRequest):
        decode([data[:length]], options)


def test_too_many_voxels(clean_volume: Volume, options: DecodeOptions) -> None:
    """The limit counts before pixels are decoded."""
    with pytest.raises(TooManyVoxels):
        read(series(clean_volume[:3]), replace(options, max_voxels=3 * 96 * 96 - 1))


def _another_patient(datasets: list[Dataset]) -> None:
    datasets[3].PatientID = "PHANTOM-2"


def _another_study(datasets: list[Dataset]) -> None:
    datasets[3].StudyInstanceUID = generate_uid()


def _several_frames(datasets: list[Dataset]) -> None:
    datasets[3].NumberOfFrames = 2


def _high_bit(datasets: list[Dataset]) -> None:
    datasets[3].BitsStored = 12


def _no_rescale(datasets: list[Dataset]) -> None:
    del datasets[3].RescaleSlope, datasets[3].RescaleIntercept


def _no_instance_uid(datasets: list[Dataset]) -> None:
    datasets[3].SOPInstanceUID = ""


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_another_patient, InconsistentSeries, "one PatientID"),
        (_another_study, InconsistentSeries, "one StudyInstanceUID"),
        (_several_frames, InconsistentSeries, "one frame a file"),
        (_high_bit, UnsupportedPixels, "HighBit"),
        (_no_rescale, UnsupportedPixels, "RescaleSlope"),
        (_no_instance_uid, UnreadableFile, "SOPInstanceUID"),
    ],
)
def test_what_would_mislead_is_refused(
    clean_volume: Volume,
    options: DecodeOptions,
    damage: Callable[[list[Dataset]], None],
    error: type[BadRequest],
    message: str,
) -> None:
    """Two patients in one series, values that are no Hounsfield units, objects without identity."""
    datasets = series(clean_volume[:8])
    damage(datasets)
    files = []
    for dataset in datasets:
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=False)
        files.append(buffer.getvalue())
    with pytest.raises(error, match=message):
        decode(files, options)


def test_jpeg_ls_and_deflated(clean_volume: Volume, options: DecodeOptions) -> None:
    """Both hold the same values, read through pydicom and its decoders."""
    compressed = series(clean_volume[:3])
    for dataset in compressed:
        dataset.compress(JPEGLSLossless, generate_instance_uid=False)
    assert np.array_equal(read(compressed, options).array, clean_volume.array[:3])
    deflated = series(clean_volume[:3])
    for dataset in deflated:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert np.array_equal(read(deflated, options).array, clean_volume.array[:3])


def test_deflated_bomb(clean_volume: Volume, options: DecodeOptions) -> None:
    """A few kilobytes that inflate to many megabytes are counted before they are held."""
    (dataset,) = series(clean_volume[:1])
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.add_new(0x00111001, "OB", bytes(20_000_000))
    data = to_bytes(dataset)
    assert len(data) < 100_000
    small = replace(options, archive=ArchiveLimits(max_files=10, max_decompressed_bytes=2_000_000))
    with pytest.raises(ArchiveTooLarge):
        decode([data], small)


def test_padding_as_unsigned_bits_of_signed_pixels(
    clean_volume: Volume, options: DecodeOptions
) -> None:
    """65535 where signed pixels hold -1 is padding too."""
    datasets = series(clean_volume[:3])
    for dataset in datasets:
        stored = np.frombuffer(dataset.PixelData, "<u2").reshape(96, 96).astype("<i2")
        stored[:10] = -1
        dataset.PixelRepresentation, dataset.PixelData = 1, stored.tobytes()
        dataset.add_new("PixelPaddingValue", "US", 65535)
    found = read(datasets, options).array
    assert (found[:, :10] == -1024).all()
    assert np.array_equal(found[:, 10:], clean_volume.array[:3, 10:])


def test_directory_of_the_medium_is_left_out(clean_volume: Volume, options: DecodeOptions) -> None:
    """A DICOMDIR, as on every hospital's disc, is named in a notice, and the CT is read."""
    datasets = series(clean_volume[:3])
    (directory,) = series(clean_volume[:1], seed=1)
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    for keyword in ("SOPClassUID", "SOPInstanceUID", "Modality", "PixelData"):
        delattr(directory, keyword)
    buffer = io.BytesIO()
    directory.save_as(buffer, enforce_file_format=True)
    scan = decode([buffer.getvalue(), *map(to_bytes, datasets)], options)
    assert np.array_equal(scan.volume.array, clean_volume.array[:3])
    assert [notice.code for notice in scan.notices] == ["objects_left_out"]


def test_damaged_file_meta_information(clean_volume: Volume, options: DecodeOptions) -> None:
    """A value representation that does not exist, where a DICOMDIR would name its class."""
    (dataset,) = series(clean_volume[:1])
    del dataset.SOPClassUID
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    data = buffer.getvalue()
    at = data.index(b"\x02\x00\x02\x00UI")
    with pytest.raises(UnreadableFile):
        decode([data[: at + 4] + b"U\xd3" + data[at + 6 :]], options)
