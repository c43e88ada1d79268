"""A DICOM file as its header and its pixel data, and values of headers without surprises."""

import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pydicom.config
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.filereader import data_element_generator
from pydicom.tag import BaseTag
from pydicom.uid import UID
from pydicom.values import convert_value

from service.errors import ArchiveTooLarge, UnreadableFile

# pydicom would print values that break the standard's rules, a patient's name among them. What we
# use of a file we check ourselves.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

_DEFLATED, _EXPLICIT = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1"
_META_BYTES = 2048
"""Where the file meta information with the transfer syntax ends at the latest, in practice."""
_CHUNK_BYTES = 1 << 20
_NUMERIC = {"DS", "IS", "US", "SS"}
"""Representations whose bytes say everything: others need the character set, or other elements."""

_UNDEFINED_LENGTH = 0xFFFFFFFF

_ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
"""How an item of a sequence starts (PS3.5 section 7.5), in either byte order."""

_MOST_STEPS = 5_000_000
_MOST_STEPS_PER_FILE = 500_000
"""Of parsing headers, in a request and in one file. A scanner's slice takes 100 to 500, a file of
1,500 frames with 2 kB of functional groups each some 120,000. An empty item takes two, and with
them 13 to 18 microseconds and 1.3 kB of memory for its 8 bytes.
"""

_BYTES_PER_STEP = 32
"""Of a sequence that is parsed only when it is used; honest elements have as many, and more."""

_LARGEST = 1e12
"""Of any number that is used: far above all that mean something, and their products are finite."""

_KEYWORDS = (
    # who and when, for the results
    "SpecificCharacterSet", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate",
    "StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime", "AccessionNumber",
    "ReferringPhysicianName", "StudyDescription", "PatientName", "PatientID",
    "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyID",
    "PositionReferenceIndicator",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
    # which image
    "ImageType", "SOPClassUID", "SOPInstanceUID", "Modality", "StudyInstanceUID",
    "SeriesInstanceUID", "SeriesNumber", "AcquisitionNumber", "InstanceNumber",
    "TemporalPositionIdentifier", "FrameOfReferenceUID", "ConcatenationUID",
    # where it lies
    "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    # what its values mean
    "SamplesPerPixel", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "RescaleIntercept", "RescaleSlope", "RescaleType", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)  # fmt: skip
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_TAG_OF = {keyword: int(tag_for_keyword(keyword) or 0) for keyword in _KEYWORDS}
"""What is read of a file: half of the time of a series went into elements that nobody uses."""


class Allowance:
    """What the headers of one request may still cost."""

    def __init__(self, max_inflated_bytes: int) -> None:
        self._max_inflated_bytes = max_inflated_bytes
        self._inflated_bytes = 0
        self._steps = 0

    def take_bytes(self, count: int) -> None:
        """So many bytes of deflated data sets. Raises `ArchiveTooLarge`."""
        self._inflated_bytes += count
        if self._inflated_bytes > self._max_inflated_bytes:
            raise ArchiveTooLarge(
                f"Expected at most {self._max_inflated_bytes} bytes once decompressed, found more."
            )

    @contextmanager
    def counted(self, data: bytes) -> Iterator["CountedFile"]:
        """A file whose steps are the request's. Reading raises `UnreadableFile`."""
        file = CountedFile(data, min(_MOST_STEPS_PER_FILE, _MOST_STEPS - self._steps))
        try:
            yield file
        finally:
            self._steps += file.steps


