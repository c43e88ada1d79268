"""DICOM datasets to files, fast where they have thousands of frames, measurements or regions.

pydicom encodes every item anew, though frames of several segments share most of theirs, and
measurements most of their codes: that took half of the time of a large SEG or SR. Here what comes
again is encoded once, and pixels are copied once. The bytes are those that pydicom writes.
"""

import io
from collections.abc import Iterable
from itertools import pairwise

from pydicom import DataElement, Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_dataset
from pydicom.tag import BaseTag, Tag

_LONG = sorted(
    Tag(keyword)
    for keyword in (
        "ContentSequence",
        "PerFrameFunctionalGroupsSequence",
        "ROIContourSequence",
        "RTROIObservationsSequence",
        "SegmentSequence",
        "StructureSetROISequence",
    )
)
"""Sequences that have an item for each frame or lesion."""

_PIXELS = Tag("PixelData")

_ITEM = b"\xfe\xff\x00\xe0"
"""The tag of an item (PS3.5 section 7.5), little endian."""

_END = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
"""Sequence Delimitation Item, after a value of undefined length (PS3.5 section 7.5.2)."""

_SHORT = 64
"""Characters of a text that is looked for among those before: a code has few, a contour many."""


def dicom_file(result: Dataset) -> bytes:
    """The file of a dataset that has file meta information with a little endian transfer syntax."""
    ends = [*(tag for tag in _LONG if tag in result), _PIXELS]
    head = result[: ends[0]]
    head.file_meta = result.file_meta
    start = io.BytesIO()
    head.save_as(start, enforce_file_format=True)
    encoder = _Encoder(
        result.file_meta.TransferSyntaxUID.is_implicit_VR, result.get("SpecificCharacterSet")
    )
    parts: list[bytes | memoryview] = [start.getbuffer()]
    for tag, end in pairwise(ends):
        parts += [encoder.element(result[tag]), encoder.elements(result[tag + 1 : end])]
    if _PIXELS in result:
        parts += _pixels(result, encoder)
    return b"".join(parts)


def _pixels(result: Dataset, encoder: "_Encoder") -> list[bytes]:
    """The element of the pixels, in parts (PS3.5 A.1, A.2, A.4)."""
    pixels = result.PixelData
    if result.file_meta.TransferSyntaxUID.is_compressed:
        return [encoder.head(_PIXELS, "OB", 0xFFFFFFFF), pixels, _END]
    return [encoder.head(_PIXELS, "OW" if result.BitsAllocated > 8 else "OB", len(pixels)), pixels]


class _Encoder:
    """Encodes elements in little endian, and what comes again once.

    It knows items by their identity: they live as long as it does, and do not change meanwhile.
    """

    def __init__(self, is_implicit: bool, character_set: str | list[str] | None) -> None:
        self._is_implicit, self._character_set = is_implicit, character_set
        self._items: dict[int, bytes] = {}
        self._texts: dict[tuple[BaseTag, str, str], bytes] = {}

    def elements(self, dataset: Dataset) -> bytes:
        """A dataset with nothing that comes again."""
        buffer = self._buffer()
        write_dataset(buffer, dataset, self._character_set or "")
        return buffer.getvalue()

    def element(self, element: DataElement) -> bytes:
        value = element.value
        if element.VR == "SQ":
            content = self._sequence(value)
            return self.head(element.tag, "SQ", len(content)) + content
        if not isinstance(value, str) or len(value) > _SHORT:
            return self._encoded(element)
        text = (element.tag, element.VR, str(value))
        if text not in self._texts:
            self._texts[text] = self._encoded(element)
        return self._texts[text]

    def head(self, tag: BaseTag, vr: str, length: int) -> bytes:
        """What precedes a value, of a VR whose length takes four bytes (PS3.5 section 7.1)."""
        vr_field = b"" if self._is_implicit else vr.encode() + b"\0\0"
        number = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little")
        return number + vr_field + length.to_bytes(4, "little")

    def _sequence(self, items: Iterable[Dataset]) -> bytes:
        return b"".join(map(self._item, items))

    def _item(self, item: Dataset) -> bytes:
        known = self._items.get(id(item))
        if known is None:
            content = b"".join(map(self.element, item))
            known = _ITEM + len(content).to_bytes(4, "little") + content
            self._items[id(item)] = known
        return known

    def _encoded(self, element: DataElement) -> bytes:
        buffer = self._buffer()
        write_data_element(buffer, element, self._character_set)
        return buffer.getvalue()

    def _buffer(self) -> DicomBytesIO:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, self._is_implicit
        return buffer
