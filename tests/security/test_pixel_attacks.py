"""Images whose headers promise more than the file holds, or than anybody can hold."""

import io
import itertools
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from dicom_files import series, zip_of
from highdicom import Volume
from multiframe_files import enhanced
from plain_files import GREY, picture
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)
from security.harness import (
    ITEM,
    ask,
    is_well,
    png,
    png_chunk,
    png_header,
    sequence,
    tiff_of,
)

CPU_S = 2.0
"""For what an honest file of the size takes milliseconds."""

BOMB = zlib.compress(bytes(50_000_000))
"""50 kB that make 50 MB."""

JPEG = picture(GREY, "JPEG")
FRAME_AT = JPEG.index(b"\xff\xc0")
FRAME = JPEG[FRAME_AT : FRAME_AT + 2 + int.from_bytes(JPEG[FRAME_AT + 2 : FRAME_AT + 4], "big")]
GIANT_FRAME = FRAME[:5] + b"\xff\xdc\xff\xdc" + FRAME[9:]


def bmp(at: int, code: str, *values: int) -> bytes:
    """A BMP with other values at one place of its header."""
    data = bytearray(picture(GREY, "BMP"))
    struct.pack_into(code, data, at, *values)
    return bytes(data)


def crowded_tiff(entries: int, pages: int, mark: bytes = b"II*\0", order: str = "<") -> bytes:
    """A TIFF whose pages have their directories one entry apart, and so share most of them."""
    tags = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 16, 279: 256}
    # Each cell starts with what is the count where a directory begins there, and else the end of
    # the value before it: SHORT has two bytes of four.
    cells = [
        struct.pack(order + "HHHIH", entries, tag, 3, 1, value)
        for tag, value in itertools.islice(itertools.cycle(tags.items()), entries + pages)
    ]
    start = 8 + 256
    head = mark + struct.pack(order + "I", start) + bytes(256)
    data = bytearray(head + b"".join(cells) + bytes(8))
    for page in range(pages):
        following = start + 12 * (page + 1) if page + 1 < pages else 0
        struct.pack_into(order + "I", data, start + 12 * (page + entries) + 2, following)
    return bytes(data)


IMAGES: dict[str, tuple[bytes, int, str]] = {
    "PNG of 3.6 gigapixels": (png(png_header(60_000, 60_000)), 413, "too_many_voxels"),
    "PNG of 2**62 pixels": (png(png_header(2**31 - 1, 2**31 - 1)), 413, "too_many_voxels"),
    "PNG of two sizes": (
        png(png_header(60_000, 60_000, 16), png_header(60, 40, 16)),
        422,
        "unreadable_file",
    ),
    "PNG of two sizes, the giant last": (
        png(png_header(60, 40), png_header(60_000, 60_000)),
        413,
        "too_many_voxels",
    ),
    "PNG with a text bomb": (
        png(png_header(60, 40), png_chunk(b"zTXt", b"k\0\0" + BOMB)),
        422,
        "unreadable_file",
    ),
    "PNG with a profile bomb": (
        png(png_header(60, 40), png_chunk(b"iCCP", b"k\0\0" + BOMB)),
        422,
        "unreadable_file",
    ),
    "PNG whose pixels never end": (
        png(png_header(60, 40), png_chunk(b"IDAT", BOMB)),
        200,
        "",
    ),
    "animated PNG of 2**31 frames": (
        png(png_header(60, 40), png_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
        200,
        "",
    ),
    "JPEG of 4.3 gigapixels": (JPEG.replace(FRAME, GIANT_FRAME), 413, "too_many_voxels"),
    "JPEG of two sizes": (JPEG.replace(FRAME, GIANT_FRAME + FRAME), 422, "unreadable_file"),
    "JPEG of two sizes, the giant last": (
        JPEG.replace(FRAME, FRAME + GIANT_FRAME),
        413,
        "too_many_voxels",
    ),
    "JPEG of a thousand scans": (JPEG[:-2] + b"\xff\xda\0\x02" * 1000, 422, "unsupported_pixels"),
    "TIFF of 3.6 gigapixels": (tiff_of({256: 60_000, 257: 60_000}), 413, "too_many_voxels"),
    "TIFF whose pages go round": (tiff_of({}, next_at=2408), 200, ""),
    "TIFF of honest pages": (crowded_tiff(9, 1), 200, ""),
    "TIFF of pages that share their tags": (crowded_tiff(5_000, 40), 422, "unsupported_pixels"),
    "the same, as big-endian BigTIFF": (
        crowded_tiff(5_000, 40, b"MM\0+", ">"),
        422,
        "unsupported_pixels",
    ),
    "TIFF of 2**31 samples": (tiff_of({277: 2**31 - 1}), 422, "unreadable_file"),
    "TIFF of endless strips": (tiff_of({278: 0}), 422, "unreadable_file"),
    "TIFF with a bomb in its strip": (tiff_of({259: 8}, BOMB), 200, ""),
    "BMP of 3.6 gigapixels": (bmp(18, "<ii", 60_000, 60_000), 413, "too_many_voxels"),
    "BMP of negative size": (bmp(18, "<ii", -60, -40), 413, "too_many_voxels"),
    "BMP whose pixels lie beyond": (bmp(10, "<I", 2**32 - 1), 422, "unreadable_file"),
    "BMP of 2**31 colours": (bmp(46, "<I", 2**31), 422, "unreadable_file"),
}


@pytest.mark.parametrize(("data", "status", "code"), IMAGES.values(), ids=IMAGES)
def test_images(port: int, data: bytes, status: int, code: str) -> None:
    """Refused by what is claimed, or read as far as the header's honest part goes."""
    started = time.process_time()
    answer = ask(port, "POST /v1/segment", b"Content-Type: image/png", body=data)
    assert (answer.status, answer.code) == (status, code)
    assert time.process_time() - started < CPU_S
    assert is_well(port)


def sized(rows: int, columns: int) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        dataset.Rows, dataset.Columns = rows, columns

    return change


def stated(**values: object) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


def compressed(syntax: str, frame: bytes, **values: object) -> Callable[[Dataset], None]:
    """A frame that claims another size than the header."""

    def change(dataset: Dataset) -> None:
        stated(**values)(dataset)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].VR = "OB"

    return change


