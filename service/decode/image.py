"""PNG, JPEG, TIFF and BMP pictures to a scan: a slice, or a stack of slices in their order."""

import io
import itertools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import imagecodecs
import numpy as np
from highdicom import Volume
from numpy.typing import NDArray
from PIL import Image

from service.decode.hounsfield import check_range, rounded
from service.decode.options import MAX_SIDE_PX, DecodeOptions
from service.decode.sniff import ImageKind
from service.errors import (
    ColorImage,
    InconsistentSeries,
    InvalidParameter,
    TooManyFiles,
    TooManyVoxels,
    UnreadableFile,
    UnsupportedPixels,
)
from service.notices import Notice
from service.volume import AIR_HU, Scan, SourceReference

# Pillow would warn of large pictures, and refuse larger ones: here each page's size is checked
# before it is decoded, against a lower bound.
Image.MAX_IMAGE_PIXELS = None
# It also prints about odd metadata, which is of no use here and would break a log of JSON lines.
warnings.filterwarnings("ignore", module=r"PIL\.")

_GREY_TOLERANCE = 8
"""Largest difference between the channels of a grey JPEG: its chroma is quantised."""

_GREY_MODES = ("1", "L", "LA")

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO = 0
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
"""TIFF 6.0: tags, a PhotometricInterpretation, SampleFormats."""

_HU_SAMPLES = ((_SIGNED, 16), (_SIGNED, 32), (_FLOAT, 32))
"""TIFF samples that can hold Hounsfield units as they are: (SampleFormat, bits)."""

_GREY_BITS = (12, 16)

_BIG_TIFF = 43
_TIFF_MOST_ENTRIES = 1000
"""Of a page's directory; a dozen are usual. Pillow takes 2 microseconds for each, also where the
directories of thousands of pages lie over each other in one small file.
"""

_PNG_DEPTH_AT = 24
"""Where the bits of a sample stand: in the first chunk, IHDR."""

_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_LOSSLESS = 0xC3
_JPEG_SCAN = b"\xff\xda"
"""ITU-T T.81, table B.1: markers of frames and of scans."""

_JPEG_MOST_SCANS = 100
_JPEG_HEADER_BYTES = 1 << 20
"""How far the search for the frame goes."""

# What Pillow's and libpng's readers raise for damaged files; a warning where those are errors.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, AttributeError,
           RuntimeError, ArithmeticError, Warning)  # fmt: skip


@dataclass(frozen=True)
class _Page:
    """One picture: values [row, column], grey from 0 to `full_scale`, or HU where that is None."""

    values: NDArray[np.generic]
    full_scale: int | None

    @property
    def kind(self) -> str:
        depth = "Hounsfield units" if self.full_scale is None else f"grey 0 to {self.full_scale}"
        return f"{self.values.shape[1]} x {self.values.shape[0]} pixels of {depth}"


def read(files: Sequence[bytes], kind: ImageKind, options: DecodeOptions) -> Scan:
    """Grey images of one kind as Hounsfield units, int16 [slice, row, column].

    Several files, and several pages of a TIFF, are slices in the given order, of unknown distance.
    Grey 0 and full scale (255; 65535 of 16 bits) stand for the ends of the request's window, and
    in 8-bit images, without one, for those of the model's, with a notice. Signed and floating-point
    TIFFs hold Hounsfield units already. Raises `ColorImage`, `UnsupportedPixels`,
    `InconsistentSeries`, `TooManyVoxels`, `TooManyFiles`, `InvalidParameter` or `UnreadableFile`.
    """
    slices: list[NDArray[np.int16]] = []
    first: _Page | None = None
    for page in _pages(files, kind, options):
        first = first or page
        if page.kind != first.kind:
            raise InconsistentSeries(
                f"Expected images of one size and depth, found image {len(slices) + 1} with "
                f"{page.kind} after {first.kind}."
            )
        slices.append(_hounsfield_units(page, options))
    hu = _stacked(slices)
    is_hu = first is not None and first.full_scale is None
    about_range = check_range(hu) if is_hu else ()
    spacing = options.pixel_spacing_mm
    source = SourceReference(
        format=kind,
        pixel_spacing_mm=None if spacing is None else (spacing, spacing),
        slice_spacing_mm=None,
    )
    # Slices towards the head, rows towards the back, columns to the left: the usual radiological
    # view, which is also the canonical orientation.
    in_plane = spacing or 1.0
    affine = np.array([[0, 0, in_plane, 0], [0, in_plane, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]])
    volume = Volume(hu, affine, "PATIENT")
    return Scan(volume, source, (*_notices(options, is_hu, len(hu)), *about_range))


