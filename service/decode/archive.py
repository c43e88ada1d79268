"""Archives to their files, in memory, within limits that a bomb cannot pass."""

import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from service.decode.sniff import sniff
from service.errors import ArchiveTooLarge, TooManyFiles, UnreadableFile, UnsafeArchive

_CHUNK_BYTES = 1 << 20
# What zipfile, gzip and their decompressors raise for data that is damaged or not supported.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
)

_CLUTTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class ArchiveLimits:
    """Bounds over a whole request, counted on what was really decompressed."""

    max_files: int
    max_decompressed_bytes: int


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Budget:
    """Counts files and bytes of one request, and raises at the bound."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self._limits = limits
        self._files = 0
        self._bytes = 0

    def count_file(self) -> None:
        self._files += 1
        if self._files > self._limits.max_files:
            raise TooManyFiles(f"Expected at most {self._limits.max_files} files, found more.")

    def read(self, stream: _Readable) -> bytes:
        chunks = []
        while chunk := stream.read(_CHUNK_BYTES):
            self._bytes += len(chunk)
            if self._bytes > self._limits.max_decompressed_bytes:
                raise ArchiveTooLarge(
                    f"Expected at most {self._limits.max_decompressed_bytes} bytes once "
                    "decompressed, found more."
                )
            chunks.append(chunk)
        return b"".join(chunks)


def expand(files: Iterable[bytes], limits: ArchiveLimits) -> list[bytes]:
    """The files of a request, with zip archives and gzip files opened one level deep.

    Empty files, directories and the clutter of desktop systems are dropped. Raises `UnsafeArchive`
    for names that leave the archive and for encryption, `TooManyFiles`, `ArchiveTooLarge`, and
    `UnreadableFile` for damage.
    """
    budget = _Budget(limits)
    members: list[bytes] = []
    for data in files:
        match sniff(data):
            case "zip":
                members.extend(_unzip(data, budget))
            case "gzip":
                budget.count_file()
                members.append(_gunzip(data, budget))
            case _:
                budget.count_file()
                members.append(budget.read(io.BytesIO(data)))
    return [member for member in members if member]


def _unzip(data: bytes, budget: _Budget) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                _check_name(entry.filename)
                if entry.flag_bits & 0x1:
                    raise UnsafeArchive(
                        "Expected a zip without encryption, found an encrypted one."
                    )
                if entry.is_dir() or _is_clutter(entry.filename):
                    continue
                budget.count_file()
                with archive.open(entry) as stream:
                    yield _member(budget.read(stream), budget)
    except _DAMAGE as error:
        raise UnreadableFile("Expected a whole zip archive, found a damaged one.") from error


def _member(data: bytes, budget: _Budget) -> bytes:
    """One file of an archive; a compressed one is opened, an archive is not."""
    match sniff(data):
        case "zip":
            raise UnreadableFile("Expected files inside the archive, found another archive.")
        case "gzip":
            return _gunzip(data, budget)
        case _:
            return data


def _gunzip(data: bytes, budget: _Budget) -> bytes:
    try:
        return budget.read(gzip.GzipFile(fileobj=io.BytesIO(data)))
    except _DAMAGE as error:
        raise UnreadableFile("Expected whole gzip data, found damaged data.") from error


def _check_name(name: str) -> None:
    """No file is ever written, yet an archive made to leave its folder is nobody's CT."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise UnsafeArchive("Expected names inside the archive, found one that points outside it.")


def _is_clutter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part in _CLUTTER or part.startswith("._") for part in parts)
