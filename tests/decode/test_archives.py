"""Archives and compressed files: what is opened, what is refused, and within which bounds."""

import bz2
import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from dicom_files import series, to_bytes, to_zip, zip_of
from highdicom import Volume
from plain_files import (
    GREY,
    TAR_END,
    many_directories,
    picture,
    quoted_overlap,
    tar_entry,
    tar_named,
    with_flag,
    zip_named,
)

from service.decode import decode
from service.decode.archive import ArchiveLimits, expand, natural_key
from service.decode.options import DecodeOptions
from service.errors import (
    ArchiveTooLarge,
    BadRequest,
    EmptyInput,
    TooManyFiles,
    UnknownFormat,
    UnreadableFile,
    UnsafeArchive,
)
from service.phantom_files import ct_datasets, nifti_bytes

LIMITS = ArchiveLimits(max_files=100, max_decompressed_bytes=1 << 24)


def opened(*files: bytes, limits: ArchiveLimits = LIMITS) -> list[bytes]:
    return [member for _, member in expand(files, limits)]


def unseekable_zip(files: dict[str, bytes]) -> bytes:
    """A zip written in one go, whose sizes follow the data in descriptors."""

    class OneWay(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise io.UnsupportedOperation

        def tell(self) -> int:
            raise io.UnsupportedOperation

    buffer = OneWay()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def zip64(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            with archive.open(name, "w", force_zip64=True) as entry:
                entry.write(data)
    return buffer.getvalue()


def old_tar(files: dict[str, bytes]) -> bytes:
    """A tar from before POSIX: the header ends with the link's name, no magic follows."""
    data = bytearray(tar_named(files, tar_format=tarfile.USTAR_FORMAT))
    for start in range(0, len(data) - 1024, 512):
        if data[start + 257 : start + 262] == b"ustar":
            data[start + 257 : start + 512] = bytes(255)
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = f"{sum(data[start : start + 512]):06o}\0 ".encode()
    return bytes(data)


def prepended(files: dict[str, bytes]) -> bytes:
    return b"MZ, a program that extracts itself" + zip_named(files)


FILES = {
    "study/series 1/image10": b"tenth",
    "study/series 1/image9": b"ninth",
    "study/" + "a long name " * 20 + "/image": b"x" * 1500,
    "study/Leber \u00e4": b"umlaut",
}
IN_ORDER = [b"umlaut", b"x" * 1500, b"ninth", b"tenth"]


@pytest.mark.parametrize(
    "pack",
    [
        zip_named,
        lambda files: zip_named(files, zipfile.ZIP_STORED),
        zip64,
        unseekable_zip,
        prepended,
        tar_named,
        lambda files: tar_named(files, "w:gz"),
        lambda files: tar_named(files, "w:bz2"),
        lambda files: tar_named(files, tar_format=tarfile.GNU_FORMAT),
    ],
    ids=["zip", "stored zip", "zip64", "zip with descriptors", "zip behind a program", "tar",
         "tar.gz", "tar.bz2", "GNU tar"],
)  # fmt: skip
def test_every_archive(pack: Callable[[dict[str, bytes]], bytes]) -> None:
    """Folders, long and foreign names, in the natural order of the names."""
    assert opened(pack(FILES)) == IN_ORDER


def test_old_tar() -> None:
    """An archive without a magic is known by its checksum."""
    assert opened(old_tar({"a/b2": b"two", "a/b10": b"ten"})) == [b"two", b"ten"]
    assert opened(gzip.compress(old_tar({"a": b"x"}))) == [b"x"]


def test_dicom_in_every_archive(clean_volume: Volume, options: DecodeOptions) -> None:
    """A study gives one volume as files, zip, tar and tar.gz, and in several of them at once."""
    files = {f"s/{index}": to_bytes(each) for index, each in enumerate(series(clean_volume[:6]))}
    some = list(files.items())
    ways = [
        list(files.values()),
        [zip_named(files)],
        [tar_named(files)],
        [tar_named(files, "w:gz")],
        [some[0][1], gzip.compress(some[1][1]), zip_named(dict(some[2:4])),
         tar_named(dict(some[4:]), "w:bz2")],
    ]  # fmt: skip
    for way in ways:
        assert np.array_equal(decode(way, options).volume.array, clean_volume.array[:6])


def test_compressed_files_inside(clean_volume: Volume, options: DecodeOptions) -> None:
    """A compressed file is opened wherever it lies."""
    data = nifti_bytes(clean_volume)
    for wrapped in (
        gzip.compress(data),
        bz2.compress(data),
        to_zip([gzip.compress(data)]),
        tar_named({"ct.nii.gz": gzip.compress(data)}),
        tar_named({"ct.nii.bz2": bz2.compress(data)}, "w:gz"),
        gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
    ):
        assert np.array_equal(decode([wrapped], options).volume.array, clean_volume.array)


@pytest.mark.parametrize(
    "archive",
    [
        to_zip([to_zip([b"x"])]),
        to_zip([tar_named({"a": b"x"})]),
        to_zip([tar_named({"a": b"x"}, "w:gz")]),
        tar_named({"a": to_zip([b"x"])}),
        tar_named({"a": tar_named({"a": b"x"})}),
        gzip.compress(to_zip([b"x"])),
        gzip.compress(gzip.compress(b"x")),
        to_zip([gzip.compress(bz2.compress(b"x"))]),
    ],
)
def test_archives_in_archives(archive: bytes) -> None:
    """An archive inside another is refused, in words."""
    with pytest.raises(UnsafeArchive, match="another archive"):
        opened(archive)


def test_programs_and_documents_are_no_archives() -> None:
    """A DICOM CD's Java viewer and Office letter are zips, and yet only files."""
    jar = zip_named({"META-INF/MANIFEST.MF": b"x"})
    letter = zip_named({"[Content_Types].xml": b"x"})
    assert opened(to_zip([jar, letter, b"slice"]), letter) == [jar, letter, b"slice", letter]


def test_natural_order() -> None:
    """Numbers inside names count as numbers, however long and whatever stands before them."""
    names = ["a2", "a10", "a010b", "b", "a", "2", "10", "a" + "9" * 5000, "a2/3", "a2/20"]
    expected = ["2", "10", "a", "a2", "a2/3", "a2/20", "a10", "a010b", "a" + "9" * 5000, "b"]
    assert sorted(names, key=natural_key) == expected


def test_empty_and_unknown(options: DecodeOptions) -> None:
    """Nothing, empty archives and a text have answers of their own."""
    nothing = ([], [b""], [to_zip([])], [to_zip([b""])], [tar_named({"a": b"", "b/c": b""})],
               [gzip.compress(b"")],
               [zip_named({"__MACOSX/._a": b"x", ".DS_Store": b"x"})])  # fmt: skip
    for files in nothing:
        with pytest.raises(EmptyInput):
            decode(files, options)
    with pytest.raises(UnknownFormat):
        decode([b"Dear colleague, please find enclosed"], options)


def test_archive_limits(clean_volume: Volume, options: DecodeOptions) -> None:
    """Files and decompressed bytes are counted over the whole request, on what really comes out."""
    archive = zip_of(ct_datasets(clean_volume[:5]))
    with pytest.raises(TooManyFiles):
        decode([archive], replace(options, archive=ArchiveLimits(4, 1 << 30)))
    with pytest.raises(ArchiveTooLarge):
        decode([archive], replace(options, archive=ArchiveLimits(10, 50_000)))
    with pytest.raises(ArchiveTooLarge):
        opened(*[bytes(4_000_000)] * 3, limits=ArchiveLimits(10, 10_000_000))


BOMB = bytes(20_000_000)


@pytest.mark.parametrize(
    "bomb",
    [
        gzip.compress(BOMB),
        bz2.compress(BOMB),
        to_zip([gzip.compress(BOMB)]),
        to_zip([BOMB]),
        tar_named({"a": BOMB}, "w:gz"),
        gzip.compress(tar_entry(size=1000) + TAR_END + BOMB),
        gzip.compress(tar_entry(kind=b"x", size=1 << 19) + BOMB),
        tar_named({"a": gzip.compress(BOMB)}),
    ],
    ids=["gzip", "bzip2", "gzip in zip", "zip", "tar.gz", "behind the end", "attributes",
         "gzip in tar"],
)  # fmt: skip
def test_bombs_end_early(bomb: bytes) -> None:
    """What would grow past the bound is refused, in memory of about the bound."""
    tracemalloc.start()
    try:
        with pytest.raises((ArchiveTooLarge, UnreadableFile)):
            opened(bomb, limits=ArchiveLimits(10, 1_000_000))
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_zip_that_lies_about_its_size(options: DecodeOptions) -> None:
    """A header that declares few bytes does not let many through."""
    data = bytearray(to_zip([BOMB]))
    honest = len(BOMB).to_bytes(4, "little")
    while (at := data.find(honest)) >= 0:
        data[at : at + 4] = (10).to_bytes(4, "little")
    with pytest.raises(UnreadableFile):
        opened(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(16, b"\0\0\0\1", id="checksum"),
        pytest.param(24, (2000).to_bytes(4, "little"), id="smaller"),
        pytest.param(24, (4000).to_bytes(4, "little"), id="larger"),
        pytest.param(24, (1 << 23).to_bytes(4, "little"), id="unreachable"),
        pytest.param(42, (1).to_bytes(4, "little"), id="no header there"),
    ],
)
def test_zip_directory_that_is_wrong(method: int, field: int, value: bytes) -> None:
    """Size, checksum and place of an entry are checked against its data."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a", bytes(range(250)) * 12)
    data = bytearray(buffer.getvalue())
    assert opened(bytes(data)) == [bytes(range(250)) * 12]
    at = data.index(b"PK\1\2") + field
    data[at : at + 4] = value
    with pytest.raises((UnreadableFile, UnsafeArchive)):
        opened(bytes(data))


def test_deflated_entry_of_no_bytes() -> None:
    """Some programs write an empty file as deflated, with nothing in it."""
    data = bytearray(to_zip([b"", b"x"]))
    data[data.index(b"PK\1\2") + 10] = zipfile.ZIP_DEFLATED
    assert opened(bytes(data)) == [b"x"]


@pytest.mark.parametrize(
    "archive",
    [
        many_directories(1_000_000),
        many_directories(401),
        gzip.compress(tar_entry("d/", kind=b"5") * 20_000, compresslevel=1),
        tar_entry("__MACOSX/._a") * 401 + TAR_END,
        to_zip([b""] * 101),
        tar_entry() * 101 + TAR_END,
    ],
    ids=["a million folders", "folders", "folders of a tar", "clutter", "empty files",
         "empty files of a tar"],
)  # fmt: skip
def test_too_many_entries(archive: bytes) -> None:
    """Folders, clutter and empty files are counted too, before they cost much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(TooManyFiles):
            opened(archive)
        assert tracemalloc.get_traced_memory()[1] < len(archive) + 4_000_000
    finally:
        tracemalloc.stop()


def repeated_entry() -> bytes:
    """A zip whose directory names one entry's data twice."""
    data = to_zip([b"\0" * 100_000])
    directory, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry = data[directory:end]
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, 2 * len(entry), directory, 0)
    return data[:directory] + entry * 2 + tail


