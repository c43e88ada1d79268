"""Archives to their files, in memory, within limits that a bomb cannot pass."""

import bz2
import gzip
import io
import re
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

import imagecodecs

from service.decode import tar
from service.decode.sniff import TAR_BLOCK_BYTES, ContentKind, sniff
from service.errors import ArchiveTooLarge, TooManyFiles, UnreadableFile, UnsafeArchive

_CHUNK_BYTES = 1 << 16
# What zipfile, gzip, bz2 and their decompressors raise for damaged data.
_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError)

_CLUTTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")

_ENTRIES_PER_FILE = 4
"""Entries of archives to each file allowed: macOS writes a file of clutter beside every file."""

_MOST_STREAMS = 100_000
"""Of compressed files in a request, where some write one for each 64 kB. One takes 4 microseconds,
also an empty one of 20 bytes.
"""

_DIRECTORY_BYTES_PER_ENTRY = 256
_LEAST_DIRECTORY_BYTES = 1 << 17

_ENCRYPTED_BITS = 0x1 | 0x40 | 0x2000
"""Flags of a zip entry (APPNOTE 4.4.4): encrypted, strongly encrypted, names hidden as well."""

_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Only these: zipfile gives the others' decompressors no bound, and 45 bytes can make 45 MB."""

_GZIP, _BZIP2 = b"\x1f\x8b\x08", b"BZh"
"""How each compressed stream starts; several may follow each other."""

_LOCAL_HEADER_BYTES = 30
_DEFLATE_RATIO = 1032


@dataclass(frozen=True)
class ArchiveLimits:
    """Bounds over a whole request, counted on what was really decompressed."""

    max_files: int
    max_decompressed_bytes: int


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Budget:
    """Counts entries, files and bytes of one request, and raises at the bound."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self.limits = limits
        self._entries = 0
        self._files = 0
        self._bytes = 0
        self._streams = 0

    @property
    def max_entries(self) -> int:
        return self.limits.max_files * _ENTRIES_PER_FILE

    def count_entries(self, count: int) -> None:
        """Entries of any kind: directories and clutter cost time and memory too."""
        self._entries += count
        if self._entries > self.max_entries:
            raise TooManyFiles(f"Expected at most {self.max_entries} entries, found more.")

    def count_file(self) -> None:
        self._files += 1
        if self._files > self.limits.max_files:
            raise TooManyFiles(f"Expected at most {self.limits.max_files} files, found more.")

    def count_streams(self, count: int) -> None:
        self._streams += count
        if self._streams > _MOST_STREAMS:
            raise UnsafeArchive(f"Expected at most {_MOST_STREAMS} compressed streams, found more.")

    def count_bytes(self, count: int) -> None:
        self.check_bytes(count)
        self._bytes += count

    def check_bytes(self, more: int) -> None:
        """Raise if so many more bytes would pass the bound."""
        if self._bytes + more > self.limits.max_decompressed_bytes:
            raise ArchiveTooLarge(
                f"Expected at most {self.limits.max_decompressed_bytes} bytes once decompressed, "
                "found more."
            )


class _Source:
    """A stream read once from front to end, each of its bytes counted."""

    def __init__(self, stream: _Readable, budget: _Budget) -> None:
        self._stream = stream
        self._budget = budget
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, which stay to be read; fewer only at the end."""
        self._ahead = self.read(size)
        return self._ahead

    def read(self, size: int = sys.maxsize) -> bytes:
        """The next `size` bytes, fewer only at the end. A claimed size costs nothing."""
        taken = self._ahead[:size]
        self._ahead = self._ahead[size:]
        if len(taken) == size:
            return taken
        sink = io.BytesIO()  # gives its bytes away without a copy
        sink.write(taken)
        for chunk in self._chunks(size - len(taken)):
            sink.write(chunk)
        return sink.getvalue()

    def skip(self, size: int = sys.maxsize) -> int:
        """Read and drop `size` bytes; how many there were."""
        skipped = len(self._ahead[:size])
        self._ahead = self._ahead[size:]
        return skipped + sum(len(chunk) for chunk in self._chunks(size - skipped))

    def _chunks(self, size: int) -> Iterator[bytes]:
        while size and (chunk := self._stream.read(min(size, _CHUNK_BYTES))):
            self._budget.count_bytes(len(chunk))
            size -= len(chunk)
            yield chunk