def _stacked(slices: list[NDArray[np.int16]]) -> NDArray[np.int16]:
    """One array [slice, row, column]; each slice leaves the list, so that none is held twice."""
    if len(slices) == 1:
        return slices.pop()[None]
    hu = np.empty((len(slices), *slices[0].shape), dtype=np.int16)
    while slices:
        index = len(slices) - 1
        hu[index] = slices.pop()
    return hu


def _hounsfield_units(page: _Page, options: DecodeOptions) -> NDArray[np.int16]:
    if page.full_scale is None:
        if options.image_window is not None:
            raise InvalidParameter(
                "Expected no window with signed or floating-point values, which are Hounsfield "
                "units already, found one."
            )
        return rounded(page.values)
    window = options.image_window
    if window is None:
        if page.full_scale != 255:
            raise UnsupportedPixels(
                "Expected window_lower_hu and window_upper_hu with an image of more than 8 bits, "
                f"which say what 0 and {page.full_scale} stand for, found none."
            )
        window = options.model_window
    # A table of all greys: the image itself never becomes floating point.
    greys = np.arange(page.full_scale + 1, dtype=np.float64)
    hu = np.rint(greys * (window.width_hu / page.full_scale) + window.lower_hu)
    table = np.clip(hu, AIR_HU, np.iinfo(np.int16).max).astype(np.int16)
    return np.asarray(np.take(table, page.values.astype(np.uint16, copy=False), mode="clip"))


def _pages(files: Sequence[bytes], kind: ImageKind, options: DecodeOptions) -> Iterator[_Page]:
    """Every page of every file, each checked for its size before it is decoded."""
    count = pixels = 0
    for data in files:
        with _damage_refused(kind):
            for opened in _opened(data, kind):
                count, pixels = count + 1, pixels + opened.width * opened.height
                _check_size(opened, count, pixels, options)
                yield _page(opened, data, kind)


@contextmanager
def _damage_refused(kind: ImageKind) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise UnreadableFile(
            f"Expected a whole {kind.upper()} image of grey values, found one that is damaged or "
            "of a kind that cannot be read."
        ) from error


def _opened(data: bytes, kind: ImageKind) -> Iterator[Image.Image]:
    """The image at each of its pages in turn, not yet decoded; only TIFFs have several."""
    if kind == "jpeg":
        _check_jpeg(data)
    directories = _checked_directories(data) if kind == "tiff" else iter(())
    next(directories, None)
    with Image.open(io.BytesIO(data), formats=[kind]) as opened:
        yield opened
        for index in itertools.count(1) if kind == "tiff" else ():
            next(directories, None)
            try:
                opened.seek(index)
            except EOFError:
                return
            yield opened


def _checked_directories(data: bytes) -> Iterator[int]:
    """Where each page's directory lies (TIFF 6.0, section 2), checked before Pillow reads it.

    Raises `UnsupportedPixels`.
    """
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    is_big = data[2] == _BIG_TIFF  # as Pillow asks, which knows no big-endian BigTIFF
    offset_bytes, count_bytes, entry_bytes = (8, 8, 20) if is_big else (4, 2, 12)
    at = number(offset_bytes, offset_bytes)
    while 0 < at < len(data):
        entries = number(at, count_bytes)
        if entries > _TIFF_MOST_ENTRIES:
            raise UnsupportedPixels(
                f"Expected a TIFF page of at most {_TIFF_MOST_ENTRIES} tags, found {entries}."
            )
        yield at
        at = number(at + count_bytes + entries * entry_bytes, offset_bytes)


def _check_size(opened: Image.Image, pages: int, pixels: int, options: DecodeOptions) -> None:
    if pages > options.archive.max_files:
        raise TooManyFiles(f"Expected at most {options.archive.max_files} pages, found more.")
    if max(opened.size) > MAX_SIDE_PX:
        raise TooManyVoxels(
            f"Expected at most {MAX_SIDE_PX} pixels a side, found {opened.width} x {opened.height}."
        )
    if pixels > options.max_voxels:
        raise TooManyVoxels(f"Expected at most {options.max_voxels} pixels, found more.")


