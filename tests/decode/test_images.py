"""PNG, JPEG, TIFF and BMP: every kind of grey, stacks, and what is refused."""

import io
import struct
import zlib
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
from dicom_files import series, to_bytes
from highdicom import Volume
from PIL import Image
from plain_files import GREY, picture, tar_named, tiff, zip_named

from service.decode import decode
from service.decode.archive import ArchiveLimits
from service.decode.options import DecodeOptions
from service.errors import (
    BadRequest,
    ColorImage,
    ImageTooSmall,
    InconsistentSeries,
    InvalidParameter,
    TooManyFiles,
    TooManyVoxels,
    UnreadableFile,
    UnsupportedPixels,
)
from service.volume import HounsfieldWindow

GREY_HU = np.rint(GREY * (200 / 255) - 40)
"""`GREY` in the window of the options' model."""

GREY_16 = GREY.astype(np.uint16) * 257
HU = GREY.astype(np.int16) * 4 - 500

PER_STEP = HounsfieldWindow(lower_hu=-1024, upper_hu=65535 - 1024)
"""A Hounsfield unit for every step of a 16-bit image, 0 being -1024 HU."""


@pytest.fixture
def stepped(options: DecodeOptions) -> DecodeOptions:
    return replace(options, image_window=PER_STEP)


def notices(data: bytes, options: DecodeOptions) -> list[str]:
    return [notice.code for notice in decode([data], options).notices]


def test_grey_takes_the_model_window(options: DecodeOptions) -> None:
    """Grey 0 and 255 are the window's ends, and the result warns that this was assumed."""
    scan = decode([picture(np.array([[0, 255], [51, 102]], np.uint8))], options)
    assert scan.volume.array.tolist() == [[[-40, 160], [0, 40]]]
    assert [notice.code for notice in scan.notices] == ["window_assumed", "spacing_unknown"]


def test_window_and_spacing_of_the_request(options: DecodeOptions) -> None:
    """With a window nothing is assumed; with a spacing areas are known, volumes are not."""
    asked = replace(
        options,
        image_window=HounsfieldWindow(lower_hu=-100, upper_hu=155),
        pixel_spacing_mm=0.7,
    )
    scan = decode([picture(np.array([[0, 255], [1, 2]], np.uint8))], asked)
    assert scan.volume.array.tolist() == [[[-100, 155], [-99, -98]]]
    assert [notice.code for notice in scan.notices] == ["thickness_unknown"]
    assert scan.source.pixel_spacing_mm == (0.7, 0.7)


