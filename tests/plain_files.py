"""Pictures and archives as bytes, also such as no library writes."""

import io
import struct
import tarfile
import zipfile
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image

GREY = np.tile(np.arange(0, 240, 4, dtype=np.uint8), (40, 1))
"""40 x 60 pixels that grow from left to right."""


def picture(array: np.ndarray, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, image_format, **options)
    return buffer.getvalue()


def tiff(
    pages: Iterable[np.ndarray],
    *,
    order: str = "<",
    big: bool = False,
    white_is_zero: bool = False,
) -> bytes:
    """Pages [row, column] as an uncompressed TIFF 6.0 or, where `big`, BigTIFF."""
    offset_code, count_code = ("Q", "Q") if big else ("I", "H")
    mark = {"<": b"II", ">": b"MM"}[order]
    head = struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42)
    data = mark + head
    link = len(data)
    data += struct.pack(order + offset_code, 0)
    for page in pages:
        pixels = page.astype(page.dtype.newbyteorder(order)).tobytes()
        sample_format = {"u": 1, "i": 2, "f": 3}[page.dtype.kind]
        tags = {256: page.shape[1], 257: page.shape[0], 258: page.dtype.itemsize * 8, 259: 1,
                262: 0 if white_is_zero else 1, 273: len(data), 277: 1, 278: page.shape[0],
                279: len(pixels), 339: sample_format}  # fmt: skip
        data += pixels
        directory = struct.pack(order + count_code, len(tags))
        for tag, value in tags.items():
            directory += struct.pack(order + "HH" + offset_code, tag, 4, 1)
            directory += struct.pack(order + "I", value).ljust(8 if big else 4, b"\0")
        start = struct.pack(order + offset_code, len(data))
        data = data[:link] + start + data[link + len(start) :]
        link = len(data) + len(directory)
        data += directory + struct.pack(order + offset_code, 0)
    return data


def zip_named(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tar_named(
    files: Mapping[str, bytes], mode: str = "w", tar_format: int = tarfile.PAX_FORMAT
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=tar_format) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def tar_entry(name: str = "slice", *, kind: bytes = b"0", size: int | bytes = 0) -> bytes:
    """One header of a tar archive, its checksum right, whatever else it says."""
    block = bytearray(512)
    block[: len(name)] = name.encode()
    field = size if isinstance(size, bytes) else f"{size:011o}\0".encode()
    block[100:108], block[124:136], block[136:148] = b"0000644\0", field, b"00000000000\0"
    block[156:157], block[257:265] = kind, b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


TAR_END = bytes(1024)


def many_directories(count: int) -> bytes:
    """A zip's directory of `count` folders in the fewest bytes, without local headers."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0,
                        0, 0, 0, 0) + b"d/"  # fmt: skip
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count % 65536, count % 65536,
                      len(entry) * count, 0, 0)  # fmt: skip
    return b"PK\x03\x04" + bytes(26) + entry * count + end


def quoted_overlap() -> bytes:
    """A zip whose second entry is the first one's data, header and all."""
    inner = zip_named({"b": b"\0" * 100_000})
    data = zip_named({"a": inner}, zipfile.ZIP_STORED)
    directory = data.index(b"PK\x01\x02", len(inner))
    entry = bytearray(inner[inner.index(b"PK\x01\x02") : inner.index(b"PK\x05\x06")])
    entry[42:46] = struct.pack("<L", data.index(inner))
    own = data[directory : data.index(b"PK\x05\x06", directory)]
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, len(own) + len(entry), directory, 0)
    return data[:directory] + own + bytes(entry) + end


def with_flag(flag: int, method: int = 8) -> bytes:
    """A zip whose directory gives its entry these flags and this method."""
    data = bytearray(zip_named({"a": b"secret" * 20}))
    entry = data.index(b"PK\x01\x02")
    data[entry + 8 : entry + 12] = struct.pack("<HH", flag, method)
    return bytes(data)