JPEG2000_SIZE = b"\xff\x4f\xff\x51" + struct.pack(">HHIIIIIIIIH", 41, 0, 2**31, 2**31, 0, 0,
                                                  2**31, 2**31, 0, 0, 1) + b"\x0f\1\1"  # fmt: skip

DICOM: dict[str, tuple[Callable[[Dataset], None], int, str]] = {
    "65,535 x 65,535": (sized(65_535, 65_535), 413, "too_many_voxels"),
    "more rows than pixels": (sized(400, 400), 422, "unreadable_file"),
    "no rows": (sized(0, 64), 422, "unreadable_file"),
    "2**31 frames": (stated(NumberOfFrames=2**31 - 1), 422, "inconsistent_series"),
    "negative frames": (stated(NumberOfFrames=-1), 422, "inconsistent_series"),
    "32 bits claimed": (stated(BitsAllocated=32), 422, "unreadable_file"),
    "65,535 bits": (stated(BitsAllocated=65_535), 422, "unsupported_pixels"),
    "1 bit": (stated(BitsAllocated=1), 422, "unsupported_pixels"),
    "more bits stored than there are": (stated(BitsStored=40), 422, "unsupported_pixels"),
    "65,535 samples": (stated(SamplesPerPixel=65_535), 422, "unsupported_pixels"),
    "JPEG 2000 of 2**62 pixels": (
        compressed(JPEG2000Lossless, JPEG2000_SIZE + bytes(100) + b"\xff\xd9"),
        422,
        "unreadable_file",
    ),
    "JPEG of 4.3 gigapixels": (
        compressed(JPEGBaseline8Bit, JPEG.replace(FRAME, GIANT_FRAME), BitsAllocated=8),
        422,
        "unreadable_file",
    ),
    "RLE of 2**32 segments": (
        compressed(RLELossless, b"\xff" * 64 + bytes(64)),
        422,
        "unreadable_file",
    ),
}


@pytest.fixture(scope="module")
def slices(clean_volume: Volume) -> Callable[[], list[Dataset]]:
    return lambda: series(clean_volume[:3])


