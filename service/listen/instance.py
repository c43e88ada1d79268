"""One object as it arrives by C-STORE: which it is, and the file that is written of it.

Its data set is never decoded and encoded again, so that nothing of it can change: the file is a
preamble, file meta information and the bytes that came.
"""

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.events import Event
from typing_extensions import Buffer

from service.decode.headers import CountedFile, text

SOP_CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
"""Failures of C-STORE (PS3.4 table B.2-1, PS3.7 9.1.1.1.9)."""

_SOP_CLASS, _SOP_INSTANCE = BaseTag(0x00080016), BaseTag(0x00080018)
_STUDY, _SERIES = BaseTag(0x0020000D), BaseTag(0x0020000E)

_HEAD_BYTES = 16 * 1024**2
"""Of a data set, to find its UIDs in, which stand before what is large; also once inflated."""


class NotTaken(Exception):
    """An object that is not stored; `code` is for the log, `status` for the sender."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Instance:
    """An object, who sent it, and its file in parts that follow each other."""

    caller: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    file: Sequence[Buffer]

    @property
    def bytes(self) -> int:
        return sum(memoryview(part).nbytes for part in self.file)


def read_instance(event: Event, caller: str) -> Instance:
    """What a C-STORE request brings. Raises `NotTaken`."""
    request = cast(C_STORE, event.request)
    announced = request.AffectedSOPClassUID, request.AffectedSOPInstanceUID
    data = cast(io.BytesIO, request.DataSet).getbuffer()
    if announced[0] != event.context.abstract_syntax:
        raise NotTaken(SOP_CLASS_NOT_SUPPORTED, "sop_class_not_negotiated")
    try:
        header = _identity(data, event.context.transfer_syntax)
    except Exception as error:  # a damaged data set makes pydicom raise nearly anything
        raise NotTaken(CANNOT_UNDERSTAND, "unreadable_dataset") from error
    study, series = text(header, "StudyInstanceUID"), text(header, "SeriesInstanceUID")
    if not study or not series:
        raise NotTaken(DOES_NOT_MATCH_SOP_CLASS, "uid_missing")
    found = text(header, "SOPClassUID"), text(header, "SOPInstanceUID")
    if found != announced:
        raise NotTaken(DOES_NOT_MATCH_SOP_CLASS, "other_object_than_announced")
    head = bytes(128) + b"DICM" + encode_file_meta(event.file_meta)
    return Instance(caller, study, series, found[1], (head, data))


def _identity(data: memoryview, syntax: UID) -> Dataset:
    """The UIDs of a data set; what lies behind them is not looked at."""
    head = bytes(data[:_HEAD_BYTES])
    if syntax == DeflatedExplicitVRLittleEndian:
        head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, _HEAD_BYTES)
    return read_dataset(
        CountedFile(head),
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=lambda tag, _, __: tag > _SERIES,
        specific_tags=[_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES],
    )
