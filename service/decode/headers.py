"""A DICOM file as its header and its pixel data, and values of headers without surprises."""

import io
import zlib
from collections.abc import Sequence
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

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_META_BYTES = 2048
"""Where the file meta information with the transfer syntax ends at the latest, in practice."""
_CHUNK_BYTES = 1 << 20
_NUMERIC = {"DS", "IS", "US", "SS"}
"""Representations whose bytes say everything: others need the character set, or other elements."""

_UNDEFINED_LENGTH = 0xFFFFFFFF

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
_TAG_OF = {keyword: int(tag_for_keyword(keyword) or 0) for keyword in _KEYWORDS}
"""What is read of a file: half of the time of a series went into elements that nobody uses."""


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


def read_instance(data: bytes, index: int, max_inflated_bytes: int) -> Instance:
    """One file; `index` counts from 0. Raises `UnreadableFile`, `ArchiveTooLarge`."""
    inflated = _inflated(data, max_inflated_bytes)
    try:
        stream = io.BytesIO(data)
        header = dcmread(
            stream,
            stop_before_pixels=True,
            force=data[128:132] != b"DICM",
            specific_tags=list(_TAG_OF.values()),
        )
        if inflated is not None:
            stream = _at_pixels(io.BytesIO(inflated))
        keyword, pixels = _pixel_data(stream, header, data if inflated is None else inflated)
        header.buffer = None  # else each header would keep its whole file as long as it lives
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


def _at_pixels(stream: io.BytesIO) -> io.BytesIO:
    """An inflated data set's stream at the start of its pixel data."""
    for _ in data_element_generator(
        stream, False, True, stop_when=lambda tag, _, __: tag >= 0x7FE00008, defer_size=1
    ):
        pass
    return stream


def _inflated(data: bytes, max_bytes: int) -> bytes | None:
    """The data set of a deflated file, which pydicom would inflate without a limit; else None."""
    if data[128:132] != b"DICM" or _DEFLATED not in data[:_META_BYTES]:
        return None
    # PS3.10 7.1: the first element is the group's length, 12 bytes, and counts what follows it.
    rest = data[144 + int.from_bytes(data[140:144], "little") :]
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    chunks, inflated = [], 0
    try:
        while rest and not inflater.eof:
            chunks.append(inflater.decompress(rest, _CHUNK_BYTES))
            inflated += len(chunks[-1])
            if inflated > max_bytes:
                raise ArchiveTooLarge(
                    f"Expected at most {max_bytes} bytes once decompressed, found more."
                )
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
