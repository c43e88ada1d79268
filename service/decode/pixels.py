"""Stored values to Hounsfield units."""

import io
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_fragments, generate_frames
from pydicom.uid import UID, ExplicitVRBigEndian

from service.decode.codecs import FrameError, Layout, UnknownCodec, decode_frame, native
from service.decode.headers import Instance, Slice, numbers, words
from service.errors import UnreadableFile, UnsupportedPixels, UnsupportedTransferSyntax
from service.volume import AIR_HU

_TABLE_BITS = 16
"""Values of at most so many bits go through a table of all of them: 3.5 ms a slice became 0.5."""

_NOT_HOUNSFIELD = {"OD", "MGML", "Z_EFF", "ED", "EDW", "PCT"}
"""Terms of RescaleType (PS3.3 C.11.1.1.2) whose values are no Hounsfield units."""

_HIGHEST_RESCALE = 1e6
"""Of a slope or an intercept: far more than any scale of CT values, far less than overflows."""


@dataclass(frozen=True)
class _Meaning:
    """How a stored pattern of bits becomes HU; `padding` is both ends of a range, or nothing."""

    slope: float
    intercept: float
    bits_allocated: int
    bits_stored: int
    signed: bool
    padding: tuple[int, ...]


def hounsfield_units(slices: Sequence[Slice]) -> NDArray[np.int16]:
    """Slices of the same size in HU, int16 [slice, row, column].

    Padding, and what lies below the CT scale, becomes air. MONOCHROME1 only says how to show the
    values: those of a CT are HU after the rescale either way. Raises `UnsupportedPixels`,
    `UnreadableFile` or `UnsupportedTransferSyntax`, naming the slice.
    """
    rows, columns = size_px(slices[0])
    hu = np.empty((len(slices), rows, columns), dtype=np.int16)
    by_instance: dict[int, dict[int, int]] = defaultdict(dict)
    for index, item in enumerate(slices):
        by_instance[id(item.instance)][item.frame or 1] = index
    for places in by_instance.values():
        first = slices[next(iter(places.values()))]
        layout = _layout(first, (rows, columns))
        for frame, stored in _frames(first, layout, places.keys()):
            index = places[frame]
            meaning = _meaning(slices[index], 8 * layout.bytes_per_pixel)
            _to_hounsfield_units(stored, meaning, hu[index])
    return hu


def size_px(item: Slice) -> tuple[int, int]:
    """Rows and columns. Raises `UnreadableFile`."""
    rows, columns = numbers(item.header, "Rows", 1), numbers(item.header, "Columns", 1)
    if rows is None or columns is None or rows < 1 or columns < 1:
        raise UnreadableFile(f"Expected Rows and Columns, found none in slice {item.number}.")
    return int(rows[0]), int(columns[0])


def _frames(
    first: Slice, layout: Layout, wanted: Collection[int]
) -> Iterator[tuple[int, NDArray[np.integer]]]:
    """The wanted frames of the instance of `first` in stored order, as (number, values)."""
    instance = first.instance
    if not instance.pixels:
        raise UnreadableFile(f"Expected pixel data, found none in slice {first.number}.")
    last, found = max(wanted), 0
    try:
        for stored in _all_frames(instance, layout):
            found += 1
            if found in wanted:
                yield found, stored
            if found == last:
                return
        raise FrameError("Expected as many frames as NumberOfFrames says, found fewer")
    except UnknownCodec as error:
        raise UnsupportedTransferSyntax(
            f"Expected a transfer syntax that can be decoded, found {_safe(instance.syntax)}."
        ) from error
    except FrameError as error:
        damaged = first if first.frame is None else replace(first, frame=found + 1)
        raise UnreadableFile(f"{error} in slice {damaged.number}.") from error


def _all_frames(instance: Instance, layout: Layout) -> Iterator[NDArray[np.integer]]:
    if not instance.syntax.is_transfer_syntax or instance.syntax.is_private:
        raise UnknownCodec("Expected a transfer syntax of the standard, found another one")
    if not instance.syntax.is_encapsulated:
        byte_order = ">" if instance.syntax == ExplicitVRBigEndian else "<"
        for start in range(0, instance.frames * layout.bytes, layout.bytes):
            yield native(instance.pixels[start : start + layout.bytes], layout, byte_order)
        return
    for frame in _compressed_frames(instance):
        yield decode_frame(frame, instance.syntax, layout)


def _compressed_frames(instance: Instance) -> Iterator[bytes]:
    stream = io.BytesIO(instance.pixels)
    tables = [
        instance.header.get(keyword)
        for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
    ]
    try:
        if instance.frames == 1:  # all fragments but the offset table, which may well be wrong
            yield b"".join(list(generate_fragments(stream))[1:])
            return
        yield from generate_frames(
            stream,
            number_of_frames=instance.frames,
            extended_offsets=(tables[0], tables[1]) if all(tables) else None,
        )
    except Exception as error:  # damaged fragments make pydicom raise nearly anything
        raise FrameError("Expected whole pixel data, found it damaged") from error


