"""SEG, label map, SR, RTSTRUCT and pictures of one result: valid, in place, of one mind."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import pytest
from conftest import ORIENTATIONS
from dicom_files import series, to_bytes
from encode.objects import codes_in, entity_errors, object_errors, objects_of, write
from encode.test_outputs import expected_segments
from encoded_files import CODECS, set_frames, stored_values, written
from fakes import FakeSegmenter, by_threshold, make_contract
from highdicom import Volume
from multiframe_files import enhanced
from pydicom import Dataset, config, dcmread
from pydicom.uid import CTImageStorage
from test_resample import CASES, middle_thresholds, scanned

from service import pipeline
from service.phantom import Phantom
from service.pipeline import Options, Result
from service.settings import Settings

Rule = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Answer:
    """The files that came, what was found, and the objects made of it."""

    files: list[bytes]
    result: Result
    objects: dict[str, bytes]

    def object(self, name: str) -> Dataset:
        return dcmread(io.BytesIO(self.objects[name]))


def answer(files: list[bytes], rule: Rule = by_threshold, resample: bool = False) -> Answer:
    model = FakeSegmenter(rule, make_contract())
    result = pipeline.run(files, Options(resample=resample), model, Settings())
    return Answer(files, result, objects_of(result))


def compressed(volume: Volume, name: str) -> list[bytes]:
    files = []
    for dataset in series(volume):
        codec = CODECS[name]
        frame = codec.encode(stored_values(dataset))
        set_frames(dataset, codec.syntax, [frame])
        files.append(written(dataset))
    return files


def with_localiser(volume: Volume) -> list[bytes]:
    datasets = series(volume)
    scout = series(volume[:1], seed=99)[0]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(scout, keyword, getattr(datasets[0], keyword))
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    return [to_bytes(dataset) for dataset in (scout, *datasets)]


def nothing(hu: np.ndarray) -> np.ndarray:
    return np.zeros(hu.shape)


def only_liver(hu: np.ndarray) -> np.ndarray:
    return (by_threshold(hu) > 0).astype(np.uint8)


SOURCES: dict[str, Callable[[Volume], Answer]] = {
    "single frames": lambda volume: answer([to_bytes(one) for one in series(volume)]),
    "enhanced CT": lambda volume: answer([to_bytes(enhanced(volume))]),
    "localiser": lambda volume: answer(with_localiser(volume)),
    "sagittal": lambda volume: answer(
        [to_bytes(one) for one in series(volume.to_patient_orientation("LFP"))]
    ),
    "no tumour": lambda volume: answer([to_bytes(one) for one in series(volume)], only_liver),
    "nothing": lambda volume: answer([to_bytes(one) for one in series(volume)], nothing),
    "one slice": lambda volume: answer([to_bytes(one) for one in series(volume[7:8])]),
    **{
        name: lambda volume, name=name: answer(compressed(volume, name))
        for name in ("RLE", "JPEG lossless SV1", "JPEG-LS", "JPEG 2000 lossless", "HTJ2K lossless")
    },
    **{
        name: lambda _, case=case: answer(scanned(*case).files, middle_thresholds, resample=True)
        for name, case in CASES.items()
    },
}


@pytest.fixture(scope="module")
def volume(phantom: Phantom) -> Volume:
    """Coarse, since the validators take their time for each picture: 14 slices of 48 x 48."""
    return phantom.sample(14, 48, noise_hu=0)[0]


@pytest.fixture(scope="module", params=SOURCES)
def made(request: pytest.FixtureRequest, volume: Volume) -> Answer:
    return SOURCES[request.param](volume)


def test_the_validators_find_no_error(made: Answer, tmp_path: Path) -> None:
    """dciodvfy in no object, dcentvfy in none of them beside its source."""
    objects = write(made.objects, tmp_path / "objects")
    assert object_errors(objects) == []
    sources = write({f"{index}.dcm": data for index, data in enumerate(made.files)}, tmp_path)
    study = str(dcmread(sources[0]).StudyInstanceUID)
    assert entity_errors([*objects, *sources], study) == []


def test_same_patient_study_and_frame_of_reference(made: Answer) -> None:
    """Each object belongs to the source's study; series and instances are new, all different."""
    source = dcmread(io.BytesIO(made.files[-1]))
    uids, by_series = set(), {}
    for name in made.objects:
        found = made.object(name)
        for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "StudyID"):
            assert found[keyword].value == source[keyword].value, (name, keyword)
        if name in ("mask.dcm", "labelmap.dcm", "rtstruct.dcm"):
            assert found.FrameOfReferenceUID == source.FrameOfReferenceUID, name
        uids.add(str(found.SOPInstanceUID))
        by_series.setdefault(str(found.SeriesInstanceUID), set()).add(str(found.Modality))
    assert len(uids) == len(made.objects)
    assert all(len(modalities) == 1 for modalities in by_series.values())
    assert len(by_series) == 5
    assert str(source.SeriesInstanceUID) not in by_series


