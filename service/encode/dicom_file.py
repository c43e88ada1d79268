"""DICOM datasets to files, fast where there are thousands of frames.

pydicom encodes every item anew, though frames of several segments share most of theirs: that took
half of the time of a large SEG. Here what frames share is encoded once, and pixels are copied once.
The bytes are those that pydicom writes.
"""

import io
from collections.abc import Iterable

from pydicom import DataElement, Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRLittleEndian

_FRAMES = Tag("PerFrameFunctionalGroupsSequence")
_PIXELS = Tag("PixelData")

_ITEM = b"\xfe\xff\x00\xe0"
"""The tag of an item (PS3.5 section 7.5), little endian."""


def dicom_file(result: Dataset) -> bytes:
    """The file of a dataset that has file meta information."""
    if result.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian or _FRAMES not in result:
        buffer = io.BytesIO()
        result.save_as(buffer)
        return buffer.getvalue()
    head, tail = result[:_FRAMES], result[_FRAMES + 1 : _PIXELS]
    head.file_meta = result.file_meta
    before, after = io.BytesIO(), _little_endian()
    head.save_as(before, enforce_file_format=True)
    write_dataset(after, tail)
    frames = _Frames().items(result[_FRAMES].value)
    pixels = result.PixelData
    pixels_vr = "OW" if result.BitsAllocated > 8 else "OB"  # PS3.5 A.2
    return b"".join([
        before.getbuffer(),
        _head(_FRAMES, "SQ", len(frames)),
        frames,
        after.getvalue(),
        _head(_PIXELS, pixels_vr, len(pixels)),
        pixels,
    ])  # fmt: skip


def _little_endian() -> DicomBytesIO:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    return buffer


class _Frames:
    """Encodes items in explicit little endian, those that come again once."""

    def __init__(self) -> None:
        self._encoded: dict[int, bytes] = {}

    def items(self, sequence: Iterable[Dataset]) -> bytes:
        return b"".join(map(self._item, sequence))

    def _item(self, item: Dataset) -> bytes:
        known = self._encoded.get(id(item))
        if known is None:
            content = b"".join(map(self._element, item))
            known = _ITEM + len(content).to_bytes(4, "little") + content
            self._encoded[id(item)] = known
        return known

    def _element(self, element: DataElement) -> bytes:
        if element.VR == "SQ":
            content = self.items(element.value)
            return _head(element.tag, "SQ", len(content)) + content
        buffer = _little_endian()
        write_data_element(buffer, element)
        return buffer.getvalue()


def _head(tag: BaseTag, vr: str, length: int) -> bytes:
    """Tag, value representation and length of an element whose length takes four bytes."""
    number = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little")
    return number + vr.encode() + b"\0\0" + length.to_bytes(4, "little")
