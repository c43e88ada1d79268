"""Secondary captures show what the labels say, the right way round, to viewers of any kind."""

import io
import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from dicom_files import series, to_bytes
from encode.objects import errors_in
from encode.test_outputs import dicom_result, result_of
from fakes import FakeSegmenter, by_threshold, make_contract
from highdicom import Volume
from multiframe_files import enhanced
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from test_resample import MEDIAN_STEP, answer, scanned

from service import pipeline
from service.encode.png import View
from service.encode.secondary_capture import overlays_dcm
from service.encode.source_headers import headers
from service.phantom import FIELD_OF_VIEW_MM, Phantom
from service.pipeline import Options, Result
from service.settings import Settings
from service.volume import SourceReference


def nothing(hu: np.ndarray) -> np.ndarray:
    return np.zeros(hu.shape)


def overlay_files(result: Result, made_at: datetime | None = None) -> dict[str, bytes]:
    provenance = pipeline.provenance_of(result, made_at)
    return dict(overlays_dcm(result.segmentation, result.model.contract.window, provenance))


def overlays(result: Result) -> dict[str, Dataset]:
    return {name: dcmread(io.BytesIO(data)) for name, data in overlay_files(result).items()}


def named(volume: Volume, name: str) -> Result:
    """The result of a model of this name."""
    files = [to_bytes(dataset) for dataset in series(volume)]
    model = FakeSegmenter(by_threshold, make_contract(name=name))
    return pipeline.run(files, Options(), model, Settings())


def slice_part(image: Dataset, extent_mm: tuple[float, float]) -> np.ndarray:
    """The picture without caption and margins: at the bottom, in the middle of the width."""
    rows, columns = (
        round(side / spacing)
        for side, spacing in zip(extent_mm, map(float, image.PixelSpacing), strict=True)
    )
    pixels = image.pixel_array
    left = (pixels.shape[1] - columns) // 2
    return pixels[-rows:, left : left + columns].astype(int)


def axial_part(image: Dataset) -> np.ndarray:
    return slice_part(image, (FIELD_OF_VIEW_MM, FIELD_OF_VIEW_MM))


def reddish(picture: np.ndarray) -> np.ndarray:
    """Where tumour is tinted or outlined."""
    return (picture[..., 0] - picture[..., 1] > 30) & (picture[..., 0] - picture[..., 2] > 30)


