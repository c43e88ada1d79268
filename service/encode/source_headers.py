"""What a DICOM result repeats of its source, in a form that the standard allows.

Scanners and anonymisers leave attributes out and write values that no standard knows. So a result
copies nothing as it is: each attribute is read, and written if it is valid, else left empty
(type 2) or derived (type 1). Identifiers (UIDs, patient, accession) stay the source's own, valid or
not, but for control characters: a PACS files the result by them.
"""

import re
import unicodedata
from collections.abc import Sequence
from datetime import date

import numpy as np
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from pydicom.valuerep import DSfloat

from service.decode.headers import numbers
from service.encode.identity import derived_uid
from service.volume import Scan

_DATE = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_METHOD = re.compile(r"[A-Z0-9_ ]{1,16}")
_AGE = re.compile(r"\d{3}[DWMY]")

_NAMES = ("PatientName", "ReferringPhysicianName")
_IDENTIFIERS = ("PatientID", "AccessionNumber")
_OPTIONAL_IDENTIFIERS = ("IssuerOfPatientID",)
_TEXTS = {"StudyID": 16, "PositionReferenceIndicator": 64}
_OPTIONAL_TEXTS = {"StudyDescription": 64}
"""Texts that are no identifiers, and how many characters of them the standard allows."""

_NAME_GROUPS, _NAME_GROUP_CHARACTERS = 3, 64
"""PS3.5 6.2.1: alphabetic, ideographic, phonetic."""

_DATES = ("PatientBirthDate", "StudyDate")
_TIMES = ("StudyTime",)
_SEXES = ("M", "F", "O")

_MOMENTS = ("ContentDate", "AcquisitionDate", "SeriesDate", "StudyDate")
_NO_DATE, _NO_TIME = "19000101", "000000"


def headers(scan: Scan, fingerprint: str) -> list[Dataset]:
    """A data set for each slice with what a result needs of it, in UTF-8, without pixel data.

    Patient, study and series are read from the first slice: decoding saw to it that they are one.
    """
    return _headers(scan, fingerprint, common_header(scan, fingerprint))


def nameless_headers(scan: Scan, fingerprint: str) -> list[Dataset]:
    """The same with empty names, for highdicom, which prints those that it finds unlikely.

    `copy_names` writes them into what was made.
    """
    common = common_header(scan, fingerprint)
    for keyword in _NAMES:
        setattr(common, keyword, "")
    return _headers(scan, fingerprint, common)


def copy_names(result: Dataset, scan: Scan) -> None:
    """Give the result the names of its source's patient and referring physician."""
    for keyword in _NAMES:
        setattr(result, keyword, _name(scan.source.datasets[0], keyword))


def _headers(scan: Scan, fingerprint: str, common: Dataset) -> list[Dataset]:
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
        series.ReferencedInstanceSequence = reference_items(scan)


def reference_items(scan: Scan) -> list[Dataset]:
    """A reference to each source instance once, in the order of the slices."""
    instances = {str(source.SOPInstanceUID): source.SOPClassUID for source in scan.source.datasets}
    return [reference_item(sop_class, instance) for instance, sop_class in instances.items()]


def reference_item(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """An instance as an item of a sequence of references (PS3.3 table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
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
        day = _date(first, keyword)
        if day:
            return day, _matching(first, keyword.replace("Date", "Time"), _TIME) or _NO_TIME
    return _NO_DATE, _NO_TIME


def _header(scan: Scan, index: int, common: Dataset, instance_uid: str) -> Dataset:
    source = scan.source.datasets[index]
    header = Dataset()
    header.update(common)
    header.SOPInstanceUID = instance_uid
    header.ImagePositionPatient = _decimals(numbers(source, "ImagePositionPatient", 3))
    return header


def common_header(scan: Scan, fingerprint: str) -> Dataset:
    """What the slices have in common: patient, study, series, geometry but for the position."""
    source = scan.source.datasets[0]
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _NAMES:
        setattr(header, keyword, _name(source, keyword))
    for keyword in _IDENTIFIERS:
        setattr(header, keyword, _all_text(source, keyword))
    for keyword in _OPTIONAL_IDENTIFIERS:
        if identifier := _all_text(source, keyword):
            setattr(header, keyword, identifier)
    for keyword, most in _TEXTS.items():
        setattr(header, keyword, _short(source, keyword, most))
    for keyword, most in _OPTIONAL_TEXTS.items():
        if text := _short(source, keyword, most):
            setattr(header, keyword, text)
    for keyword in _DATES:
        setattr(header, keyword, _date(source, keyword))
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
    """Lossy compression is passed on (PS3.3 C.7.6.1.1.5), each step of it, if stated in full."""
    ratios = _values(source, "LossyImageCompressionRatio")
    methods = _values(source, "LossyImageCompressionMethod")
    stated = len(ratios) == len(methods) > 0 and all(map(_METHOD.fullmatch, methods))
    if _is_lossy(source) and stated and (numbers_of := _positive(ratios)):
        header.LossyImageCompression = "01"
        header.LossyImageCompressionRatio = _decimals(numbers_of)
        header.LossyImageCompressionMethod = methods


def keep_lossy(result: Dataset, scan: Scan) -> None:
    """Never say that a result's source was not compressed with loss where the source says so."""
    if _is_lossy(scan.source.datasets[0]):
        result.LossyImageCompression = "01"


def _is_lossy(source: Dataset) -> bool:
    return _text(source, "LossyImageCompression") == "01"


def _positive(texts: Sequence[str]) -> list[float]:
    """The numbers; none where one of them is no positive number."""
    try:
        found = [float(text) for text in texts]
    except ValueError:
        return []
    return found if all(0 < number < np.inf for number in found) else []


def _name(source: Dataset, keyword: str) -> str:
    """A person's name, in at most three groups; a physician's is left empty where one is long."""
    groups = _text(source, keyword).split("=")[:_NAME_GROUPS]
    is_patient = keyword == "PatientName"
    if not is_patient and any(len(group) > _NAME_GROUP_CHARACTERS for group in groups):
        return ""
    return "=".join(groups)


def _short(source: Dataset, keyword: str, most: int) -> str:
    text = _text(source, keyword)
    return text if len(text) <= most else ""


def _text(source: Dataset, keyword: str) -> str:
    """The first value as text without control characters; empty where there is none to be read."""
    return next(iter(_values(source, keyword)), "")


def _all_text(source: Dataset, keyword: str) -> str:
    """All values as one text, separated as in the file: an identifier is none in part."""
    return "\\".join(_values(source, keyword))


def _values(source: Dataset, keyword: str) -> list[str]:
    try:
        value = source.get(keyword)
        several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        texts = [str(one) for one in value] if several else [] if value is None else [str(value)]
    except Exception:  # a value that breaks the standard makes pydicom raise nearly anything
        return []
    return ["".join(sign for sign in text if not _is_control(sign)).strip(" ") for text in texts]


def _is_control(sign: str) -> bool:
    """Whether a character has no business in a value; wide and fixed spaces do."""
    return unicodedata.category(sign) == "Cc"


def _date(source: Dataset, keyword: str) -> str:
    """A day that exists, else empty."""
    text = _matching(source, keyword, _DATE)
    try:
        date.fromisoformat(text)
    except ValueError:
        return ""
    return text


def _matching(source: Dataset, keyword: str, pattern: re.Pattern[str]) -> str:
    text = _text(source, keyword)
    return text if pattern.fullmatch(text) else ""


def _decimals(values: object) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in np.asarray(values, dtype=float)]
