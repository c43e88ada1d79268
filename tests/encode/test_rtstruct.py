"""The RT Structure Set says what the labels say, to the pixel, where the source's headers do."""

import io
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ORIENTATIONS
from dicom_files import series, to_bytes
from encode.objects import entity_errors, errors_in, write
from encode.test_outputs import dicom_result, seg_of_changed
from encoded_files import rle, set_frames
from fakes import FakeSegmenter, by_threshold
from highdicom import Volume
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from multiframe_files import enhanced, stored
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from test_resample import CASES, answer, scanned

from service import pipeline
from service.contours import polygons
from service.encode.png import LIVER_COLOR, TUMOR_COLOR
from service.encode.rtstruct import closed_path, rtstruct_dcm
from service.inference.postprocess import Rules
from service.pipeline import Options, Result
from service.settings import Settings

MASKS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda shape: arrays(bool, shape))

NO_RULES = Rules(
    liver_fragments=False, distant_tumor=False, small_lesions=False, unlikely_lesions=False
)


def rtstruct_of(result: Result) -> bytes:
    return rtstruct_dcm(
        result.segmentation.scan,
        result.contours,
        len(result.measured.findings.lesions),
        pipeline.provenance_of(result),
    )


def read(data: bytes) -> Dataset:
    return dcmread(io.BytesIO(data))


def phantom_of(labels: np.ndarray, affine: np.ndarray | None = None) -> Volume:
    """An image that `by_threshold` gives these labels [slice, row, column]; axial, 2 x 1 x 1 mm."""
    axial = np.array([[0, 0, 1, -20.5], [0, 1, 0, 7], [2.0, 0, 0, 100.25], [0, 0, 0, 1]])
    hu = np.choose(labels, [-100, 108, 52]).astype(np.int16)
    return Volume(hu, axial if affine is None else affine, "PATIENT")


def labelled(sources: Sequence[Dataset]) -> Result:
    """The answer to a source whose labels no rule changes."""
    files = [to_bytes(source) for source in sources]
    return pipeline.run(files, Options(rules=NO_RULES), FakeSegmenter(by_threshold), Settings())


# A reader that goes by the standard and by the source's files, and uses no code of the service.

FrameKey = tuple[str, int | None]
"""Instance and number of a frame; None in an instance of one frame."""


@dataclass(frozen=True)
class Frame:
    """A plane of the source, by its own header."""

    key: FrameKey
    shape: tuple[int, int]
    origin_mm: np.ndarray
    column_mm: np.ndarray
    row_mm: np.ndarray

    @classmethod
    def of(cls, source: Dataset, header: Dataset, number: int | None) -> "Frame":
        across, down = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
        between_rows, between_columns = map(float, header.PixelSpacing)
        return cls(
            key=(str(source.SOPInstanceUID), number),
            shape=(source.Rows, source.Columns),
            origin_mm=np.array(header.ImagePositionPatient, dtype=float),
            column_mm=across * between_columns,
            row_mm=down * between_rows,
        )

    def pixels(self, points_mm: np.ndarray) -> np.ndarray:
        """Columns and rows [n, 2] of points, each of which is the centre of a pixel of this plane.

        A coordinate is rounded to 0.001 mm, so that a point is off by less.
        """
        normal = np.cross(self.column_mm, self.row_mm)
        axes = np.column_stack([self.column_mm, self.row_mm, normal / np.linalg.norm(normal)])
        solved = np.linalg.solve(axes, (points_mm - self.origin_mm).T).T
        pixels = np.rint(solved[:, :2]).astype(int)
        assert np.abs(self.points_mm(pixels) - points_mm).max() < 0.001
        return pixels

    def points_mm(self, pixels: np.ndarray) -> np.ndarray:
        return self.origin_mm + pixels @ np.stack([self.column_mm, self.row_mm])


def frames_of(sources: Sequence[Dataset]) -> dict[FrameKey, Frame]:
    return {frame.key: frame for source in sources for frame in _frames(source)}


