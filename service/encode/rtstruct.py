"""Outlines as a DICOM RT Structure Set (PS3.3 A.19), in the patient's millimetres.

One region of interest is the liver with its lesions, then comes one for each lesion. A polygon is
one CLOSED_PLANAR contour through pixel centres, its holes cut out by keyholes, and what lies on a
contour's path belongs to it (C.8.8.6.3): so the labels come back from the contours exactly, by the
even-odd rule as by the nonzero one. Only a piece that is one pixel or a straight line of pixels is
left out, since it has no three vertices. A result without liver or lesions is a valid object too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RTStructureSetStorage,
)

from service.contours import Contour, PixelPoints, Polygon, to_patient_mm
from service.encode.dicom_file import dicom_file
from service.encode.items import like
from service.encode.png import LIVER_COLOR, TUMOR_COLOR
from service.encode.provenance import (
    AI_FAMILY,
    NOT_FOR_DIAGNOSIS,
    Provenance,
    dicom_code,
    stamp,
    tracking_id,
)
from service.encode.source_headers import headers, reference_item, reference_items
from service.inference.contract import Code
from service.volume import Scan, points_to_patient_mm

_SERIES_NUMBER = 1003
_LIVER_ROI = 1
"""Number of the liver's region; a lesion's is its id and this, as in the SEG."""

_DETACHED_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"
"""Retired, and all the same the class that a reference to a study names (PS3.3 10.6.1)."""

_REPEATED = (
    "SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription",
    "IssuerOfPatientID", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)  # fmt: skip
"""What is the source's own: patient, study and frame of reference."""

_LONGEST_EXPLICIT = 65_534
"""Bytes of a decimal string in explicit VR, whose length has 16 bits and is even (PS3.5 7.1.2)."""


def rtstruct_dcm(
    scan: Scan, contours: Sequence[Contour], lesions: int, provenance: Provenance
) -> bytes:
    """The structure set as a DICOM file.

    `lesions` is how many there are; their ids count from 1. The scan must be DICOM.
    """
    source = headers(scan, provenance.fingerprint)
    planes = _planes(scan, source)
    ids = (None, *range(1, lesions + 1))
    outlines: dict[int | None, list[Dataset]] = {lesion_id: [] for lesion_id in ids}
    for contour in contours:
        outlines[contour.lesion_id].extend(_outlines(scan, contour, planes[contour.slice_index]))
    result = _structure_set(scan, source[0], provenance)
    result.StructureSetROISequence = [*_regions(lesions, result.FrameOfReferenceUID, provenance)]
    result.ROIContourSequence = [
        _region_contours(lesion_id, items) for lesion_id, items in outlines.items()
    ]
    result.RTROIObservationsSequence = [*_observations(lesions, provenance)]
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = _transfer_syntax(result.ROIContourSequence)
    return dicom_file(result)


def _structure_set(scan: Scan, source: Dataset, provenance: Provenance) -> Dataset:
    """All but the regions; `source` holds what the slices have in common."""
    result = Dataset()
    for keyword in _REPEATED:
        if keyword in source:
            result[keyword] = source[keyword]
    result.SOPClassUID = RTStructureSetStorage
    result.SOPInstanceUID = provenance.uid("rtstruct instance")
    result.InstanceNumber = 1
    result.Modality = "RTSTRUCT"
    result.SeriesInstanceUID = provenance.uid("rtstruct series")
    result.SeriesNumber = _SERIES_NUMBER
    result.SeriesDescription = "AI liver and tumours, contours (research)"
    result.OperatorsName = ""
    result.StructureSetLabel = "AI liver"
    result.StructureSetName = "Liver and tumours"
    result.StructureSetDescription = f"Liver and tumours, {NOT_FOR_DIAGNOSIS}"
    result.ApprovalStatus = "UNAPPROVED"
    stamp(result, scan, provenance)
    result.StructureSetDate, result.StructureSetTime = result.ContentDate, result.ContentTime
    del result.ContentDate, result.ContentTime  # of images and documents, not of this object
    result.ReferencedFrameOfReferenceSequence = [_frame_of_reference(scan, source)]
    return result


def _frame_of_reference(scan: Scan, source: Dataset) -> Dataset:
    """The source's frame of reference, with all of its instances (C.8.8.5)."""
    series = Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    series.ContourImageSequence = reference_items(scan)
    study = reference_item(_DETACHED_STUDY_MANAGEMENT, source.StudyInstanceUID)
    study.RTReferencedSeriesSequence = [series]
    frame_of_reference = Dataset()
    frame_of_reference.FrameOfReferenceUID = source.FrameOfReferenceUID
    frame_of_reference.RTReferencedStudySequence = [study]
    return frame_of_reference


