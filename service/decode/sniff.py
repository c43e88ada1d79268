"""What a file is, by its first bytes."""

from typing import Literal

FileKind = Literal["zip", "gzip", "dicom", "nifti", "png", "jpeg", "unknown"]

_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
# A DICOM data set written without the preamble of PS3.10 starts with the first element that it has
# of group 0002 or 0008: length, version, syntax, character set, image type, date or class.
_BARE_DICOM_STARTS = (
    b"\x02\x00\x00\x00",
    b"\x02\x00\x01\x00",
    b"\x02\x00\x02\x00",
    b"\x02\x00\x10\x00",
    b"\x08\x00\x00\x00",
    b"\x08\x00\x05\x00",
    b"\x08\x00\x08\x00",
    b"\x08\x00\x12\x00",
    b"\x08\x00\x16\x00",
)


def sniff(data: bytes) -> FileKind:
    """The kind of a file from its content; `unknown` for empty data too."""
    if data[128:132] == b"DICM":
        return "dicom"
    if data.startswith(_ZIP_STARTS):
        return "zip"
    if data.startswith(b"\x1f\x8b"):
        return "gzip"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data[344:347] in (b"n+1", b"ni1") or data[4:7] in (b"n+2", b"ni2"):
        return "nifti"
    if data.startswith(_BARE_DICOM_STARTS):
        return "dicom"
    return "unknown"