def with_palette(image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    backwards = Image.fromarray(255 - GREY)
    backwards.putpalette([grey for grey in range(255, -1, -1) for _ in range(3)])
    backwards.save(buffer, image_format, **options)
    return buffer.getvalue()


def turned_jpeg() -> bytes:
    """A JPEG whose EXIF asks for a turn by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return picture(GREY, "JPEG", quality=95, exif=exif)


def cmyk_jpeg() -> bytes:
    buffer = io.BytesIO()
    nothing = np.zeros_like(GREY)
    Image.fromarray(np.dstack([nothing] * 3 + [255 - GREY]), "CMYK").save(
        buffer, "JPEG", quality=95
    )
    return buffer.getvalue()


RGB = np.stack([GREY] * 3, axis=-1)
RGBA = np.dstack([RGB, np.tile(np.arange(60, dtype=np.uint8), (40, 1))])


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        (picture(GREY), 0),
        (picture(GREY, optimize=True), 0),
        (picture(RGB), 0),
        (picture(RGBA), 0),
        (picture(RGBA[..., 2:]), 0),
        (with_palette("PNG"), 0),
        (with_palette("PNG", transparency=b"\0\x80" * 20), 0),
        (picture(GREY, "BMP"), 0),
        (picture(RGB, "BMP"), 0),
        (with_palette("BMP"), 0),
        (tiff([GREY]), 0),
        (tiff([GREY], order=">"), 0),
        (tiff([GREY], big=True), 0),
        (tiff([255 - GREY], white_is_zero=True), 0),
        (picture(GREY, "TIFF", compression="tiff_lzw"), 0),
        (picture(GREY, "TIFF", compression="tiff_adobe_deflate"), 0),
        (picture(GREY, "TIFF", compression="packbits"), 0),
        (picture(RGB, "TIFF"), 0),
        (picture(RGBA, "TIFF"), 0),
        (with_palette("TIFF"), 0),
        (picture(GREY, "TIFF", compression="jpeg", quality=95), 3),
        (picture(GREY, "JPEG", quality=95), 3),
        (picture(GREY, "JPEG", quality=95, progressive=True), 3),
        (picture(RGB, "JPEG", quality=95), 3),
        (cmyk_jpeg(), 3),
        (turned_jpeg(), 3),
    ],
)
def test_grey_in_every_wrapping(data: bytes, tolerance: int, options: DecodeOptions) -> None:
    """Grey is grey, also as colour, palette or with transparency, which is not looked at.

    The tolerance is the loss of JPEG, in HU.
    """
    found = decode([data], options).volume.array[0]
    assert np.abs(found - GREY_HU).max() <= tolerance


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF"])
def test_one_bit(image_format: str, options: DecodeOptions) -> None:
    """Black and white are the window's ends."""
    data = picture(GREY > 100, image_format)
    assert np.array_equal(decode([data], options).volume.array[0], np.where(GREY > 100, 160, -40))


def interlaced_png() -> bytes:
    """2 x 2 pixels of 16 bits in the seven passes of Adam7: 1, 0, 0, 0, 0, 1 and 2 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    passes = b"".join(
        b"\0" + struct.pack(f">{len(row)}H", *row) for row in ([0], [1000], [1, 2000])
    )
    head = struct.pack(">2I5B", 2, 2, 16, 0, 0, 0, 1)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(passes))
            + chunk(b"IEND", b""))  # fmt: skip


def test_interlaced(stepped: DecodeOptions) -> None:
    """Interlacing changes nothing."""
    found = decode([interlaced_png()], stepped).volume.array
    assert found.tolist() == [[[-1024, -24], [-1023, 976]]]


COLORED_16 = np.stack([GREY_16] * 3, axis=-1)


@pytest.mark.parametrize(
    "data",
    [
        picture(GREY_16),
        imagecodecs.png_encode(np.stack([GREY_16] * 2, axis=-1)),
        imagecodecs.png_encode(COLORED_16),
        imagecodecs.png_encode(np.stack([GREY_16] * 4, axis=-1)),
        tiff([GREY_16]),
        tiff([GREY_16], order=">"),
        tiff([65535 - GREY_16], white_is_zero=True),
        picture(GREY_16, "TIFF", compression="tiff_lzw"),
    ],
    ids=["PNG", "PNG with alpha", "colour PNG", "RGBA PNG", "TIFF", "big-endian TIFF",
         "white is zero", "LZW"],
)  # fmt: skip
def test_sixteen_bits(data: bytes, options: DecodeOptions, stepped: DecodeOptions) -> None:
    """Their full scale stands for the request's window; without one they are refused in words."""
    expected = np.clip(GREY_16.astype(int) - 1024, -1024, 32767)
    assert np.array_equal(decode([data], stepped).volume.array[0], expected)
    assert notices(data, stepped) == ["spacing_unknown"]
    with pytest.raises(UnsupportedPixels, match="window_lower_hu and window_upper_hu"):
        decode([data], options)
    narrow = replace(options, image_window=HounsfieldWindow(lower_hu=-40, upper_hu=160))
    assert np.array_equal(decode([data], narrow).volume.array[0], GREY_HU)


@pytest.mark.parametrize(
    "values", [HU, HU.astype(np.int32), HU.astype(np.float32), HU.astype(np.float32) + 0.3]
)
def test_tiff_of_hounsfield_units(
    values: np.ndarray, options: DecodeOptions, stepped: DecodeOptions
) -> None:
    """Signed and floating-point values are Hounsfield units as they are, and take no window."""
    for order in "<>":
        data = tiff([values, values], order=order)
        assert np.array_equal(decode([data], options).volume.array, [HU, HU])
        assert notices(data, options) == ["spacing_unknown"]
    with pytest.raises(InvalidParameter):
        decode([data], stepped)
    assert "hu_range_unusual" in notices(tiff([values + 1000]), options)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.where(HU.max() == HU, np.nan, HU).astype(np.float32), "finite"),
        (np.linspace(0, 1, HU.size, dtype=np.float32).reshape(HU.shape), "Hounsfield units"),
        (HU.astype(np.float32) * 1e5, "Hounsfield units"),
        (GREY.astype(np.int8), "8 or 16 bits"),
        (GREY.astype(np.uint32), "8 or 16 bits"),
    ],
)
def test_bad_values_of_a_tiff(values: np.ndarray, message: str, options: DecodeOptions) -> None:
    """What is no number, or cannot be a Hounsfield unit, is refused."""
    with pytest.raises(UnsupportedPixels, match=message):
        decode([tiff([values])], options)