def _regions(
    lesions: int, frame_of_reference_uid: str, provenance: Provenance
) -> Iterator[Dataset]:
    """Items of StructureSetROISequence; those of lesions share what is not a lesion's own."""
    yield _region(None, frame_of_reference_uid, provenance)
    pattern = _region(1, frame_of_reference_uid, provenance)
    for lesion_id in range(1, lesions + 1):
        yield like(pattern, ROINumber=_number(lesion_id), ROIName=_name(lesion_id))


def _region(lesion_id: int | None, frame_of_reference_uid: str, provenance: Provenance) -> Dataset:
    """An item of StructureSetROISequence; None is the liver."""
    algorithm = provenance.algorithm
    item = Dataset()
    item.ROINumber = _number(lesion_id)
    item.ReferencedFrameOfReferenceUID = frame_of_reference_uid
    item.ROIName = _name(lesion_id)
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    item.ROIDerivationAlgorithmIdentificationSequence = highdicom.AlgorithmIdentificationSequence(
        name=algorithm.name, family=AI_FAMILY, version=algorithm.version
    )
    if lesion_id is None:
        item.ROIDescription = "Liver with its lesions"
    return item


def _name(lesion_id: int | None) -> str:
    return "Liver" if lesion_id is None else f"Lesion {lesion_id}"


def _number(lesion_id: int | None) -> int:
    return _LIVER_ROI + (lesion_id or 0)


def _region_contours(lesion_id: int | None, outlines: list[Dataset]) -> Dataset:
    """An item of ROIContourSequence; it has no ContourSequence (type 3) where there is nothing."""
    item = Dataset()
    item.ReferencedROINumber = _number(lesion_id)
    item.ROIDisplayColor = list(LIVER_COLOR if lesion_id is None else TUMOR_COLOR)
    if outlines:
        item.ContourSequence = outlines
    return item


def _observations(lesions: int, provenance: Provenance) -> Iterator[Dataset]:
    """Items of RTROIObservationsSequence; those of lesions share what is not a lesion's own."""
    yield _observation(None, provenance)
    pattern = _observation(1, provenance)
    for lesion_id in range(1, lesions + 1):
        number = _number(lesion_id)
        yield like(
            pattern,
            ObservationNumber=number,
            ReferencedROINumber=number,
            ROIObservationLabel=tracking_id(lesion_id),
        )


def _observation(lesion_id: int | None, provenance: Provenance) -> Dataset:
    """An item of RTROIObservationsSequence.

    A lesion has no interpreted type (type 2): those of tumours are volumes that a physician
    defines. The label, retired and without a successor, is what SEG and SR track it by.
    """
    algorithm = provenance.algorithm
    structure = algorithm.liver if lesion_id is None else algorithm.tumor
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = _number(lesion_id)
    item.ROIObservationLabel = tracking_id(lesion_id)
    item.SegmentedPropertyCategoryCodeSequence = [_coded(structure.category)]
    item.RTROIIdentificationCodeSequence = [_coded(structure.type)]
    if lesion_id is not None:
        item.AnatomicRegionSequence = [_coded(algorithm.liver.type)]
    item.RTROIInterpretedType = "ORGAN" if lesion_id is None else ""
    item.ROIInterpreter = ""
    return item


def _coded(code: Code) -> Dataset:
    return highdicom.sr.CodedConcept.from_code(dicom_code(code))


@dataclass(frozen=True)
class _Plane:
    """A slice of the source as contours refer to it.

    `shift_mm` leads from where the volume's affine has the slice to where its header says it is.
    That is little where the spacing counts as even, yet readers match contours by position.
    """

    image: Dataset
    shift_mm: NDArray[np.float64]


def _planes(scan: Scan, source: Sequence[Dataset]) -> list[_Plane]:
    """One for each slice, from the headers of all."""
    positions_mm = np.array([header.ImagePositionPatient for header in source], dtype=np.float64)
    first_pixels = np.zeros(positions_mm.shape)
    first_pixels[:, 0] = np.arange(len(source))
    shifts_mm = positions_mm - points_to_patient_mm(scan, first_pixels)
    return [_Plane(_image(scan, index), shift_mm) for index, shift_mm in enumerate(shifts_mm)]


def _image(scan: Scan, slice_index: int) -> Dataset:
    """The instance that a slice came from, and its frame where the instance has several."""
    source = scan.source.datasets[slice_index]
    item = reference_item(source.SOPClassUID, str(source.SOPInstanceUID))
    if scan.source.frame_numbers:
        item.ReferencedFrameNumber = scan.source.frame_numbers[slice_index]
    return item