def _page(opened: Image.Image, data: bytes, kind: ImageKind) -> _Page:
    if kind == "png" and data[_PNG_DEPTH_AT] == 16:  # Pillow drops half of it beside colour
        return _Page(_one_channel(imagecodecs.png_decode(data)), 65535)
    if kind == "tiff":
        return _tiff_page(opened)
    return _Page(_grey(opened), 255)


def _tiff_page(opened: Image.Image) -> _Page:
    tags = opened.tag_v2  # type: ignore[attr-defined]  # of the TIFF reader's class
    if _PHOTOMETRIC not in tags:  # Pillow would take its white for zero
        raise UnreadableFile("Expected a TIFF that says whether zero is black, found none of that.")
    bits = tags.get(_BITS_PER_SAMPLE, (1,))
    sample_format, depth = max(tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))), max(bits)
    if sample_format == _UNSIGNED and depth <= 8:
        return _Page(_grey(opened), 255)
    if len(bits) > 1:
        raise UnsupportedPixels(f"Expected one value a pixel of {depth} bits, found {len(bits)}.")
    if (sample_format, depth) in _HU_SAMPLES:
        return _Page(np.asarray(opened), None)
    if sample_format != _UNSIGNED or depth not in _GREY_BITS:
        raise UnsupportedPixels(
            "Expected 8 or 16 bits a pixel, signed 16 or 32 or floating-point 32, found "
            f"SampleFormat {sample_format} of {depth} bits."
        )
    full_scale = 2**depth - 1
    values = np.asarray(opened)
    if tags[_PHOTOMETRIC] == _WHITE_IS_ZERO:  # Pillow inverts those of 8 bits only
        values = full_scale - values
    return _Page(values, full_scale)


def _grey(opened: Image.Image) -> NDArray[np.uint8]:
    """An 8-bit grey image, or one with colour channels that hold the same."""
    if opened.mode in _GREY_MODES:
        return np.asarray(opened.convert("L"), dtype=np.uint8)
    # A palette with transparency makes Pillow warn, unless it may keep the transparency.
    picture = opened.convert("RGBA") if opened.mode in ("P", "PA") else opened
    return np.asarray(_one_channel(np.asarray(picture.convert("RGB"))), dtype=np.uint8)


def _one_channel(values: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Grey [row, column] of that, of grey with alpha, or of RGB(A) [row, column, channel]."""
    if values.ndim == 2:
        return values
    if values.shape[2] < 3:
        return values[..., 0]
    colors = values[..., :3]
    spread = int((colors.max(axis=-1) - colors.min(axis=-1)).max())
    if spread > _GREY_TOLERANCE * (np.iinfo(values.dtype).max // 255):
        raise ColorImage(f"Expected a grey image, found channels that differ by {spread}.")
    return colors[..., 1]


def _check_jpeg(data: bytes) -> None:
    """Refuse what libjpeg does not read, by what it is, and what would keep it busy.

    ITU-T T.81, B.1.1.2 and B.2.2: a frame names its bits, and a scan's marker occurs nowhere in
    coded data. Progressive images have about ten scans, each of which goes over all pixels.
    """
    if data.count(_JPEG_SCAN) > _JPEG_MOST_SCANS:
        raise UnsupportedPixels(f"Expected a JPEG of at most {_JPEG_MOST_SCANS} scans, found more.")
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 < min(len(data), _JPEG_HEADER_BYTES):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _JPEG_FRAMES:
            if data[at + 4] != 8 or marker == _JPEG_LOSSLESS:
                raise UnsupportedPixels(
                    f"Expected a JPEG of 8 bits, not lossless, found {data[at + 4]} bits or a "
                    "lossless one."
                )
            return
        at += 1 if marker == 0xFF else 2 + length


def _notices(options: DecodeOptions, is_hu: bool, slices: int) -> tuple[Notice, ...]:
    notices = []
    if options.image_window is None and not is_hu:
        used = options.model_window
        text = f"Grey 0 to 255 was taken as {used.lower_hu:g} to {used.upper_hu:g} HU."
        notices.append(Notice("window_assumed", text))
    if options.pixel_spacing_mm is None:
        text = "The image has no pixel spacing: areas are in pixels, volumes and lengths are null."
        notices.append(Notice("spacing_unknown", text))
    else:
        text = "A single image has no slice thickness: volumes are null."
        if slices > 1:
            text = "The distance between the images of the stack is not known: volumes are null."
        notices.append(Notice("thickness_unknown", text))
    return tuple(notices)