def _frames(source: Dataset) -> Iterator[Frame]:
    if "PerFrameFunctionalGroupsSequence" not in source:
        yield Frame.of(source, source, None)
        return
    shared = source.SharedFunctionalGroupsSequence[0]
    for number, groups in enumerate(source.PerFrameFunctionalGroupsSequence, start=1):
        header = Dataset()
        header.update(shared.PlaneOrientationSequence[0])
        header.update(shared.PixelMeasuresSequence[0])
        header.update(groups.PlanePositionSequence[0])
        yield Frame.of(source, header, number)


def inside(path: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pixels [row, column] on a closed path or within it; even-odd and nonzero rule agree."""
    rows, columns = np.indices(shape)
    (x0, y0), (x1, y1) = (ends.T[:, :, None, None] for ends in (path, np.roll(path, -1, axis=0)))
    side = (x1 - x0) * (rows - y0) - (y1 - y0) * (columns - x0)
    within_columns = (np.minimum(x0, x1) <= columns) & (columns <= np.maximum(x0, x1))
    within_rows = (np.minimum(y0, y1) <= rows) & (rows <= np.maximum(y0, y1))
    on_path = ((side == 0) & within_columns & within_rows).any(axis=0)
    down = ((y0 <= rows) & (rows < y1) & (side > 0)).sum(axis=0)
    up = ((y1 <= rows) & (rows < y0) & (side < 0)).sum(axis=0)
    even_odd, nonzero = (down + up) % 2 == 1, down != up
    assert np.array_equal(even_odd | on_path, nonzero | on_path)
    return on_path | even_odd


def regions(data: bytes, sources: Sequence[Dataset]) -> dict[str, dict[FrameKey, np.ndarray]]:
    """Masks [row, column] of every frame that has a contour, by name of the region."""
    rtstruct, frames = read(data), frames_of(sources)
    names = {item.ROINumber: item.ROIName for item in rtstruct.StructureSetROISequence}
    found: dict[str, dict[FrameKey, np.ndarray]] = {name: {} for name in names.values()}
    for region in rtstruct.ROIContourSequence:
        masks = found[names[region.ReferencedROINumber]]
        for contour in region.get("ContourSequence", []):
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            (image,) = contour.ContourImageSequence
            frame = frames[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")]
            path = frame.pixels(np.array(contour.ContourData, dtype=float).reshape(-1, 3))
            assert len(path) == contour.NumberOfContourPoints >= 3
            assert (path != np.roll(path, 1, axis=0)).any(axis=1).all()  # nothing is repeated
            mask = masks.setdefault(frame.key, np.zeros(frame.shape, dtype=bool))
            piece = inside(path, frame.shape)
            assert not (mask & piece).any()  # whether contours are joined or xored is the same
            mask |= piece
    return found


def without_lines(mask: np.ndarray) -> np.ndarray:
    """A mask without its pieces of one pixel or of a straight line, which no polygon holds."""
    count, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    kept = np.zeros_like(mask)
    for number in range(1, count):
        pixels = np.argwhere(pieces == number)
        if np.linalg.matrix_rank(pixels - pixels[0]) == 2:
            kept |= pieces == number
    return kept


def expected_regions(result: Result) -> dict[str, dict[FrameKey, np.ndarray]]:
    source = result.segmentation.scan.source
    numbers = source.frame_numbers or [None] * len(source.datasets)
    keys = list(zip(source.sop_instance_uids, numbers, strict=True))
    ids = np.asarray(result.measured.lesion_ids.array)
    volumes = {"Liver": np.asarray(result.segmentation.labels.array) > 0}
    volumes |= {f"Lesion {number}": ids == number for number in range(1, ids.max() + 1)}
    return {
        name: {
            key: kept
            for key, mask in zip(keys, volume, strict=True)
            if (kept := without_lines(mask)).any()
        }
        for name, volume in volumes.items()
    }


def assert_agrees(result: Result, sources: Sequence[Dataset]) -> None:
    """Rasterised through the source's own headers, the contours are the labels."""
    found, expected = regions(rtstruct_of(result), sources), expected_regions(result)
    assert {name: set(masks) for name, masks in found.items()} == {
        name: set(masks) for name, masks in expected.items()
    }
    for name, masks in expected.items():
        for key, mask in masks.items():
            assert np.array_equal(found[name][key], mask)


# One closed path for a polygon and its holes.


def every_pixel(path: np.ndarray) -> np.ndarray:
    """A closed path in steps to one of the eight neighbours."""
    steps = []
    for start, end in zip(path, np.roll(path, -1, axis=0), strict=True):
        length = np.abs(end - start).max()
        steps += [start + (end - start) * step // length for step in range(length)]
    return np.array(steps)


def assert_does_not_cross(path: np.ndarray) -> None:
    """At each pixel, no visit leads from one side of another visit to its other side."""
    path = every_pixel(path)
    eighths = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    visits: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    diagonals: dict[tuple[int, ...], int] = {}
    for before, pixel, after in zip(
        np.roll(path, 1, axis=0), path, np.roll(path, -1, axis=0), strict=True
    ):
        ends = tuple(eighths.index(tuple((end - pixel).tolist())) for end in (before, after))
        others = visits.setdefault(tuple(pixel.tolist()), [])
        for other in others:
            if len({*ends, *other}) == 4:
                between = [(end - other[0]) % 8 < (other[1] - other[0]) % 8 for end in ends]
                assert between[0] == between[1]
        others.append(ends)
        if ends[1] % 2:  # the diagonals of four pixels do not both belong to a path
            corner = tuple(np.minimum(pixel, after).tolist())
            assert diagonals.setdefault(corner, ends[1] % 4) == ends[1] % 4


@settings(derandomize=True, deadline=None, max_examples=300)
@given(MASKS)
def test_closed_paths_are_the_mask(mask: np.ndarray) -> None:
    """Of any mask, with holes, islands and thin parts, the closed paths rasterised are the mask."""
    found = np.zeros_like(mask)
    for polygon in polygons(mask):
        path = closed_path(polygon)
        if len(path) >= 3:
            found |= inside(path, mask.shape)
    assert np.array_equal(found, without_lines(mask))


@pytest.mark.parametrize("density", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_many_keyholes(density: float) -> None:
    """Pieces with dozens of holes, many of them touching: the mask again, and no path crosses."""
    masks = np.random.default_rng(1).random((6, 40, 50)) < density
    assert sum(len(piece.holes_px) for mask in masks for piece in polygons(mask)) > 60
    for mask in masks:
        found = np.zeros_like(mask)
        for polygon in polygons(mask):
            path = closed_path(polygon)
            if polygon.holes_px:
                assert_does_not_cross(path)
            if len(path) >= 3:
                found |= inside(path, mask.shape)
        assert np.array_equal(found, without_lines(mask))


def test_keyholes_in_a_row() -> None:
    """The bridges of holes in one row lead from each to the one before, and back the same way."""
    mask = np.ones((7, 16), dtype=bool)
    mask[3, [3, 7, 8, 12]] = False
    (polygon,) = polygons(mask)
    path = closed_path(polygon).tolist()
    edges = list(zip(path, [*path[1:], path[0]], strict=True))
    for bridge in ([[0, 3], [2, 3]], [[4, 3], [6, 3]], [[9, 3], [11, 3]]):
        assert edges.count((bridge[0], bridge[1])) == edges.count((bridge[1], bridge[0])) == 1
    # Corners, both ends of three bridges once more, and one bridge begins where no corner is.
    assert len(path) == (4 + 4 + 6 + 4) + 6 + 1
    assert_does_not_cross(np.array(path))


def test_a_hole_that_touches_needs_no_bridge() -> None:
    """A ring of one pixel's width: hole and exterior share its pixels."""
    mask = np.ones((5, 6), dtype=bool)
    mask[1:4, 1:5] = False
    (polygon,) = polygons(mask)
    path = closed_path(polygon)
    assert np.array_equal(inside(path, mask.shape), mask)
    assert_does_not_cross(path)


# Where the contours lie.


def solid_l() -> np.ndarray:
    """An L that has no symmetry, with a lesion; no part is thinner than two voxels."""
    labels = np.zeros((9, 20, 24), dtype=np.uint8)
    labels[2:7, 4:14, 5:9] = labels[2:7, 10:14, 5:18] = labels[4:7, 4:8, 9:12] = 1
    labels[3:5, 11:13, 12:16] = 2
    return labels


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_places_in_the_patient(orientation: str) -> None:
    """An L and its lesion fill the same voxels of the patient, however the slices are turned."""
    labels = solid_l()
    affine = np.array([[0, 0, 0.8, -41.3], [0, 0.8, 0, 11.17], [3.1, 0, 0, 250], [0, 0, 0, 1]])
    volume = phantom_of(labels, affine)
    sources = series(volume.to_patient_orientation(orientation))
    found, frames = regions(rtstruct_of(labelled(sources)), sources), frames_of(sources)
    for name, expected in (("Liver", labels > 0), ("Lesion 1", labels == 2)):
        points_mm = np.concatenate(
            [frames[key].points_mm(np.argwhere(mask)[:, ::-1]) for key, mask in found[name].items()]
        )
        indices = (points_mm - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        assert np.abs((indices - np.rint(indices)) @ affine[:3, :3].T).max() < 0.01
        filled = np.zeros(labels.shape, dtype=bool)
        filled[tuple(np.rint(indices).astype(int).T)] = True
        assert np.array_equal(filled, expected)


def test_the_phantom(clean_volume: Volume) -> None:
    """The phantom's contours are its labels, and the organ's hold the volume of the findings."""
    result, sources = dicom_result(clean_volume)
    assert_agrees(result, sources)
    organ = regions(rtstruct_of(result), sources)["Liver"]
    voxels = sum(int(mask.sum()) for mask in organ.values())
    expected_ml = result.measured.findings.liver.volume_ml
    assert voxels * clean_volume.voxel_volume / 1000 == pytest.approx(expected_ml)


def holed_labels() -> np.ndarray:
    """Random labels: holes, islands in holes, single pixels; two lesions, one of them a line."""
    labels = (np.random.default_rng(2).random((4, 30, 40)) < 0.7).astype(np.uint8)
    labels[:3, 4:12, 6:13] = np.where(labels[:3, 4:12, 6:13], 2, 0)
    labels[1:3, 20, 30:36] = 2
    return labels


def test_holes_and_islands() -> None:
    """Random labels come back to the pixel; a lesion that is a line has no contour."""
    sources = series(phantom_of(holed_labels()))
    result = labelled(sources)
    assert_agrees(result, sources)
    assert any(piece.holes_px for contour in result.contours for piece in contour.polygons)


def oblique() -> np.ndarray:
    """An affine of slices, rows and columns that lie along no axis of the patient."""
    axes, _ = np.linalg.qr([[0.2, 0.5, 0.9], [0.4, 0.9, -0.3], [0.95, -0.2, 0.1]])
    affine = np.eye(4)
    affine[:3, :3] = axes * np.sign(np.diag(axes[::-1]))[::-1] * [2.5, 0.6836, 0.7031]
    affine[:3, 3] = [-123.456789, 78.9, -0.0001]
    return affine


def test_oblique_slices() -> None:
    """Labels come back from slices that lie along no axis of the patient."""
    sources = series(phantom_of(solid_l(), oblique()))
    assert_agrees(labelled(sources), sources)


@pytest.mark.parametrize("name", CASES)
def test_irregular_stacks(name: str, tmp_path: Path) -> None:
    """Contours of tilted and unevenly spaced slices lie in them; valid."""
    slices = scanned(*CASES[name])
    result = answer(slices)
    assert_agrees(result, slices.datasets)
    assert errors_in(rtstruct_of(result), "RTStructureSet", tmp_path) == []


def test_slices_a_little_off() -> None:
    """Contours lie in the plane that a slice states, where spacing counts as even yet is not."""
    sources = series(phantom_of(solid_l()))
    for source, off_mm in zip(sources, [0.0, 0.04, -0.03, 0.04, 0, 0.03, -0.04, 0, 0], strict=True):
        x, y, z = source.ImagePositionPatient
        source.ImagePositionPatient = [x + off_mm / 2, y, z + off_mm]
    result = labelled(sources)
    assert result.segmentation.scan.irregular is None
    assert_agrees(result, sources)


@pytest.fixture(scope="module")
def frames() -> list[Dataset]:
    """A concatenation: two instances of one series, the second one compressed and in reverse."""
    volume = phantom_of(solid_l())
    first, second = enhanced(volume[:5], 1), enhanced(volume[5:], 2, order=range(3, -1, -1))
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        setattr(second, keyword, getattr(first, keyword))
    set_frames(second, RLELossless, [rle(frame) for frame in stored(second)])
    return [first, second]


def test_multi_frame_sources(frames: list[Dataset], tmp_path: Path) -> None:
    """A contour names instance and frame, the series each instance once; valid."""
    result = labelled(frames)
    assert_agrees(result, frames)
    data = rtstruct_of(result)
    (study,) = read(data).ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence
    (referenced,) = study.RTReferencedSeriesSequence
    assert [
        (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID)
        for item in referenced.ContourImageSequence
    ] == [(whole.SOPClassUID, whole.SOPInstanceUID) for whole in frames]
    assert errors_in(data, "RTStructureSet", tmp_path) == []


def test_references(clean_volume: Volume) -> None:
    """Study, series and every slice of the source are named, a localiser among them is not."""
    sources = series(clean_volume[8:14])
    localiser = series(clean_volume[:1], seed=3)[0]
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        setattr(localiser, keyword, getattr(sources[0], keyword))
    localiser.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    rtstruct = read(rtstruct_of(labelled([localiser, *sources])))
    (frame_of_reference,) = rtstruct.ReferencedFrameOfReferenceSequence
    (study,) = frame_of_reference.RTReferencedStudySequence
    (referenced,) = study.RTReferencedSeriesSequence
    first = sources[0]
    assert frame_of_reference.FrameOfReferenceUID == first.FrameOfReferenceUID
    assert rtstruct.FrameOfReferenceUID == first.FrameOfReferenceUID
    assert study.ReferencedSOPInstanceUID == rtstruct.StudyInstanceUID == first.StudyInstanceUID
    assert referenced.SeriesInstanceUID == first.SeriesInstanceUID != rtstruct.SeriesInstanceUID
    images = referenced.ContourImageSequence
    assert [image.ReferencedSOPInstanceUID for image in images] == [
        source.SOPInstanceUID for source in sources
    ]
    assert all("ReferencedFrameNumber" not in image for image in images)
    assert {item.ReferencedFrameOfReferenceUID for item in rtstruct.StructureSetROISequence} == {
        first.FrameOfReferenceUID
    }


# What the object says beside the contours.


def test_regions(clean_volume: Volume) -> None:
    """The organ and each lesion: numbered, named, coded, tracked and coloured alike everywhere."""
    rtstruct = read(rtstruct_of(dicom_result(clean_volume)[0]))
    regions, contours = rtstruct.StructureSetROISequence, rtstruct.ROIContourSequence
    observations = rtstruct.RTROIObservationsSequence
    assert [item.ROINumber for item in regions] == [1, 2, 3, 4]
    assert [item.ReferencedROINumber for item in contours] == [1, 2, 3, 4]
    assert [item.ReferencedROINumber for item in observations] == [1, 2, 3, 4]
    assert [item.ROIName for item in regions] == ["Liver", "Lesion 1", "Lesion 2", "Lesion 3"]
    assert {item.ROIGenerationAlgorithm for item in regions} == {"AUTOMATIC"}
    assert [tuple(item.ROIDisplayColor) for item in contours] == [LIVER_COLOR, *[TUMOR_COLOR] * 3]
    assert [item.RTROIInterpretedType for item in observations] == ["ORGAN", "", "", ""]
    assert [item.RTROIIdentificationCodeSequence[0].CodeValue for item in observations] == [
        "10200004",
        *["108369006"] * 3,
    ]
    assert [item.ROIObservationLabel for item in observations] == [
        "liver",
        "lesion-1",
        "lesion-2",
        "lesion-3",
    ]


def test_attributes(clean_volume: Volume) -> None:
    """Patient and study are the source's, series and instance new, nothing is approved."""
    result, sources = dicom_result(clean_volume)
    made_at = datetime(2026, 3, 4, 5, 6, 7)
    provenance = pipeline.provenance_of(result, made_at)
    rtstruct = read(rtstruct_dcm(result.segmentation.scan, result.contours, 3, provenance))
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "AccessionNumber"):
        assert rtstruct[keyword] == sources[0][keyword]
    assert rtstruct.SpecificCharacterSet == "ISO_IR 192"
    assert (rtstruct.Modality, rtstruct.SeriesNumber) == ("RTSTRUCT", 1003)
    assert rtstruct.ApprovalStatus == "UNAPPROVED"
    assert "not for diagnosis" in rtstruct.StructureSetDescription
    assert (rtstruct.StructureSetDate, rtstruct.StructureSetTime) == ("20260304", "050607")
    assert (rtstruct.SeriesDate, rtstruct.InstanceCreationTime) == ("20260304", "050607")
    assert rtstruct.SoftwareVersions == provenance.software_versions


def empty(volume: Volume) -> Result:
    return dicom_result(volume, lambda hu: np.zeros(hu.shape))[0]


def test_nothing_found(clean_volume: Volume) -> None:
    """Neither liver nor lesion: the region of the liver, and no contour in it."""
    rtstruct = read(rtstruct_of(empty(clean_volume)))
    assert [item.ROIName for item in rtstruct.StructureSetROISequence] == ["Liver"]
    (region,) = rtstruct.ROIContourSequence
    assert "ContourSequence" not in region


VALID: dict[str, Callable[[Volume], Result]] = {
    "ordinary": lambda volume: dicom_result(volume)[0],
    "empty": empty,
    "holes": lambda _: labelled(series(phantom_of(holed_labels()))),
    "oblique": lambda _: labelled(series(phantom_of(solid_l(), oblique()))),
    "one slice": lambda volume: dicom_result(volume[12:13])[0],
}


@pytest.mark.parametrize("name", VALID)
def test_validates(clean_volume: Volume, tmp_path: Path, name: str) -> None:
    """dciodvfy finds no error."""
    assert errors_in(rtstruct_of(VALID[name](clean_volume)), "RTStructureSet", tmp_path) == []


def test_entities_agree(clean_volume: Volume, tmp_path: Path) -> None:
    """dcentvfy finds patient, study, series and references consistent with the source."""
    result, sources = dicom_result(clean_volume[8:14])
    files = {f"{number}.dcm": to_bytes(source) for number, source in enumerate(sources)}
    paths = write({**files, "rtstruct.dcm": rtstruct_of(result)}, tmp_path)
    assert entity_errors(paths, str(sources[0].StudyInstanceUID)) == []


@pytest.mark.filterwarnings("ignore")  # pydicom's own, of the values that this test is about
@pytest.mark.parametrize(
    "changes",
    [
        {
            "FrameOfReferenceUID": None,
            "SeriesInstanceUID": None,
            "PositionReferenceIndicator": None,
        },
        dict.fromkeys(("PatientName", "PatientID", "PatientBirthDate", "PatientSex")),
        dict.fromkeys(("StudyID", "StudyDate", "StudyTime", "AccessionNumber")),
        {"PatientSex": "male", "StudyTime": "12:30:00", "PatientAge": "old"},
        {"SpecificCharacterSet": "ISO IR 100", "PatientName": "M\xfcller^Petra"},
        {"PatientAge": "070Y", "SliceThickness": "15mm"},
    ],
    ids=str,
)
def test_poor_headers(clean_volume: Volume, tmp_path: Path, changes: dict[str, object]) -> None:
    """Scanners and anonymisers leave attributes out or write them wrong; the object is valid."""
    result, _ = seg_of_changed(clean_volume[8:14], **changes)
    assert errors_in(rtstruct_of(result), "RTStructureSet", tmp_path) == []


def test_a_retry_gives_the_same_bytes(clean_volume: Volume) -> None:
    """The same request again gives the same bytes, another one another instance."""
    first, second = (dicom_result(clean_volume)[0] for _ in range(2))
    assert rtstruct_of(first) == rtstruct_of(second)
    other = read(rtstruct_of(replace(first, fingerprint="f" * 64)))
    assert other.SOPInstanceUID != read(rtstruct_of(first)).SOPInstanceUID


# Coordinates as decimal strings.


def coordinates(data: bytes) -> list[str]:
    return [
        str(value)
        for region in read(data).ROIContourSequence
        for contour in region.get("ContourSequence", [])
        for value in contour.ContourData
    ]


@pytest.mark.parametrize("origin_mm", [-7e-7, 0.0, -12345.6785, 2e-9, 999_900.0, -999_990.5])
def test_decimals(origin_mm: float, tmp_path: Path) -> None:
    """At most 16 characters, no exponent, no minus before a zero."""
    affine = np.eye(4)[[2, 1, 0, 3]]
    affine[:2, 3] = origin_mm - 5
    data = rtstruct_of(labelled(series(phantom_of(solid_l(), affine))))
    texts = coordinates(data)
    assert max(map(len, texts)) <= 16
    assert not any("e" in text.lower() or (float(text) == 0 and "-" in text) for text in texts)
    assert errors_in(data, "RTStructureSet", tmp_path) == []


def long_contour() -> Result:
    """One piece with so many corners and holes that its contour outgrows explicit VR."""
    mask = np.random.default_rng(4).random((100, 100)) < 0.62
    labels = np.zeros((3, 100, 100), dtype=np.uint8)
    labels[1] = mask
    return labelled(series(phantom_of(labels)))


def test_long_contours(tmp_path: Path) -> None:
    """More than 65,534 bytes are written with implicit VR, and read back whole by all."""
    result = long_contour()
    data = rtstruct_of(result)
    rtstruct = read(data)
    assert rtstruct.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    longest = max(rtstruct.ROIContourSequence[0].ContourSequence,
                  key=lambda item: item.NumberOfContourPoints)  # fmt: skip
    text = "\\".join(str(value) for value in longest.ContourData)
    assert len(text) > 65_534
    assert len(longest.ContourData) == 3 * longest.NumberOfContourPoints
    assert errors_in(data, "RTStructureSet", tmp_path) == []
    if (dcmdump := shutil.which("dcmdump")) is not None:
        (tmp_path / "rtstruct.dcm").write_bytes(data)
        dumped = subprocess.run(
            [dcmdump, "+L", "+P", "3006,0050", tmp_path / "rtstruct.dcm"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert f"[{text}]" in dumped.stdout
        assert dumped.stderr == ""


def test_ordinary_contours(clean_volume: Volume) -> None:
    """All other objects have the encoding that DICOMweb demands."""
    for result in (dicom_result(clean_volume)[0], empty(clean_volume)):
        syntax = read(rtstruct_of(result)).file_meta.TransferSyntaxUID
        assert syntax == ExplicitVRLittleEndian