def test_the_segments_read_back(made: Answer) -> None:
    """BINARY and LABELMAP hold the same voxels, those of the labels."""
    expected = expected_segments(made.result)
    for name in ("mask.dcm", "labelmap.dcm"):
        seg = highdicom.seg.segread(io.BytesIO(made.objects[name]))
        found = segments_by_source(seg, made.result)
        assert np.array_equal(found, expected), name


def segments_by_source(seg: highdicom.seg.Segmentation, result: Result) -> np.ndarray:
    """The segment's number of every voxel, slice by slice of the source."""
    source = result.segmentation.scan.source
    if source.frame_numbers:
        return seg.get_pixels_by_source_frame(
            source_sop_instance_uid=source.sop_instance_uids[0],
            source_frame_numbers=list(source.frame_numbers),
            combine_segments=True,
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
    return seg.get_pixels_by_source_instance(
        source_sop_instance_uids=list(source.sop_instance_uids),
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )


def test_volumes_agree(made: Answer) -> None:
    """Those of SR and JSON are the segment's voxels times their volume, each slice its own."""
    segments = expected_segments(made.result)
    scan = made.result.segmentation.scan
    slice_mm = np.full(len(segments), scan.volume.spacing_between_slices)
    if scan.irregular is not None:
        slice_mm = scan.irregular.thickness_mm
    pixel_mm2 = float(np.prod(scan.volume.pixel_spacing))
    (measurements,) = (
        item for item in made.object("report.dcm").ContentSequence if codes_in(item) == "126010"
    )
    for position, group in enumerate(measurements.ContentSequence[:-2]):
        counts = (segments == position + 1).sum(axis=(1, 2))
        (volume,) = (item for item in group.ContentSequence if codes_in(item) == "118565006")
        found = float(volume.MeasuredValueSequence[0].FloatingPointValue)
        assert found == pytest.approx(float(counts @ slice_mm) * pixel_mm2 / 1000, rel=1e-6)
    findings = pipeline.result_document(made.result).findings
    rois = made.object("rtstruct.dcm").StructureSetROISequence
    assert len(rois) == len(measurements.ContentSequence) - 2 == 1 + len(findings.lesions)


def test_a_retry_gives_the_same_bytes(made: Answer) -> None:
    """Objects of the same result are the same, byte for byte."""
    assert objects_of(made.result) == made.objects


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation(volume: Volume, orientation: str) -> None:
    """SEG frames and RTSTRUCT contours lie where their source slices lie, to 0.01 mm."""
    datasets = series(volume.to_patient_orientation(orientation))
    made = answer([to_bytes(one) for one in datasets])
    positions = {
        str(one.SOPInstanceUID): np.array(one.ImagePositionPatient, float) for one in datasets
    }
    for name in ("mask.dcm", "labelmap.dcm"):
        seg = made.object(name)
        assert seg.FrameOfReferenceUID == datasets[0].FrameOfReferenceUID
        for frame in seg.PerFrameFunctionalGroupsSequence:
            (image,) = frame.DerivationImageSequence[0].SourceImageSequence
            found = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
            off = np.abs(found - positions[str(image.ReferencedSOPInstanceUID)])
            assert off.max() < 0.01
        assert np.array_equal(
            segments_by_source(highdicom.seg.segread(io.BytesIO(made.objects[name])), made.result),
            expected_segments(made.result),
        )
    right, down = np.reshape(np.array(datasets[0].ImageOrientationPatient, float), (2, 3))
    normal = np.cross(right, down)
    contours = [
        contour
        for roi in made.object("rtstruct.dcm").ROIContourSequence
        for contour in roi.ContourSequence
    ]
    assert contours
    for contour in contours:
        (image,) = contour.ContourImageSequence
        assert image.ReferencedSOPClassUID == CTImageStorage
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        off = (points - positions[str(image.ReferencedSOPInstanceUID)]) @ normal
        assert np.abs(off).max() < 0.01


def test_the_lesion_is_in_the_same_place_in_all(clean_volume: Volume) -> None:
    """Its centre in mm, from SEG, from RTSTRUCT and from JSON, in any orientation."""
    for orientation in ("HPL", "FAR", "RHA"):
        made = answer(
            [to_bytes(one) for one in series(clean_volume.to_patient_orientation(orientation))]
        )
        lesion = pipeline.result_document(made.result).findings.lesions[0]
        seg = highdicom.seg.segread(io.BytesIO(made.objects["mask.dcm"]))
        volume = seg.get_volume(segment_numbers=[2], combine_segments=True, relabel=True)
        voxels = np.argwhere(np.asarray(volume.array) == 1)
        centre = volume.map_indices_to_reference(voxels).mean(axis=0)
        assert centre == pytest.approx(lesion.centroid_mm, abs=0.01)
        roi = made.object("rtstruct.dcm").ROIContourSequence[1]
        points = np.concatenate(
            [np.array(one.ContourData, float).reshape(-1, 3) for one in roi.ContourSequence]
        )
        assert points.mean(axis=0) == pytest.approx(lesion.centroid_mm, abs=3)


@pytest.mark.parametrize(
    "changes",
    [
        {"StudyDate": "20200231", "SeriesDate": "20210229"},
        {"PatientBirthDate": "19500230"},
        {"StudyDescription": "d" * 80, "StudyID": "s" * 20, "PositionReferenceIndicator": "p" * 70},
        {"ReferringPhysicianName": "R" * 70},
        {"PatientName": "HCC_015"},
        {"PatientName": "A=B=C=D"},
        {"IssuerOfPatientID": "Hospital"},
        {"StudyInstanceUID": None, "FrameOfReferenceUID": None, "PatientID": None},
        {
            "LossyImageCompression": "01",
            "LossyImageCompressionRatio": ["10.5", "3.2"],
            "LossyImageCompressionMethod": ["ISO_15444_1", "ISO_10918_1"],
        },
        {
            "LossyImageCompression": "01",
            "LossyImageCompressionRatio": "10",
            "LossyImageCompressionMethod": "Wavelet, of the lossy kind",
        },
    ],
    ids=str,
)
def test_poor_headers_give_valid_objects(
    volume: Volume, tmp_path: Path, changes: dict[str, object]
) -> None:
    """What scanners and anonymisers leave out or write wrong is left out, in every object."""
    made = changed(volume[4:9], **changes)
    lossy = "LossyImageCompression" in changes
    errors = object_errors(write(made.objects, tmp_path))
    # The source does not say how it was compressed, and the standard asks of which method.
    told = [error for error in errors if not (lossy and "LossyImageCompression" in error)]
    assert told == []
    if lossy:
        for name in ("mask.dcm", "labelmap.dcm", next(n for n in made.objects if "/" in n)):
            assert made.object(name).LossyImageCompression == "01"


def test_identifiers_stay_as_they_are(volume: Volume) -> None:
    """Wide and fixed spaces belong to a name and an id; a PACS files by them."""
    identifiers = {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": "YAMADA^TAROU=山田　太郎",  # the wide space is the point
        "PatientID": "12\u00a034",
        "AccessionNumber": "A-17",
        "IssuerOfPatientID": "Klinik Nord",
    }
    made = changed(volume[4:9], **identifiers)
    for name in made.objects:
        found = made.object(name)
        for keyword, expected in identifiers.items():
            assert str(found[keyword].value) == expected, (name, keyword)


def changed(volume: Volume, **changes: object) -> Answer:
    """The answer to slices with these attributes; None takes one away."""
    datasets = series(volume)
    for dataset in datasets:
        for keyword, value in changes.items():
            if value is None:
                del dataset[keyword]
            else:
                with config.disable_value_validation():
                    setattr(dataset, keyword, value)
    return answer([to_bytes(dataset) for dataset in datasets])
