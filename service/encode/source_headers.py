"""What a DICOM result repeats of its source, in a form that the standard allows.

Scanners and anonymisers leave attributes out and write values that no standard knows. So a result
copies nothing as it is: each attribute is read, and written if it is valid, else left empty
(type 2) or derived (type 1). Identifiers (UIDs, patient, accession) stay the source's own, valid or
not: a PACS files the result by them.
"""

import re
from collections.abc import Sequence

import numpy as np
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from pydicom.valuerep import DSfloat

from service.decode.headers import numbers
from service.encode.identity import derived_uid
from service.volume import Scan

_DATE = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_AGE = re.compile(r"\d{3}[DWMY]")

_TEXTS = (
    "PatientName",
    "PatientID",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "PositionReferenceIndicator",
)
_DATES = ("PatientBirthDate", "StudyDate")
_TIMES = ("StudyTime",)
_SEXES = ("M", "F", "O")

_MOMENTS = ("ContentDate", "AcquisitionDate", "SeriesDate", "StudyDate")
_NO_DATE, _NO_TIME = "19000101", "000000"


def headers(scan: Scan, fingerprint: str) -> list[Dataset]:
    """A data set for each slice with what a result needs of it, in UTF-8, without pixel data.

    Patient, study and series are read from the first slice: decoding saw to it that they are one.
    """
    common = _common(scan, fingerprint)
    return [
        _header(scan, index, common, _plane_uid(scan, index, fingerprint))
        for index in range(len(scan.source.datasets))
    ]


def refer_to_frames(result: Dataset, scan: Scan, fingerprint: str) -> None:
    """Make a result that was written from `headers` refer to the frames of multi-frame instances.

    A header stands for a single-frame image of each frame, so that frames of several instances
    (concatenations) and single files are handled alike; here its UID becomes the instance's, with
    ReferencedFrameNumber (PS3.3 table 10-3). Nothing changes for single-frame sources.
    """
    planes = {
        _plane_uid(scan, index, fingerprint): (scan.source.datasets[index], frame)
        for index, frame in enumerate(scan.source.frame_numbers)
    }
    if not planes:
        return
    items = [*result.get("SourceImageSequence", [])]  # of a label map, beside those of its frames
    for frame_groups in result.PerFrameFunctionalGroupsSequence:
        for derivation in frame_groups.get("DerivationImageSequence", []):
            items += derivation.SourceImageSequence
    for image in {id(item): item for item in items}.values():  # segments' frames share items
        source, frame = planes[str(image.ReferencedSOPInstanceUID)]
        image.ReferencedSOPClassUID = source.SOPClassUID
        image.ReferencedSOPInstanceUID = str(source.SOPInstanceUID)
        image.ReferencedFrameNumber = frame
    for series in result.ReferencedSeriesSequence:
        series.ReferencedInstanceSequence = [_item(source) for source in instance_references(scan)]


def instance_references(scan: Scan) -> list[Dataset]:
    """SOPClassUID and SOPInstanceUID of each source instance once, in the order of the slices."""
    references = {}
    for source in scan.source.datasets:
        reference = Dataset()
        reference.SOPClassUID = source.SOPClassUID
        reference.SOPInstanceUID = str(source.SOPInstanceUID)
        references[str(source.SOPInstanceUID)] = reference
    return list(references.values())


def _item(instance: Dataset) -> Dataset:
    """An instance as an item of a sequence of references (PS3.3 table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = instance.SOPClassUID
    item.ReferencedSOPInstanceUID = instance.SOPInstanceUID
    return item


def _plane_uid(scan: Scan, index: int, fingerprint: str) -> str:
    """The instance's UID, or one that stands for a frame until `refer_to_frames`."""
    if scan.source.frame_numbers:
        return derived_uid(fingerprint, f"source frame {index}")
    return scan.source.sop_instance_uids[index]


def content_moment(scan: Scan) -> tuple[str, str]:
    """Date and time (DA, TM) of the source, which the result takes for its own.

    A stateless service cannot know when it was first asked, and a retry must give the same bytes.
    """
    first = scan.source.datasets[0]
    for keyword in _MOMENTS:
        date = _matching(first, keyword, _DATE)
        if date:
            return date, _matching(first, keyword.replace("Date", "Time"), _TIME) or _NO_TIME
    return _NO_DATE, _NO_TIME


def _header(scan: Scan, index: int, common: Dataset, instance_uid: str) -> Dataset:
    source = scan.source.datasets[index]
    header = Dataset()
    header.update(common)
    header.SOPInstanceUID = instance_uid
    header.ImagePositionPatient = _decimals(numbers(source, "ImagePositionPatient", 3))
    return header


def _common(scan: Scan, fingerprint: str) -> Dataset:
    source = scan.source.datasets[0]
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _TEXTS:
        setattr(header, keyword, _text(source, keyword))
    for keyword in _DATES:
        setattr(header, keyword, _matching(source, keyword, _DATE))
    for keyword in _TIMES:
        setattr(header, keyword, _matching(source, keyword, _TIME))
    sex = _text(source, "PatientSex")
    header.PatientSex = sex if sex in _SEXES else ""
    if age := _matching(source, "PatientAge", _AGE):
        header.PatientAge = age
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        uid = _text(source, keyword) or derived_uid(fingerprint, f"source {keyword}")
        setattr(header, keyword, uid)
    header.SOPClassUID = CTImageStorage
    header.Modality = "CT"
    _set_geometry(header, scan)
    _set_compression(header, source)
    return header


def _set_geometry(header: Dataset, scan: Scan) -> None:
    volume = scan.volume
    header.Rows, header.Columns = volume.spatial_shape[1:]
    header.ImageOrientationPatient = _decimals(
        np.concatenate([volume.unit_vectors()[2], volume.unit_vectors()[1]])
    )
    header.PixelSpacing = _decimals(volume.pixel_spacing)
    header.SliceThickness = _decimals([volume.spacing_between_slices])[0]


def _set_compression(header: Dataset, source: Dataset) -> None:
    """Lossy compression is passed on (PS3.3 C.7.6.1.1.5), if it is stated in full."""
    ratio = numbers(source, "LossyImageCompressionRatio", 1)
    method = _text(source, "LossyImageCompressionMethod")
    if _text(source, "LossyImageCompression") == "01" and ratio is not None and method:
        header.LossyImageCompression = "01"
        header.LossyImageCompressionRatio = _decimals(ratio)[0]
        header.LossyImageCompressionMethod = method


def _text(source: Dataset, keyword: str) -> str:
    """One value as text without control characters; empty where there is none to be read."""
    try:
        value = source.get(keyword)
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            value = value[0] if value else ""
        text = "" if value is None else str(value)
    except Exception:  # a value that breaks the standard makes pydicom raise nearly anything
        return ""
    return "".join(sign for sign in text if sign.isprintable()).strip()


def _matching(source: Dataset, keyword: str, pattern: re.Pattern[str]) -> str:
    text = _text(source, keyword)
    return text if pattern.fullmatch(text) else ""


def _decimals(values: object) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in np.asarray(values, dtype=float)]