def expand(files: Iterable[bytes], limits: ArchiveLimits) -> Iterator[tuple[ContentKind, bytes]]:
    """The files of a request with their kinds, archives and compressed files opened.

    They come in the request's order, those of an archive in the natural order of their names. An
    archive may hold compressed files (a .nii.gz), but no archive. Empty files, directories, links,
    devices and the clutter of desktop systems are dropped; two entries of one name are two files.
    Raises `UnsafeArchive` for what is not opened, `TooManyFiles`, `ArchiveTooLarge`, and
    `UnreadableFile` for damage.
    """
    budget = _Budget(limits)
    for data in files:
        for kind, member in _open(data, budget):
            if member:
                yield kind, member


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """A sorting key that puts slice2 before slice10: text and digits take turns in it.

    Digits are compared by their number and then as text, since they may be too many for an integer.
    """
    return tuple(
        (len(digits := part.lstrip("0")), digits) if index % 2 else (0, part)
        for index, part in enumerate(re.split(r"([0-9]+)", name))
    )


def _open(data: bytes, budget: _Budget) -> Iterator[tuple[ContentKind, bytes]]:
    match kind := sniff(data):
        case "zip":
            yield from _unzip(data, budget)
        case "tar":
            yield from _untar(_Source(io.BytesIO(data), budget), budget)
        case "gzip" | "bzip2":
            yield from _decompressed(data, budget)
        case "unknown" if _ends_as_zip(data):
            yield from _unzip(data, budget)
        case _:
            budget.count_file()
            budget.count_bytes(len(data))
            yield kind, data


def _ends_as_zip(data: bytes) -> bool:
    """Whether an archive follows something else, as in one that extracts itself."""
    return not data.startswith(b"PK") and zipfile.is_zipfile(io.BytesIO(data))


def _decompressed(data: bytes, budget: _Budget) -> Iterator[tuple[ContentKind, bytes]]:
    """A compressed file, or the files of a compressed tar archive."""
    try:
        source = _Source(_decompressor(data, budget), budget)
        if sniff(source.peek(TAR_BLOCK_BYTES)) == "tar":
            yield from _untar(source, budget)
        else:
            budget.count_file()
            yield _content(source.read())
        source.skip()  # the checksum stands at the end
    except _DAMAGE as error:
        raise UnreadableFile("Expected whole compressed data, found it damaged.") from error


def _decompressor(data: bytes, budget: _Budget) -> _Readable:
    """Both give back no more at once than they are asked for, however much the data may hold."""
    stream, is_gzip = io.BytesIO(data), data.startswith(_GZIP)
    budget.count_streams(data.count(_GZIP if is_gzip else _BZIP2))
    return gzip.GzipFile(fileobj=stream) if is_gzip else bz2.BZ2File(stream)


def _untar(source: _Source, budget: _Budget) -> Iterator[tuple[ContentKind, bytes]]:
    members = []
    while (entry := tar.next_entry(source)) is not None:
        budget.count_entries(1)
        _check_name(entry.name)
        if entry.kind != "file" or _is_clutter(entry.name):
            complete = source.skip(entry.padded_size) == entry.padded_size
        else:
            budget.count_file()
            members.append((entry.name, data := source.read(entry.size)))
            padding = entry.padded_size - entry.size
            complete = len(data) == entry.size and source.skip(padding) == padding
        if not complete:
            raise UnreadableFile("Expected a whole tar archive, found it cut.")
    members.sort(key=lambda member: natural_key(member[0]), reverse=True)
    while members:  # each member is its reader's alone
        yield _member(members.pop()[1], budget)