class CountedFile(io.BytesIO):
    """A file each of whose reads is a step: pydicom makes at least one for an element or item."""

    def __init__(self, data: bytes, most_steps: int | None = None) -> None:
        """By default a file may take as many steps as any may."""
        super().__init__(data)
        self._most_steps = _MOST_STEPS_PER_FILE if most_steps is None else most_steps
        self.steps = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Raises `UnreadableFile`."""
        self.steps += 1
        if self.steps > self._most_steps:
            raise _too_many_elements()
        return _read(self, size)

    def take(self, steps: int) -> None:
        """Count what will be read elsewhere. Raises `UnreadableFile`."""
        self.steps += steps
        if self.steps > self._most_steps:
            raise _too_many_elements()


_read = io.BytesIO.read


def _too_many_elements() -> UnreadableFile:
    return UnreadableFile("Expected DICOM headers, found far too many elements in them.")


@dataclass(frozen=True)
class Instance:
    """One DICOM file: the part of its header that the service uses, and its pixel data.

    `pixels` is the value of PixelData within the file, without a copy; for encapsulated pixel data
    it runs to the end of the file, and it is empty where there are none. `pixel_keyword` says
    whether the values are integers.
    """

    header: Dataset
    syntax: UID
    file: bytes
    pixels: memoryview
    pixel_keyword: str

    @property
    def frames(self) -> int:
        """NumberOfFrames; 1 where it is absent or no number."""
        count = numbers(self.header, "NumberOfFrames", 1)
        return int(count[0]) if count is not None else 1


@dataclass(frozen=True)
class Slice:
    """One image plane: a single-frame instance, or one frame of another.

    `header` holds the attributes of a single-frame CT image, whatever the instance is; `frame`
    counts from 1 and is None for a single-frame instance.
    """

    header: Dataset
    instance: Instance
    frame: int | None = None

    @property
    def number(self) -> str:
        """How a message names it: by InstanceNumber, and the frame where there are several."""
        number = integer_text(value(self.header, "InstanceNumber"))
        return number if self.frame is None else f"{number} frame {self.frame}"


def read_instance(data: bytes, index: int, allowance: Allowance) -> Instance:
    """One file; `index` counts from 0. Raises `UnreadableFile`, `ArchiveTooLarge`."""
    plain = _inflated(data, allowance)
    try:
        with allowance.counted(plain) as stream:
            header = dcmread(
                stream,
                stop_before_pixels=True,
                force=data[128:132] != b"DICM",
                specific_tags=list(_TAG_OF.values()),
            )
            stream.take(_later_steps(header))
            keyword, pixels = _pixel_data(stream, header, plain)
        header.buffer = None  # else each header would keep its whole file as long as it lives
    except UnreadableFile:
        raise
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        raise UnreadableFile(f"Expected DICOM, found file {index + 1} damaged.") from error
    _name_by_meta(header)
    for identifier in ("SOPClassUID", "SOPInstanceUID"):
        if not value(header, identifier):
            raise UnreadableFile(f"Expected DICOM, found file {index + 1} without a {identifier}.")
    return Instance(header, _syntax(header), data, pixels, keyword)


def value(header: Dataset, keyword: str) -> object:
    """An attribute's value, None where it is absent or cannot be read."""
    try:
        return header.get(keyword)
    except Exception:  # a value that breaks the standard makes pydicom raise nearly anything
        return None


def numbers(header: Dataset, keyword: str, count: int) -> NDArray[np.float64] | None:
    """A numeric attribute of `count` usable values, None where it is absent or anything else.

    The array is read-only.
    """
    element = _unconverted(header, keyword)
    if isinstance(element, RawDataElement) and element.VR in _NUMERIC and element.value:
        values = _numbers_of(element.VR, element.value, element.is_little_endian)
    else:
        values = _finite(value(header, keyword))
    return values if values is not None and values.shape == (count,) else None


def _unconverted(header: Dataset, keyword: str) -> object:
    """An element as it was read; None where it is absent or has no representation that exists."""
    try:
        return header.get_item(_TAG_OF[keyword]) if keyword in _TAG_OF else None
    except Exception:  # pydicom converts some elements all the same, and raises nearly anything
        return None


@lru_cache(maxsize=1024)
def _numbers_of(vr: str, encoded: bytes, little_endian: bool) -> NDArray[np.float64] | None:
    """What the bytes of an element say.

    Slices have most of them in common; converting them anew took a quarter of reading a series.
    """
    element = RawDataElement(BaseTag(0), vr, len(encoded), encoded, 0, False, little_endian)
    try:
        return _finite(convert_value(vr, element))
    except Exception:  # a value that breaks the standard makes pydicom raise nearly anything
        return None


def _finite(found: object) -> NDArray[np.float64] | None:
    try:
        values = np.atleast_1d(np.asarray(found, dtype=np.float64))
    except (TypeError, ValueError):
        return None
    values.flags.writeable = False
    return values if (np.abs(values) <= _LARGEST).all() else None  # false for NaN too


