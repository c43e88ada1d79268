"""Archives and compressed data made to cost more than they weigh, through the door."""

import bz2
import gzip
import struct
import time
import zipfile

import pytest
from plain_files import TAR_END, tar_entry, tar_named, zip_named
from security.harness import ask, is_well

CPU_S = 2.0
"""For what an honest archive of the size takes milliseconds."""


def deep(levels: int, width: int = 16) -> bytes:
    """A zip of zips of zips: opened to its end it holds 16 to the power of its levels of files."""
    data = bytes(100_000)
    for _ in range(levels):
        data = zip_named({f"{index}.zip": data for index in range(width)})
    return data


def attributes(count: int, record: bytes = b"6 a=b\n") -> bytes:
    """An entry of a tar archive behind so many extended attributes."""
    content = record * count
    header = tar_entry(kind=b"x", size=len(content))
    return header + content.ljust(-(-len(content) // 512) * 512, b"\0") + tar_entry()


def zip64_lie(size: int) -> bytes:
    """A zip whose entry claims this size in the field for large ones."""
    data = zip_named({"a": b"x" * 100})
    at, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    extra = struct.pack("<HHQ", 1, 8, size)
    entry = bytearray(data[at:end])
    entry[24:28] = b"\xff" * 4
    entry[30:32] = struct.pack("<H", len(extra))
    directory = bytes(entry) + extra
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), at, 0)
    return data[:at] + directory + tail


def pointing(offset: int) -> bytes:
    """A zip whose entry lies at this place."""
    data = bytearray(zip_named({"a": b"x" * 100}))
    at = data.index(b"PK\1\2")
    data[at + 42 : at + 46] = struct.pack("<L", offset)
    return bytes(data)


ROWS: dict[str, tuple[bytes, int, str]] = {
    "zips in zips": (deep(4), 400, "unsafe_archive"),
    "zip in gzip in zip": (
        zip_named({"a": gzip.compress(zip_named({"b": b"x"}))}),
        400,
        "unsafe_archive",
    ),
    "gzip in gzip in gzip": (
        gzip.compress(gzip.compress(gzip.compress(bytes(10**7)))),
        400,
        "unsafe_archive",
    ),
    "170,000 attributes": (attributes(170_000) + TAR_END, 400, "unsafe_archive"),
    "170,000 attributes twice, compressed": (
        gzip.compress(attributes(170_000) * 2 + TAR_END),
        400,
        "unsafe_archive",
    ),
    "an endless attribute": (
        attributes(1, b"99999999 a=b\n") + TAR_END,
        422,
        "unreadable_file",
    ),
    "empty gzip streams": (gzip.compress(b"") * 150_000, 400, "unsafe_archive"),
    "empty bzip2 streams": (bz2.compress(b"") * 150_000, 400, "unsafe_archive"),
    "empty streams in a zip": (
        zip_named({"a": gzip.compress(b"") * 120_000}),
        400,
        "unsafe_archive",
    ),
    "zip of terabytes": (zip64_lie(2**42), 413, "archive_too_large"),
    "zip of negative size": (zip64_lie(2**64 - 1), 413, "archive_too_large"),
    "entry behind the end": (pointing(2**31), 400, "unsafe_archive"),
    "tar bomb in gzip": (
        gzip.compress(tar_named({"a": bytes(3_500_000)})),
        413,
        "archive_too_large",
    ),
    "names of 30 kB": (
        zip_named({"a/" * 15_000 + str(index): b"" for index in range(51)}, zipfile.ZIP_STORED),
        413,
        "too_many_files",
    ),
}


@pytest.mark.parametrize(("data", "status", "code"), ROWS.values(), ids=ROWS)
def test_archives(port: int, data: bytes, status: int, code: str) -> None:
    """Refused by name, in about the time that an honest archive takes, and the service is well."""
    started = time.process_time()
    for path in ("/v1/segment", "/v1/segmentations"):
        answer = ask(port, f"POST {path}", b"Content-Type: application/octet-stream", body=data)
        assert (answer.status, answer.code) == (status, code)
    assert time.process_time() - started < CPU_S
    assert is_well(port)


@pytest.mark.parametrize(
    "name",
    ["../../etc/cron.d/x", "/etc/passwd", "C:\\x", "\\\\host\\share\\x", "a/../../x", "..\\..\\x"],
)
@pytest.mark.parametrize("pack", [zip_named, tar_named])
def test_names_that_point_outside(port: int, pack: type, name: str) -> None:
    """Nothing is ever written under a name of an archive; one that tries is refused."""
    data = pack({"slice": b"x", name: b"x"})
    answer = ask(port, "POST /v1/segment", b"Content-Type: application/zip", body=data)
    assert (answer.status, answer.code) == (400, "unsafe_archive")


@pytest.mark.parametrize(
    "name", ["con", "nul\0.png", "a\r\nb", "<script>", "\u202egnp.exe", "a" * 60_000]
)
def test_names_that_mean_something_elsewhere(port: int, name: str) -> None:
    """Devices, control characters and markup in names are names: no answer repeats them."""
    data = tar_named({name: b"no image"})
    answer = ask(port, "POST /v1/segment", b"Content-Type: application/x-tar", body=data)
    assert (answer.status, answer.code) == (415, "unknown_format")
    assert name.encode()[:6] not in answer.body