def _layout(item: Slice, size: tuple[int, int]) -> Layout:
    """Raises `UnsupportedPixels` for pixels that are no grey integers."""
    number, header = item.number, item.header
    samples = numbers(header, "SamplesPerPixel", 1)
    if samples is not None and samples[0] != 1:
        raise UnsupportedPixels(f"Expected one sample a pixel, found more in slice {number}.")
    if item.instance.pixel_keyword not in ("", "PixelData"):
        raise UnsupportedPixels(f"Expected integer pixels, found {item.instance.pixel_keyword} "
                                f"in slice {number}.")  # fmt: skip
    allocated = numbers(header, "BitsAllocated", 1)
    if allocated is None or allocated[0] not in (8, 16, 32):
        raise UnsupportedPixels(
            f"Expected BitsAllocated of 8, 16 or 32, found another in slice {number}."
        )
    if allocated[0] == 8 and item.instance.syntax == ExplicitVRBigEndian:
        raise UnsupportedPixels(f"Expected 16 bits a big endian pixel, found 8 in slice {number}.")
    return Layout(*size, int(allocated[0]) // 8)


def _meaning(item: Slice, allocated: int) -> _Meaning:
    """Raises `UnsupportedPixels` where the values cannot become HU."""
    number, header = item.number, item.header
    stored = _integer(item, "BitsStored", allocated)
    if not 1 <= stored <= allocated or _integer(item, "HighBit", stored - 1) != stored - 1:
        raise UnsupportedPixels(f"Expected HighBit below BitsStored by one in slice {number}.")
    slope, intercept = numbers(header, "RescaleSlope", 1), numbers(header, "RescaleIntercept", 1)
    if slope is None or intercept is None:
        raise UnsupportedPixels(f"Expected RescaleSlope and RescaleIntercept in slice {number}.")
    if slope[0] == 0 or max(abs(slope[0]), abs(intercept[0])) > _HIGHEST_RESCALE:
        raise UnsupportedPixels(
            "Expected RescaleSlope and RescaleIntercept that give Hounsfield units, found others "
            f"in slice {number}."
        )
    if unit := _NOT_HOUNSFIELD.intersection(words(header, "RescaleType")):
        raise UnsupportedPixels(
            f"Expected Hounsfield units, found RescaleType {min(unit)} in slice {number}."
        )
    signed = _integer(item, "PixelRepresentation", 0) == 1
    return _Meaning(
        slope=float(slope[0]),
        intercept=float(intercept[0]),
        bits_allocated=allocated,
        bits_stored=stored,
        signed=signed,
        padding=_padding(header, allocated, signed),
    )


def _padding(header: Dataset, allocated: int, signed: bool) -> tuple[int, ...]:
    """Both ends of what is padding, PixelPaddingValue to its limit (PS3.3 C.7.5.1.1.2).

    They are taken as bits: some write 63536 where signed pixels hold -2000. Both elements have 16,
    so that what does not fit into pixels of 8 is none of their values.
    """
    value = numbers(header, "PixelPaddingValue", 1)
    if value is None:
        return ()
    limit = numbers(header, "PixelPaddingRangeLimit", 1)
    bits = max(allocated, 16)
    half = 1 << (bits - 1) if signed else 0
    ends = value[0], (value if limit is None else limit)[0]
    return tuple(sorted((int(end) + half) % (1 << bits) - half for end in ends))


def _integer(item: Slice, keyword: str, absent: int) -> int:
    found = numbers(item.header, keyword, 1)
    return absent if found is None else int(found[0])


def _to_hounsfield_units(
    stored: NDArray[np.integer], meaning: _Meaning, out: NDArray[np.int16]
) -> None:
    """Write one slice's HU; of a stored value only its lower BitsStored bits count.

    Taking them as bits also mends codestreams whose signedness is not that of the header.
    """
    if stored.dtype.itemsize * 8 < meaning.bits_allocated:  # a codec's values of fewer bits
        stored = stored.astype(f"{stored.dtype.kind}{meaning.bits_allocated // 8}")
    patterns = stored.view(f"{stored.dtype.byteorder}u{stored.dtype.itemsize}")
    if stored.dtype.itemsize * 8 <= _TABLE_BITS:
        np.take(_table(meaning), patterns, out=out, mode="clip")
    else:
        out[:] = _meant(patterns.astype(np.int64), meaning)


@lru_cache(maxsize=32)
def _table(meaning: _Meaning) -> NDArray[np.int16]:
    """HU of every pattern of 16 bits; slices of one series share a few of these."""
    return _meant(np.arange(1 << _TABLE_BITS, dtype=np.int64), meaning)


def _meant(patterns: NDArray[np.int64], meaning: _Meaning) -> NDArray[np.int16]:
    values = patterns & ((1 << meaning.bits_stored) - 1)
    if meaning.signed:
        sign = 1 << (meaning.bits_stored - 1)
        values = (values ^ sign) - sign
    hu = values.astype(np.float32) * np.float32(meaning.slope) + np.float32(meaning.intercept)
    hu[_is_padding(values, meaning)] = AIR_HU
    rounded = np.rint(np.clip(hu, AIR_HU, np.iinfo(np.int16).max))
    return np.asarray(rounded, dtype=np.int16)


def _is_padding(values: NDArray[np.int64], meaning: _Meaning) -> NDArray[np.bool_]:
    if not meaning.padding:
        return np.zeros(values.shape, dtype=bool)
    lower, upper = meaning.padding
    return np.asarray((values >= lower) & (values <= upper))


def _safe(syntax: UID) -> str:
    known = syntax.is_transfer_syntax and not syntax.is_private
    return str(syntax.name) if known else "a private one"