def _outlines(scan: Scan, contour: Contour, plane: _Plane) -> Iterator[Dataset]:
    """Items of ContourSequence, one for each polygon of three vertices or more."""
    for polygon in contour.polygons:
        if len(polygon.exterior_px) < 3:
            continue
        path = closed_path(polygon)
        points_mm = to_patient_mm(scan, contour.slice_index, path) + plane.shift_mm
        item = Dataset()
        item.ContourImageSequence = [plane.image]
        item.ContourGeometricType = "CLOSED_PLANAR"
        item.NumberOfContourPoints = len(path)
        # As text: pydicom's own numbers would take seven times as long.
        text = _decimals(points_mm)
        item.add(DataElement("ContourData", "DS", text, already_converted=True))
        yield item


def _decimals(points_mm: NDArray[np.float64]) -> str:
    """Points [n, 3] as a decimal string, each value to the nearest micrometre.

    None needs more than 16 characters (PS3.5 6.2): decoding refuses positions beyond a kilometre.
    """
    rounded = np.round(points_mm, 3) + 0.0  # turns -0 into 0
    return "\\".join(["%.3f"] * rounded.size) % tuple(rounded.ravel().tolist())


def closed_path(polygon: Polygon) -> PixelPoints:
    """One path around a polygon, its first vertex not repeated; each hole is cut out by a keyhole.

    From a hole's head, its leftmost pixel, a bridge runs left along the row to the nearest pixel of
    another outline, and back. So no bridge crosses an outline or shares its way with another, and
    as each leads further left, all holes hang together with the exterior.
    """
    if not polygon.holes_px:
        return polygon.exterior_px
    outlines = [_every_pixel(outline) for outline in (polygon.exterior_px, *polygon.holes_px)]
    pixels = np.concatenate(outlines)
    ends = np.array([len(outline) for outline in outlines]).cumsum()
    heads = ends[:-1] + np.array([hole[:, 0].argmin() for hole in outlines[1:]])
    path = pixels[_walk(ends, heads, _nearest_to_the_left(pixels, heads))]
    path = path[(path != np.roll(path, 1, axis=0)).any(axis=1)]  # outlines that touch: no bridge
    steps = np.sign(np.roll(path, -1, axis=0) - path)
    return np.asarray(path[(steps != np.roll(steps, 1, axis=0)).any(axis=1)])


def _every_pixel(outline: PixelPoints) -> PixelPoints:
    """All pixels on an outline, of which OpenCV gives the ends of rows, columns and diagonals."""
    steps = np.roll(outline, -1, axis=0) - outline
    lengths = np.abs(steps).max(axis=1)
    done = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
    edges = np.repeat(np.column_stack([outline, steps // lengths[:, None]]), lengths, axis=0)
    return np.asarray(edges[:, :2] + done[:, None] * edges[:, 2:], dtype=np.int32)


def _nearest_to_the_left(pixels: PixelPoints, heads: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each head the pixel that its bridge leads to; the same place where outlines touch."""
    is_head = np.zeros(len(pixels), dtype=bool)
    is_head[heads] = True
    order = np.lexsort((is_head, pixels[:, 0], pixels[:, 1]))
    return np.asarray(order[order.argsort()[heads] - 1])


def _walk(
    ends: NDArray[np.intp], heads: NDArray[np.intp], reached: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Indices of pixels in their order on the path along all outlines and bridges.

    `ends` are those of the outlines among the pixels, and a bridge visits its two pixels again.
    Which visit of a pixel it parts from does not matter: each goes around a gap of its own, and the
    bridge comes through the structure.
    """
    pixels = np.concatenate([np.arange(ends[-1]), heads, reached])
    following = np.arange(1, len(pixels) + 1)
    following[ends - 1] = [0, *ends[:-1]]
    after = following.tolist()
    for number, (head, at) in enumerate(zip(heads, reached, strict=True), start=ends[-1]):
        there, back = number, number + len(heads)
        after[there], after[head] = after[head], back
        after[back], after[at] = after[at], there
    path = [0]
    while (visit := after[path[-1]]) != 0:
        path.append(visit)
    return np.asarray(pixels[path])


def _transfer_syntax(regions: Sequence[Dataset]) -> UID:
    """Explicit VR Little Endian, which DICOMweb asks for (PS3.18 8.7.3).

    Only where a contour is too long for it, Implicit VR Little Endian, which has no such limit.
    """
    outlines = [item for region in regions for item in region.get("ContourSequence", [])]
    longest = max((len(item["ContourData"].value) for item in outlines), default=0)
    return ExplicitVRLittleEndian if longest <= _LONGEST_EXPLICIT else ImplicitVRLittleEndian