def mark(image: Dataset, right: bool) -> np.ndarray:
    """The letter in the left or right margin, as bright as it is, cut to its size."""
    pixels = image.pixel_array[90:].max(axis=-1)
    half = pixels[:, -20:] if right else pixels[:, :20]
    rows, columns = np.flatnonzero(half.max(axis=1)), np.flatnonzero(half.max(axis=0))
    return half[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def written(letter: str) -> np.ndarray:
    picture = np.zeros((40, 40), np.uint8)
    cv2.putText(picture, letter, (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 235, 1, cv2.LINE_AA)
    rows, columns = np.flatnonzero(picture.max(axis=1)), np.flatnonzero(picture.max(axis=0))
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@pytest.fixture(scope="module")
def small_volume(phantom: Phantom) -> Volume:
    """36 slices of 64 x 64: enlarged eight times, so that a picture's letters have their size."""
    return phantom.sample(36, 64, noise_hu=0)[0]


@pytest.fixture(scope="module")
def small_result(small_volume: Volume) -> Result:
    return dicom_result(small_volume)[0]


def test_one_for_each_slice_with_liver(small_result: Result) -> None:
    """Named and numbered by slice, each an instance of its own in a series of its own."""
    shown = np.flatnonzero(np.asarray(small_result.segmentation.labels.array).any(axis=(1, 2)))
    images = overlays(small_result)
    assert list(images) == [f"{index:04d}.dcm" for index in shown]
    assert [image.InstanceNumber for image in images.values()] == [index + 1 for index in shown]
    assert len({image.SOPInstanceUID for image in images.values()}) == len(shown) < 36
    (series_uid,) = {image.SeriesInstanceUID for image in images.values()}
    first = small_result.segmentation.scan.source.datasets[0]
    assert series_uid != first.SeriesInstanceUID
    for image in images.values():
        assert image.SOPClassUID == SecondaryCaptureImageStorage
        assert image.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert (image.SeriesNumber, image.Modality, image.ConversionType) == (1004, "CT", "WSD")
        for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "AccessionNumber"):
            assert image[keyword].value == first[keyword].value


def test_no_liver_is_one_picture_that_says_so(small_volume: Volume) -> None:
    """The middle slice, with more of a caption than a slice without lesions has."""
    result = dicom_result(small_volume, nothing)[0]
    ((name, image),) = overlays(result).items()
    assert name == "0018.dcm"
    liver_only = dicom_result(small_volume, lambda hu: np.minimum(by_threshold(hu), 1))[0]
    last_line = slice(45, 66)
    said = image.pixel_array[last_line].max(axis=(0, 2)).nonzero()[0].max()
    usual = overlays(liver_only)[name].pixel_array[last_line].max(axis=(0, 2)).nonzero()[0].max()
    assert said > usual + 50
    assert not reddish(axial_part(image)).any()
    picture = image.pixel_array.astype(int)
    assert np.ptp(picture, axis=-1).max() == 0, "no colour where nothing was found"


@pytest.mark.parametrize("orientation", ["HPL", "FAR", "HAL", "HLP"])
def test_the_right_is_on_the_left(small_volume: Volume, orientation: str) -> None:
    """However the source lies, its liver is on the picture's left, each lesion where it is."""
    result = dicom_result(small_volume.to_patient_orientation(orientation))[0]
    segmentation = result.segmentation
    usual = np.asarray(segmentation.labels.to_patient_orientation(("H", "P", "L")).array)
    seen = 0
    for name, image in overlays(result).items():
        assert list(image.PatientOrientation) == ["L", "P"]
        assert np.array_equal(mark(image, right=False), written("R"))
        assert np.array_equal(mark(image, right=True), written("L"))
        picture = axial_part(image)
        labels = usual[int(name[:4])].repeat(8, axis=0).repeat(8, axis=1)
        assert labels.shape == picture.shape[:2]
        assert np.array_equal(reddish(picture), labels == 2)
        seen += (labels == 2).any()
        assert np.argwhere(labels)[:, 1].mean() < 256
    assert seen > 5


@pytest.mark.parametrize(
    ("orientation", "sides"), [("LFP", "AP"), ("RHA", "AP"), ("PFL", "RL"), ("AHR", "RL")]
)
def test_sagittal_and_coronal(clean_volume: Volume, orientation: str, sides: str) -> None:
    """The head is on top; the front, or the patient's right, on the left, as the marks say."""
    volume = clean_volume.to_patient_orientation(orientation)
    images = overlays(dicom_result(volume)[0])
    image = images[list(images)[len(images) // 2]]
    assert list(image.PatientOrientation) == [sides[1], "F"]
    picture = slice_part(image, (180, FIELD_OF_VIEW_MM))
    outlines = picture[..., 1] - picture[..., 0] > 60
    # The phantom's liver lies to the front, to the right, and a little towards the head.
    assert np.argwhere(outlines)[:, 1].mean() < picture.shape[1] / 2
    assert np.argwhere(outlines)[:, 0].mean() < picture.shape[0] / 2


def test_the_picture_is_to_scale(phantom: Phantom) -> None:
    """PixelSpacing measures the lesions, also where the source's pixels are oblong."""
    volume = phantom.sample(12, 128, noise_hu=0)[0]
    oblong = Volume(
        np.ascontiguousarray(np.asarray(volume.array)[:, ::2]),
        volume.affine @ np.diag([1, 2, 1, 1]),
        "PATIENT",
    )
    result = dicom_result(oblong)[0]
    labels = np.asarray(result.segmentation.labels.array)
    pixel_mm2 = oblong.pixel_spacing[0] * oblong.pixel_spacing[1]
    for name, image in overlays(result).items():
        row_mm, column_mm = map(float, image.PixelSpacing)
        assert row_mm == column_mm == FIELD_OF_VIEW_MM / 512
        found = reddish(axial_part(image)).sum() * row_mm * column_mm
        assert found == pytest.approx((labels[int(name[:4])] == 2).sum() * pixel_mm2)


@pytest.mark.parametrize("name", ["m", "a-model-of-a-long-name." * 3])
@pytest.mark.parametrize("columns", [slice(None), slice(18, 26)], ids=["square", "narrow"])
def test_text_is_whole_and_covers_no_anatomy(
    small_volume: Volume, name: str, columns: slice
) -> None:
    """Around all text is a black edge, and the slice is as it is without text."""
    volume = small_volume[16:18, :, columns]
    result = named(volume, name)
    (index, image) = next(iter(overlays(result).items()))
    pixels = image.pixel_array
    caption = pixels[: -64 * 8]
    assert (caption.max(axis=(1, 2)) > 200).sum() > 20
    for edge in (pixels[:2], caption[-4:], caption[:, :4], caption[:, -4:], pixels[-2:]):
        assert edge.max() == 0
    view = View.as_displayed(result.segmentation, result.model.contract.window)
    rows, width = view.natural_size()
    plain = view.overlay(int(index[:4]), (rows * 8, width * 8))
    left = (pixels.shape[1] - width * 8) // 2
    assert np.array_equal(pixels[-rows * 8 :, left : left + width * 8], plain)


def test_large_pictures_have_larger_text(phantom: Phantom) -> None:
    """A slice of 1024 pixels keeps them, and its caption takes the same part of the height."""
    heights = []
    for size in (512, 1024):
        result = dicom_result(phantom.sample(36, size, noise_hu=0)[0][17:18])[0]
        (image,) = overlays(result).values()
        assert axial_part(image).shape[:2] == (size, size)
        heights.append(image.Rows - size)
    assert heights[1] == 2 * heights[0]


def test_each_names_its_source(small_result: Result) -> None:
    """The instance at its position, and what became of it."""
    uids = small_result.segmentation.scan.source.sop_instance_uids
    for name, image in overlays(small_result).items():
        (source,) = image.SourceImageSequence
        assert source.ReferencedSOPInstanceUID == uids[int(name[:4])]
        assert "ReferencedFrameNumber" not in source
        assert list(image.ImageType) == ["DERIVED", "SECONDARY"]
        assert "fake 1.0" in image.DerivationDescription
        assert "not for diagnosis" in image.DerivationDescription
        assert image.BurnedInAnnotation == "NO"
        assert "ImagePositionPatient" not in image
        assert "FrameOfReferenceUID" not in image


def test_each_names_its_frame(small_volume: Volume) -> None:
    """Of a multi-frame source whose frames are in reverse: its class, and the frame's number."""
    whole = enhanced(small_volume, order=range(35, -1, -1))
    images = overlays(result_of([to_bytes(whole)]))
    assert images
    for name, image in images.items():
        (source,) = image.SourceImageSequence
        assert source.ReferencedSOPClassUID == whole.SOPClassUID
        assert source.ReferencedSOPInstanceUID == whole.SOPInstanceUID
        assert source.ReferencedFrameNumber == 36 - int(name[:4])


RESULTS: dict[str, Callable[[Volume], Result]] = {
    "ordinary": lambda volume: dicom_result(volume)[0],
    "nothing found": lambda volume: dicom_result(volume, nothing)[0],
    "multi-frame": lambda volume: result_of([to_bytes(enhanced(volume))]),
    "sagittal": lambda volume: dicom_result(volume.to_patient_orientation("LFP"))[0],
    "tilted": lambda _: answer(scanned(MEDIAN_STEP, 12.0)),
    "one slice": lambda volume: dicom_result(volume[17:18])[0],
    "odd sizes": lambda volume: dicom_result(volume[17:19, 20:41, 10:29])[0],
}


@pytest.mark.parametrize("name", RESULTS)
def test_validates(small_volume: Volume, tmp_path: Path, name: str) -> None:
    """dciodvfy finds no error."""
    files = overlay_files(RESULTS[name](small_volume))
    for data in itertools.islice(files.values(), 0, None, 10):
        assert errors_in(data, "SCImage", tmp_path) == []


def test_a_tilted_source(small_volume: Volume) -> None:
    """Its own slices are drawn, in the pixels of their own plane."""
    images = overlays(answer(scanned(MEDIAN_STEP, 12.0)))
    assert len(images) > 10
    for image in images.values():
        assert [float(mm) for mm in image.PixelSpacing] == pytest.approx([0.5, 0.5])
        assert list(image.PatientOrientation) == ["L", "P"]


def test_a_retry_gives_the_same_bytes(small_volume: Volume) -> None:
    """For the same source and date; another date is written into each."""
    made_at = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    first, second = (overlay_files(dicom_result(small_volume)[0], made_at) for _ in range(2))
    assert first == second
    image = dcmread(io.BytesIO(first["0018.dcm"]))
    for prefix in ("InstanceCreation", "Content", "Series"):
        assert (image[f"{prefix}Date"].value, image[f"{prefix}Time"].value) == (
            "20260504",
            "030201",
        )
    assert (image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture) == ("20260504", "030201")


def test_headers_of_a_result_are_enough(small_result: Result) -> None:
    """Made later, of what results keep of their source: the same bytes under the same UIDs."""
    segmentation = small_result.segmentation
    kept = headers(segmentation.scan, small_result.fingerprint)
    source = replace(segmentation.scan.source, datasets=tuple(kept))
    scan = replace(segmentation.scan, source=source)
    later = replace(small_result, segmentation=replace(segmentation, scan=scan))
    assert overlay_files(later) == overlay_files(small_result)


def test_only_one_is_drawn_at_a_time(small_result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn before it is asked for."""
    drawn = []
    draw = View.overlay

    def counted(view: View, index: int, size: tuple[int, int]) -> np.ndarray:
        drawn.append(index)
        return draw(view, index, size)

    monkeypatch.setattr(View, "overlay", counted)
    provenance = pipeline.provenance_of(small_result)
    window = small_result.model.contract.window
    pictures = overlays_dcm(small_result.segmentation, window, provenance)
    next(pictures)
    next(pictures)
    assert len(drawn) == 2


@pytest.mark.parametrize("name", ["Mononym", "M\u00fcller^Petra", ""])
def test_names_are_kept_and_not_warned_of(small_volume: Volume, name: str) -> None:
    """Warnings are errors here: highdicom's would print the name."""
    result = dicom_result(small_volume[17:18])[0]
    source: SourceReference = result.segmentation.scan.source
    for dataset in source.datasets:
        dataset.PatientName = name
        dataset.StudyDescription = "Abdomen"
    (image,) = overlays(result).values()
    assert (image.PatientName, image.StudyDescription) == (name, "Abdomen")


def test_loss_is_passed_on(small_volume: Volume) -> None:
    """A picture of a source that was compressed with loss says so."""
    result = dicom_result(small_volume[17:18])[0]
    for dataset in result.segmentation.scan.source.datasets:
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = "8.5"
        dataset.LossyImageCompressionMethod = "ISO_15444_1"
    (image,) = overlays(result).values()
    assert (image.LossyImageCompression, image.LossyImageCompressionRatio) == ("01", 8.5)


def test_spacings_that_differ_by_anything(small_volume: Volume) -> None:
    """Pixels of 100 mm by 0.1 mm make no picture of half a million rows."""
    affine = small_volume.affine @ np.diag([1, 100 / 6.25, 0.1 / 6.25, 1])
    volume = Volume(small_volume.array[17:18], affine, "PATIENT")
    scan = dicom_result(small_volume[17:18])[0].segmentation.scan
    labels = volume.with_array(np.ones(volume.spatial_shape, np.uint8))
    result = dicom_result(small_volume[17:18])[0]
    stretched = replace(result.segmentation, scan=replace(scan, volume=volume), labels=labels)
    (image,) = overlays(replace(result, segmentation=stretched)).values()
    assert image.Rows < 5000
    assert float(image.PixelSpacing[0]) == pytest.approx(6400 / 4096)