@pytest.mark.parametrize("archive", [quoted_overlap(), repeated_entry()])
def test_entries_that_share_data(archive: bytes) -> None:
    """Overlapping entries, by which a zip of kilobytes holds terabytes, are refused."""
    with pytest.raises(UnsafeArchive, match="shared"):
        opened(archive)


@pytest.mark.parametrize(
    "archive",
    [with_flag(0x1), with_flag(0x1, 99), with_flag(0x41), with_flag(0x2041)],
    ids=["ZipCrypto", "AES", "strong encryption", "hidden names"],
)
def test_encrypted_zip(archive: bytes) -> None:
    """However it is encrypted, it is refused as that."""
    with pytest.raises(UnsafeArchive, match="encryption"):
        opened(archive)


@pytest.mark.parametrize("method", [9, 12, 14, 93, 95, 98])
def test_other_compression_methods(method: int) -> None:
    """Deflate64, bzip2, LZMA, Zstandard, XZ and PPMd are refused by number."""
    with pytest.raises(UnsafeArchive, match=f"method {method}"):
        opened(with_flag(0, method))


@pytest.mark.parametrize("name", ["../slice.dcm", "/etc/slice", "a/../../b", "..\\b", "C:/b"])
@pytest.mark.parametrize("pack", [zip_named, tar_named])
def test_names_that_leave_the_archive(pack: Callable[[dict[str, bytes]], bytes], name: str) -> None:
    """Nothing is ever written, yet such an archive is refused."""
    with pytest.raises(UnsafeArchive, match="outside"):
        opened(pack({"slice": b"x", name: b"x"}))