@pytest.mark.parametrize(("change", "status", "code"), DICOM.values(), ids=DICOM)
def test_dicom(
    port: int,
    slices: Callable[[], list[Dataset]],
    change: Callable[[Dataset], None],
    status: int,
    code: str,
) -> None:
    """A header that lies about its pixels costs nothing, and is refused for what it says."""
    made = slices()
    for dataset in made:
        change(dataset)
    started = time.process_time()
    answer = ask(port, "POST /v1/segment", b"Content-Type: application/zip", body=zip_of(made))
    assert (answer.status, answer.code) == (status, code)
    assert time.process_time() - started < CPU_S
    assert is_well(port)


def file_of(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def with_sequence(dataset: Dataset, content: bytes) -> bytes:
    """A file in which this stands before the patient's name."""
    data = file_of(dataset)
    at = data.index(b"\x10\x00\x10\x00PN")
    return data[:at] + content + data[at:]


HEADERS: dict[str, bytes] = {
    "300,000 items": sequence(0x09, 0x1001, ITEM * 300_000, open_ended=True),
    "300,000 elements": struct.pack("<HH2sH", 0x09, 0x1001, b"LO", 0) * 300_000,
    "sequences in sequences": b"".join(
        struct.pack("<HH2sHI", 0x09, 0x1001, b"SQ", 0, 2**32 - 1)
        + struct.pack("<HHI", 0xFFFE, 0xE000, 2**32 - 1)
        for _ in range(10_000)
    ),
    "an element of 4 GB": struct.pack("<HH2sHI", 0x09, 0x1001, b"UN", 0, 2**32 - 2),
    "a sequence of 4 GB": struct.pack("<HH2sHI", 0x09, 0x1001, b"SQ", 0, 2**32 - 2),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_dicom_headers(
    port: int, slices: Callable[[], list[Dataset]], content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elements and items are counted while they are read, however deep they lie."""
    monkeypatch.setattr("service.decode.headers._MOST_STEPS_PER_FILE", 20_000)
    data = with_sequence(slices()[0], content)
    started = time.process_time()
    answer = ask(port, "POST /v1/segment", b"Content-Type: application/dicom", body=data)
    assert (answer.status, answer.code) == (422, "unreadable_file")
    assert time.process_time() - started < CPU_S


def test_frames_that_are_none(
    port: int, clean_volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Functional groups of a known length are parsed later, and counted before."""
    monkeypatch.setattr("service.decode.headers._MOST_STEPS_PER_FILE", 20_000)
    data = file_of(enhanced(clean_volume[:3]))
    at = data.index(b"\x00\x52\x30\x92SQ")
    end = at + 12 + int.from_bytes(data[at + 8 : at + 12], "little")
    bomb = data[:at] + sequence(0x5200, 0x9230, ITEM * 300_000, open_ended=False) + data[end:]
    for body, status in ((data, 200), (bomb, 422)):
        started = time.process_time()
        answer = ask(port, "POST /v1/segment", b"Content-Type: application/dicom", body=body)
        assert answer.status == status
        assert time.process_time() - started < CPU_S


def test_elements_of_a_whole_request(
    port: int, slices: Callable[[], list[Dataset]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are each below their bound do not pass it together."""
    monkeypatch.setattr("service.decode.headers._MOST_STEPS", 250)
    body = zip_of(slices())
    answer = ask(port, "POST /v1/segment", b"Content-Type: application/zip", body=body)
    assert (answer.status, answer.code) == (422, "unreadable_file")


@pytest.mark.parametrize(("files", "status"), [(1, 200), (3, 413)])
def test_deflated_files_count_together(
    port: int, slices: Callable[[], list[Dataset]], files: int, status: int
) -> None:
    """Each of 3 deflated files is below the bound of bytes; together they are not."""
    made = slices()[:files]
    for dataset in made:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.PixelData = dataset.PixelData + bytes(1_200_000)
    body = zip_of(made)
    assert len(body) < 50_000
    answer = ask(port, "POST /v1/segment", b"Content-Type: application/zip", body=body)
    assert answer.status == status
    assert answer.code == ("" if status == 200 else "archive_too_large")


@pytest.mark.parametrize("kind", [np.int64, np.complex128, object])
def test_arrays_of_numpy(port: int, kind: type) -> None:
    """Files of NumPy are no images, whether they hold numbers or pickled objects."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([1, 2], dtype=kind), allow_pickle=True)
    answer = ask(port, "POST /v1/segment", b"Content-Type: image/png", body=buffer.getvalue())
    assert (answer.status, answer.code) == (415, "unknown_format")