def _unzip(data: bytes, budget: _Budget) -> Iterator[tuple[ContentKind, bytes]]:
    try:
        with zipfile.ZipFile(_ZipBytes(data, budget)) as archive:
            entries = archive.infolist()
            budget.count_entries(len(entries))
            _check_entries(entries, archive.start_dir)
            wanted = [entry for entry in entries if _is_file(entry)]
            # Not more than the declared size is ever read of an entry.
            budget.check_bytes(sum(entry.file_size for entry in wanted))
            for entry in sorted(wanted, key=lambda entry: natural_key(entry.filename)):
                budget.count_file()
                member = _entry(data, entry)
                budget.count_bytes(len(member))
                yield _member(member, budget)
    except NotImplementedError as error:  # zipfile, of a directory that asks for a later version
        raise UnsafeArchive(
            "Expected a plain zip archive, found one of a later version."
        ) from error
    except _DAMAGE as error:
        raise UnreadableFile("Expected a whole zip archive, found a damaged one.") from error


def _entry(data: bytes, entry: zipfile.ZipInfo) -> bytes:
    """What one entry of an archive holds; raises one of `_DAMAGE`.

    Not through zipfile's own reader: libdeflate takes 0.4 of its time, and no lock meanwhile. A
    claimed size is believed as far as deflate can reach it (1,032 times, RFC 1951: 258 bytes in two
    bits), and no further.
    """
    header = data[entry.header_offset : entry.header_offset + _LOCAL_HEADER_BYTES]
    if not header.startswith(b"PK\x03\x04"):
        raise zipfile.BadZipFile("no header before the entry")
    name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
    start = entry.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
    packed = data[start : start + entry.compress_size]
    if entry.compress_type == zipfile.ZIP_STORED or not packed:
        content = packed
    elif entry.file_size > _DEFLATE_RATIO * len(packed):
        raise zipfile.BadZipFile("a size that the entry cannot have")
    else:
        content = bytes(imagecodecs.deflate_decode(packed, raw=True, out=entry.file_size))
    if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
        raise zipfile.BadZipFile("another size or checksum than the directory says")
    return content


class _ZipBytes(io.BytesIO):
    """An archive whose directory is read up to a bound: zipfile reads it in one piece.

    An entry takes 46 bytes there and many times that once parsed, so counting them later is late.
    """

    def __init__(self, data: bytes, budget: _Budget) -> None:
        super().__init__(data)
        self._max_entries = budget.max_entries

    def read(self, size: int | None = -1, /) -> bytes:
        most = max(self._max_entries * _DIRECTORY_BYTES_PER_ENTRY, _LEAST_DIRECTORY_BYTES)
        if size is not None and size > most:
            raise TooManyFiles(f"Expected at most {self._max_entries} entries, found more.")
        return super().read(size)


def _check_entries(entries: Sequence[zipfile.ZipInfo], directory_start: int) -> None:
    """Refuse the archive as a whole before anything is decompressed."""
    for entry in entries:
        _check_name(entry.filename)
        if entry.flag_bits & _ENCRYPTED_BITS:
            raise UnsafeArchive("Expected a zip without encryption, found an encrypted one.")
        if entry.compress_type not in _ZIP_METHODS:
            raise UnsafeArchive(
                f"Expected stored or deflated zip entries, found method {entry.compress_type}."
            )
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    starts = [*(entry.header_offset for entry in ordered), directory_start]
    for entry, end in zip(ordered, starts[1:], strict=True):
        if entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size > end:
            raise UnsafeArchive("Expected zip entries with data of their own, found them shared.")


def _is_file(entry: zipfile.ZipInfo) -> bool:
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    return not (entry.filename.endswith("/") or is_link or _is_clutter(entry.filename))


def _member(data: bytes, budget: _Budget) -> tuple[ContentKind, bytes]:
    """One file of an archive; a compressed one is opened, an archive is not."""
    if sniff(data) not in ("gzip", "bzip2"):
        return _content(data)
    try:
        return _content(_Source(_decompressor(data, budget), budget).read())
    except _DAMAGE as error:
        raise UnreadableFile("Expected whole compressed data, found it damaged.") from error


def _content(data: bytes) -> tuple[ContentKind, bytes]:
    match kind := sniff(data):
        case "zip" | "tar" | "gzip" | "bzip2":
            raise UnsafeArchive("Expected files inside the archive, found another archive.")
        case _:
            return kind, data


def _check_name(name: str) -> None:
    """No file is ever written, yet an archive made to leave its folder is nobody's CT."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise UnsafeArchive("Expected names inside the archive, found one that points outside it.")


def _is_clutter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part in _CLUTTER or part.startswith("._") for part in parts)