def words(header: Dataset, keyword: str) -> list[str]:
    """A code string's values in upper case; none where it is absent."""
    found = value(header, keyword)
    if not found:
        return []
    values = found if isinstance(found, Sequence) and not isinstance(found, str) else [found]
    return [str(word).strip().upper() for word in values]


def text(header: Dataset, keyword: str) -> str:
    """A value to compare, never to show: it may name a patient."""
    found = value(header, keyword)
    return "" if found is None else str(found)


def modality(header: Dataset) -> str:
    """Modality as a message may show it: a DICOM code string, else a question mark."""
    found = text(header, "Modality").strip().upper()
    is_code = found.isascii() and 0 < len(found) <= 16 and found.replace("_", "").isalnum()
    return found if is_code else "?"


def integer_text(number: object) -> str:
    """An integer for a message, else a question mark: no free text of a file gets into one."""
    found = str(number)
    return found if found.isascii() and found.lstrip("-").isdigit() and len(found) < 13 else "?"


def uid_text(header: Dataset, keyword: str) -> str:
    """A UID for a message, else a question mark."""
    uid = UID(text(header, keyword))
    return str(uid) if uid.is_valid else "?"


def _pixel_data(stream: io.BytesIO, header: Dataset, data: bytes) -> tuple[str, memoryview]:
    """Keyword and value of the element that the stream stands at; ("", empty) at the end."""
    implicit, little_endian = header.original_encoding
    element = next(
        # Nothing is copied: a value of more than one byte is not read, only located.
        data_element_generator(stream, bool(implicit), bool(little_endian), defer_size=1),
        None,
    )
    if element is None:
        return "", memoryview(b"")
    names = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData"}
    keyword = names.get(int(element.tag), "DoubleFloatPixelData")
    start = int(getattr(element, "value_tell", len(data)))
    length = int(getattr(element, "length", _UNDEFINED_LENGTH))
    end = len(data) if length == _UNDEFINED_LENGTH else start + length
    return keyword, memoryview(data)[start:end]


def _later_steps(header: Dataset) -> int:
    """Of functional groups of a known length, which pydicom parses later and by itself."""
    steps = 0
    for keyword in _GROUPS:
        element = _unconverted(header, keyword)
        encoded = element.value if isinstance(element, RawDataElement) else None
        if encoded:
            items = sum(encoded.count(tag) for tag in _ITEM_TAGS)
            steps += 2 * items + len(encoded) // _BYTES_PER_STEP
    return steps


def _inflated(data: bytes, allowance: Allowance) -> bytes:
    """A deflated file as an explicit one: pydicom would inflate it without a limit. Others as they
    are.
    """
    if data[128:132] != b"DICM" or _DEFLATED not in data[:_META_BYTES]:
        return data
    # PS3.10 7.1: the first element is the group's length, 12 bytes, and counts what follows it.
    start = 144 + int.from_bytes(data[140:144], "little")
    inflater, rest = zlib.decompressobj(-zlib.MAX_WBITS), data[start:]
    chunks = [data[:start].replace(_DEFLATED, _EXPLICIT.ljust(len(_DEFLATED), b"\0"))]
    try:
        while rest and not inflater.eof:
            chunks.append(inflater.decompress(rest, _CHUNK_BYTES))
            allowance.take_bytes(len(chunks[-1]))
            rest = inflater.unconsumed_tail
    except zlib.error as error:
        raise UnreadableFile("Expected whole deflated DICOM, found it damaged.") from error
    return b"".join(chunks)


def _name_by_meta(header: Dataset) -> None:
    """A DICOMDIR names itself in its file meta information only."""
    if "SOPClassUID" in header:
        return
    meta = getattr(header, "file_meta", Dataset())
    header.SOPClassUID = text(meta, "MediaStorageSOPClassUID")
    header.SOPInstanceUID = text(meta, "MediaStorageSOPInstanceUID")


def _syntax(header: Dataset) -> UID:
    meta = getattr(header, "file_meta", Dataset())
    if stated := text(meta, "TransferSyntaxUID"):
        return UID(stated)
    implicit, little_endian = header.original_encoding
    if implicit is None or implicit:
        return pydicom.uid.ImplicitVRLittleEndian
    return pydicom.uid.ExplicitVRLittleEndian if little_endian else pydicom.uid.ExplicitVRBigEndian
