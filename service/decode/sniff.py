"""What a file is, by its content."""

from typing import Literal

ContainerKind = Literal["zip", "tar", "gzip", "bzip2"]
ImageKind = Literal["png", "jpeg", "tiff", "bmp"]
ReadableKind = Literal["dicom", "nifti", "png", "jpeg", "tiff", "bmp"]
ContentKind = Literal["dicom", "nifti", "png", "jpeg", "tiff", "bmp", "unknown"]
FileKind = ContainerKind | ContentKind

TAR_BLOCK_BYTES = 512
"""A tar archive consists of blocks; its first block is what tells it."""

_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
# Java programs and Office documents are zip archives that hold no study: DICOM CDs carry both.
_NO_ARCHIVES = (b"META-INF/", b"[Content_Types].xml")
# After BZh and a digit follows the first block's number, or that of the end where there is none.
_BZIP2_BLOCKS = (bytes.fromhex("314159265359"), bytes.fromhex("177245385090"))
_TIFF_STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# Two letters alone would make many texts a bitmap, so the size of its second header counts too.
_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)
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
    """The kind of a file from its first `TAR_BLOCK_BYTES`; `unknown` for empty data too."""
    if data[128:132] == b"DICM":
        return "dicom"
    if data.startswith(_ZIP_STARTS):
        return "unknown" if data[30:].startswith(_NO_ARCHIVES) else "zip"
    if data.startswith(b"\x1f\x8b"):
        return "gzip"
    if data.startswith(b"BZh") and data[4:10] in _BZIP2_BLOCKS:
        return "bzip2"
    if (image := _image(data)) is not None:
        return image
    if data[344:347] in (b"n+1", b"ni1") or data[4:7] in (b"n+2", b"ni2"):
        return "nifti"
    if is_tar_header(data[:TAR_BLOCK_BYTES]):
        return "tar"
    if data.startswith(_BARE_DICOM_STARTS):
        return "dicom"
    return "unknown"


def is_tar_header(block: bytes) -> bool:
    """Whether a block's checksum is right: also in archives from before POSIX, without a magic.

    The sum is over the block's bytes with blanks in the place of the sum itself; some old programs
    took bytes for signed numbers.
    """
    field = block[148:156].strip(b" \0")
    if len(block) != TAR_BLOCK_BYTES or not field or field.strip(b"01234567"):
        return False
    others = block[:148] + block[156:]
    unsigned = sum(others) + 8 * ord(" ")
    signed = unsigned - 256 * sum(byte > 127 for byte in others)
    return int(field, 8) in (unsigned, signed)


def _image(data: bytes) -> ImageKind | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(_TIFF_STARTS):
        return "tiff"
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES:
        return "bmp"
    return None