STACK = [np.roll(GREY, 5 * index, axis=1) for index in range(12)]


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "JPEG"])
def test_stack(image_format: str, options: DecodeOptions) -> None:
    """Several images are slices in the order of the form, of unknown distance."""
    scan = decode([picture(page, image_format) for page in STACK], options)
    expected = np.rint(np.array(STACK) * (200 / 255) - 40)
    assert np.abs(scan.volume.array - expected).max() <= (12 if image_format == "JPEG" else 0)
    assert scan.source.format == image_format.lower()
    assert scan.source.slice_spacing_mm is scan.source.pixel_spacing_mm is None
    spaced = decode([picture(page) for page in STACK], replace(options, pixel_spacing_mm=0.7))
    assert spaced.source.pixel_spacing_mm == (0.7, 0.7)
    assert spaced.source.voxel_volume_mm3 is None
    assert [notice.code for notice in spaced.notices] == ["window_assumed", "thickness_unknown"]


def test_stack_of_an_archive(options: DecodeOptions) -> None:
    """Its images come in the natural order of their names: slice2 before slice10."""
    named = {f"study/slice{index}.png": picture(page) for index, page in enumerate(STACK)}
    shuffled = {name: named[name] for name in sorted(named)}
    assert list(shuffled) != list(named)
    expected = decode([picture(page) for page in STACK], options).volume.array
    for pack in (zip_named, tar_named):
        assert np.array_equal(decode([pack(shuffled)], options).volume.array, expected)


def test_pages_of_a_tiff(options: DecodeOptions) -> None:
    """A TIFF's pages are a stack; those of several files follow each other."""
    expected = decode([picture(page) for page in STACK], options).volume.array
    for files in ([tiff(STACK)], [tiff(STACK[:5]), tiff(STACK[5:], big=True)]):
        assert np.array_equal(decode(files, options).volume.array, expected)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([picture(GREY), picture(GREY), picture(GREY[1:])], "image 3 with 60 x 39 pixels"),
        ([tiff([GREY, GREY[:, 2:]])], "image 2 with 58 x 40 pixels"),
        ([tiff([GREY]), tiff([HU])], "image 2 .* Hounsfield units after"),
        ([picture(GREY), picture(GREY, "BMP")], "1 PNG, 1 BMP"),
        ([picture(GREY), picture(GREY, "JPEG"), picture(GREY, "JPEG")], "1 PNG, 2 JPEG"),
    ],
)
def test_images_that_are_no_stack(files: list[bytes], message: str, options: DecodeOptions) -> None:
    """Another size, depth or format is refused, naming the image."""
    with pytest.raises(InconsistentSeries, match=message):
        decode(files, options)


def test_sixteen_bits_after_eight(stepped: DecodeOptions) -> None:
    """Grey of one depth only: the window would mean two things."""
    with pytest.raises(InconsistentSeries, match=r"image 2 .* grey 0 to 65535"):
        decode([picture(GREY), picture(GREY_16)], stepped)


