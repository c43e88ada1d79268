"""One compressed frame to its values, by imagecodecs: libjpeg-turbo, CharLS, OpenJPEG, PackBits.

A codestream is told by its own markers, not by the transfer syntax, since senders mix up the JPEG
ones. Its header is compared with Rows and Columns before a decoder sees it, so that a frame that
claims 60,000 x 60,000 pixels costs nothing.
"""

from dataclasses import dataclass
from typing import cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, RLELossless

_ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"

_SOC_SIZ = b"\xff\x4f\xff\x51"
"""How a JPEG 2000 or HTJ2K codestream starts (ISO/IEC 15444-1, A.4.1); a JP2 file wraps it."""

_JPEG_START = b"\xff\xd8"
_END = b"\xff\xd9"
"""End of image (JPEG) and of codestream (JPEG 2000)."""
_PADDING_BYTES = 16
"""A frame is padded to an even length; some senders pad more, and with other values than 0."""

_START_OF_SCAN = 0xDA
_JPEG_LS = 0xF7
_SEQUENTIAL_OR_LOSSLESS = (0xC0, 0xC1, 0xC3)
"""Start of frame: baseline, extended and lossless; DICOM has no progressive JPEG any more."""
_OTHER_FRAMES = (0xC2, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)

_MOST_TILES = 4096


class FrameError(Exception):
    """A frame that is not decoded; the message says what was expected and found."""


class UnknownCodec(FrameError):
    """A frame of a kind that there is no decoder for."""


@dataclass(frozen=True)
class Layout:
    """What the header says of a frame."""

    rows: int
    columns: int
    bytes_per_pixel: int

    @property
    def bytes(self) -> int:
        return self.rows * self.columns * self.bytes_per_pixel


def decode_frame(data: bytes, syntax: UID, layout: Layout) -> NDArray[np.integer]:
    """The values [row, column] as the codec gives them, signed or not. Raises `FrameError`."""
    if syntax == RLELossless:
        return _decode_rle(data, layout)
    if syntax == _ENCAPSULATED_UNCOMPRESSED:
        return native(memoryview(data)[: layout.bytes], layout, "<")
    try:
        if _SOC_SIZ in data[:256]:
            return _decode_jpeg2000(data[data.index(_SOC_SIZ) :], layout)
        if data.startswith(_JPEG_START):
            return _decode_jpeg(data, layout)
    except FrameError:
        raise
    except Exception as error:  # the codecs' errors have no base of their own
        raise FrameError("Expected whole pixel data, found it damaged") from error
    raise UnknownCodec("Expected a JPEG, JPEG-LS or JPEG 2000 frame, found another kind")


def native(data: memoryview, layout: Layout, byte_order: str) -> NDArray[np.integer]:
    """Uncompressed values [row, column], unsigned as stored, without a copy."""
    if len(data) < layout.bytes:
        raise FrameError(
            f"Expected {layout.bytes} bytes of pixel data, found it cut off at {len(data)}"
        )
    values = np.frombuffer(data[: layout.bytes], dtype=f"{byte_order}u{layout.bytes_per_pixel}")
    return values.reshape(layout.rows, layout.columns)


def _decode_rle(data: bytes, layout: Layout) -> NDArray[np.integer]:
    """PS3.5 annex G: one segment for each byte of a pixel, the most significant first."""
    segments = int.from_bytes(data[:4], "little")
    if segments != layout.bytes_per_pixel:
        raise FrameError(f"Expected {layout.bytes_per_pixel} RLE segments, found {segments}")
    decoded = bytearray(layout.bytes)  # the codec refuses to write beyond it
    try:
        found = imagecodecs.dicomrle_decode(data, f"<u{layout.bytes_per_pixel}", out=decoded)
    except Exception as error:  # ValueError and the codec's own, which has no public name
        raise FrameError("Expected whole pixel data, found it damaged") from error
    return native(memoryview(found), layout, "<")


def _decode_jpeg2000(codestream: bytes, layout: Layout) -> NDArray[np.integer]:
    _check_end(codestream)
    # After the marker: length and capabilities (2 bytes each), then eight numbers of 4 bytes: size
    # and origin of the grid, size and origin of its tiles; the number of components (2 bytes), and
    # for each of them precision and two subsampling factors (ISO/IEC 15444-1, A.5.1).
    fields = np.frombuffer(codestream, dtype=">u4", count=8, offset=8).astype(int).tolist()
    right, bottom, left, top, tile_columns, tile_rows, tiles_left, tiles_top = fields
    components = int.from_bytes(codestream[40:42], "big")
    subsampling = tuple(codestream[43:45])
    _check_size(bottom - top, right - left, components, layout)
    if subsampling != (1, 1) or not tile_columns or not tile_rows:
        raise FrameError("Expected pixel data without subsampling, found another layout")
    tiles = -(-(right - tiles_left) // tile_columns) * -(-(bottom - tiles_top) // tile_rows)
    if tiles > _MOST_TILES:
        raise FrameError(f"Expected at most {_MOST_TILES} tiles in a frame, found {tiles}")
    return _checked(imagecodecs.jpeg2k_decode(codestream), layout)


def _decode_jpeg(data: bytes, layout: Layout) -> NDArray[np.integer]:
    marker, segment = _start_of_frame(data)
    # Precision (1 byte), lines and samples (2 each), components (1): ISO/IEC 10918-1, B.2.2.
    rows, columns = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
    _check_size(rows, columns, segment[5], layout)
    _check_end(data)
    if marker == _JPEG_LS:
        return _checked(imagecodecs.jpegls_decode(data), layout)
    return _checked(imagecodecs.jpeg8_decode(data), layout)


def _start_of_frame(data: bytes) -> tuple[int, bytes]:
    """Marker code and segment of the frame header of a JPEG or JPEG-LS stream."""
    at = len(_JPEG_START)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _OTHER_FRAMES:
            raise UnknownCodec("Expected baseline, extended or lossless JPEG, found another kind")
        if marker == _JPEG_LS or marker in _SEQUENTIAL_OR_LOSSLESS:
            return marker, data[at + 4 : at + 2 + length]
        if marker == _START_OF_SCAN or length < 2:
            break
        at += 2 + length
    raise FrameError("Expected a JPEG frame header, found none")


def _check_end(data: bytes) -> None:
    """A decoder fills what is missing with grey and says nothing."""
    if _END not in data[-_PADDING_BYTES:]:
        raise FrameError("Expected whole pixel data, found it cut off")


def _check_size(rows: int, columns: int, components: int, layout: Layout) -> None:
    if (rows, columns) != (layout.rows, layout.columns):
        raise FrameError(
            f"Expected {layout.rows} x {layout.columns} pixels, found {rows} x {columns} in the "
            "compressed pixel data"
        )
    if components != 1:
        raise FrameError(f"Expected one component, found {components} in the pixel data")


def _checked(values: NDArray[np.generic], layout: Layout) -> NDArray[np.integer]:
    if values.shape != (layout.rows, layout.columns) or values.dtype.kind not in "iu":
        raise FrameError("Expected integers in rows and columns, found other pixel data")
    return cast(NDArray[np.integer], values)