def test_links_and_devices_are_left_out() -> None:
    """Hard and symbolic links, devices and FIFOs are no files; nothing follows them."""
    kinds = {b"1": "hard", b"2": "symbolic", b"3": "c", b"4": "b", b"6": "fifo"}
    archive = b"".join(tar_entry(name, kind=kind) for kind, name in kinds.items())
    archive += tar_entry(size=3) + b"abc".ljust(512, b"\0") + TAR_END
    assert opened(archive) == [b"abc"]
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr(link, "/etc/passwd")
        packed.writestr("slice", b"abc")
    assert opened(buffer.getvalue()) == [b"abc"]


def test_two_entries_of_one_name() -> None:
    """They are two files; whether their images go together is for the images to show."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"first")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", b"second")
    assert opened(buffer.getvalue()) == [b"first", b"second"]


NEGATIVE = b"\xff" * 12
TERABYTES = b"\x80" + (10**13).to_bytes(11, "big")


@pytest.mark.parametrize(
    ("archive", "error"),
    [
        (tar_entry(size=TERABYTES) + TAR_END, UnreadableFile),
        (tar_entry(kind=b"5", size=TERABYTES) * 3, UnreadableFile),
        (tar_entry(kind=b"9", size=TERABYTES) + TAR_END, UnreadableFile),
        (tar_entry(size=NEGATIVE) + TAR_END, UnreadableFile),
        (tar_entry(size=b"12 34567890\0") + TAR_END, UnreadableFile),
        (tar_entry(kind=b"L", size=TERABYTES) + TAR_END, UnsafeArchive),
        (tar_entry(kind=b"L", size=100), UnreadableFile),
        (tar_entry(kind=b"L") * 50 + TAR_END, UnreadableFile),
        (tar_entry(kind=b"S") + TAR_END, UnsafeArchive),
        (tar_entry(kind=b"M") + TAR_END, UnsafeArchive),
        (tar_entry(), UnreadableFile),
        (tar_entry()[:512] + b"rubbish" * 100, UnreadableFile),
    ],
)
def test_bad_tar(archive: bytes, error: type[BadRequest]) -> None:
    """Sizes that lie, sparse files, endless names, a cut and rubbish are refused by name."""
    with pytest.raises(error):
        opened(archive)


@pytest.mark.parametrize(
    "record",
    [b"0 path=a\n", b"-5 path=a\n", b"9999 path=a\n", b"5 a\n", b"path=a", b"\0" * 20,
     b"25 GNU.sparse.realsize=1\n", b"9 size=x\n"],
)  # fmt: skip
def test_bad_tar_attributes(record: bytes) -> None:
    """Extended attributes that are not what POSIX says are refused."""
    block = tar_entry(kind=b"x", size=len(record)) + record.ljust(512, b"\0")
    with pytest.raises(BadRequest):
        opened(block + tar_entry() + TAR_END)


def test_tar_attributes_are_used() -> None:
    """The name and the size of extended attributes replace those of the header."""
    records = b"15 path=../out\n"
    block = tar_entry(kind=b"x", size=len(records)) + records.ljust(512, b"\0")
    with pytest.raises(UnsafeArchive, match="outside"):
        opened(block + tar_entry() + TAR_END)
    block = tar_entry(kind=b"x", size=9) + b"9 size=3\n".ljust(512, b"\0")
    assert opened(block + tar_entry() + b"abc".ljust(512, b"\0") + TAR_END) == [b"abc"]


def test_damaged_archives(clean_volume: Volume) -> None:
    """An archive cut anywhere, or changed in its data, is refused."""
    slices = {str(index): to_bytes(each) for index, each in enumerate(series(clean_volume[:2]))}
    for pack in (zip_named, tar_named, lambda files: tar_named(files, "w:gz"),
                 lambda files: tar_named(files, "w:bz2"), lambda files: gzip.compress(files["0"]),
                 lambda files: bz2.compress(files["0"])):  # fmt: skip
        whole = pack(slices)
        for cut in (5, 50, 90, 99):
            if pack is tar_named and cut > 50:
                continue  # only blocks of zeros are missing
            with pytest.raises(BadRequest):
                decode_kinds(whole[: len(whole) * cut // 100])
        changed = bytearray(whole)
        changed[len(whole) // 3] ^= 0xFF
        if pack is not tar_named:  # whose data have no checksum
            with pytest.raises(UnreadableFile):
                opened(bytes(changed))


def decode_kinds(data: bytes) -> list[str]:
    """Kinds of what is inside; refuses what is of no kind, as the whole decoder does."""
    kinds = [kind for kind, _ in expand([data], LIMITS)]
    if "unknown" in kinds:
        raise UnknownFormat("no image")
    return kinds


def test_files_are_not_copied() -> None:
    """A file that is no archive is handed on as it is."""
    data = picture(GREY)
    assert opened(data)[0] is data