def huge_png(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def looped_tiff() -> bytes:
    """A TIFF whose second directory names the first as the next."""
    data = bytearray(tiff([GREY, GREY]))
    first = struct.unpack_from("<I", data, 4)[0]
    data[-4:] = struct.pack("<I", first)
    return bytes(data)


def test_directories_in_a_circle(options: DecodeOptions) -> None:
    """A TIFF whose pages lead back to the first ends there."""
    assert decode([looped_tiff()], options).volume.spatial_shape == (2, 40, 60)


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = picture(GREY, "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


COLOR = np.zeros((8, 8, 3), np.uint8)
COLOR[2:4, :, 0] = 200


def edited(data: bytes, find: bytes, replacement: bytes) -> bytes:
    assert find in data
    return data.replace(find, replacement, 1)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (picture(COLOR), ColorImage),
        (picture(COLOR, "JPEG"), ColorImage),
        (picture(COLOR, "TIFF"), ColorImage),
        (picture(COLOR, "BMP"), ColorImage),
        (imagecodecs.png_encode(COLOR.astype(np.uint16) * 257), ColorImage),
        (imagecodecs.jpeg8_encode(GREY_16 >> 4, bitspersample=12), UnsupportedPixels),
        (imagecodecs.ljpeg_encode(GREY_16), UnsupportedPixels),
        (many_scans(1000), UnsupportedPixels),
        (picture(GREY[:1, :1]), ImageTooSmall),
        (picture(GREY[:1]), ImageTooSmall),
        (tiff([GREY[:1, :1]]), ImageTooSmall),
        (huge_png(4097), TooManyVoxels),
        (huge_png(30_000), TooManyVoxels),
        (edited(picture(GREY, "TIFF"), struct.pack("<HHII", 256, 4, 1, 60),
                struct.pack("<HHII", 256, 4, 1, 2**31)), TooManyVoxels),
        (edited(picture(GREY, "BMP"), struct.pack("<ii", 60, 40), struct.pack("<ii", 9**9, 9**9)),
         TooManyVoxels),
        (picture(GREY)[:60], UnreadableFile),
        (picture(GREY)[:-40], UnreadableFile),
        (picture(GREY_16)[:-40], UnreadableFile),
        (picture(GREY, "JPEG")[:-100], UnreadableFile),
        (picture(GREY, "JPEG")[:20], UnreadableFile),
        (picture(GREY, "BMP")[:-100], UnreadableFile),
        (tiff([GREY])[:40], UnreadableFile),
        (edited(tiff([GREY]), struct.pack("<HHII", 262, 4, 1, 1),
                struct.pack("<HHII", 261, 4, 1, 1)), UnreadableFile),
        (tiff([GREY])[:4], UnreadableFile),
        (tiff([GREY], big=True, order=">"), UnreadableFile),  # Pillow does not know it
        (picture(GREY, "TIFF", compression="tiff_lzw")[:300], UnreadableFile),
        (b"\xff\xd8\xff" + b"\xff" * 1000, UnreadableFile),
    ],
)  # fmt: skip
def test_bad_images(data: bytes, error: type[BadRequest], options: DecodeOptions) -> None:
    """Colour, odd depths, bombs, lines and damage are refused by name."""
    with pytest.raises(error):
        decode([data], options)


def test_bounds(options: DecodeOptions) -> None:
    """Pixels and pages are counted over the whole stack, before they are decoded."""
    for files in ([picture(page) for page in STACK], [tiff(STACK)]):
        with pytest.raises(TooManyVoxels):
            decode(files, replace(options, max_voxels=GREY.size * 12 - 1))
    with pytest.raises(TooManyFiles, match="11 pages"):
        decode([tiff(STACK)], replace(options, archive=ArchiveLimits(11, 1 << 30)))


def test_a_dicom_series_wins(clean_volume: Volume, options: DecodeOptions) -> None:
    """Pictures beside a DICOM series are left out, with a notice."""
    files = [to_bytes(each) for each in series(clean_volume[:3])]
    scan = decode([picture(GREY), *files, tiff([GREY])], options)
    assert scan.source.format == "dicom"
    assert "2 file(s)" in next(n.message for n in scan.notices if n.code == "objects_left_out")
