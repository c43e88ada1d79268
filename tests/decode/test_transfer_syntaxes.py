"""Real CT slices come back the same from every transfer syntax, and damage is refused by name."""

import io
import resource
from contextlib import suppress

import imagecodecs
import numpy as np
import pytest
from dicom_files import series, to_bytes
from encoded_files import CODECS, NATIVE, set_frames, stored_values, written
from highdicom import Volume
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from service.decode import decode
from service.decode.options import DecodeOptions
from service.errors import UnreadableFile, UnsupportedPixels, UnsupportedTransferSyntax

LOSSLESS = [name for name, codec in CODECS.items() if not codec.off_by]


@pytest.fixture(scope="module")
def real_hu() -> np.ndarray:
    """A real CT slice in HU, int16 [128, 128]."""
    return dcmread(get_testdata_file("CT_small.dcm")).pixel_array.astype(np.int16) - 1024


@pytest.fixture
def slices(real_hu: np.ndarray) -> list[Dataset]:
    """Three slices of real values, 5 mm apart, BitsStored 16 and unsigned."""
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    affine[2, 0], affine[1, 1], affine[0, 2] = 5, 0.7, 0.7
    stack = np.stack([real_hu, real_hu[::-1], real_hu[:, ::-1]])
    return series(Volume(stack, affine, "PATIENT"))


def hu_of(datasets: list[Dataset], options: DecodeOptions) -> np.ndarray:
    return np.asarray(decode([written(item) for item in datasets], options).volume.array)


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: syntax.name)
def test_uncompressed(
    slices: list[Dataset], options: DecodeOptions, real_hu: np.ndarray, syntax: UID
) -> None:
    """Every byte order, implicit, explicit and deflated, holds the same values."""
    for dataset in slices:
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = stored_values(dataset).astype(">u2").tobytes()
    assert np.array_equal(hu_of(slices, options)[0], real_hu)


@pytest.mark.parametrize("name", CODECS)
def test_compressed(
    slices: list[Dataset], options: DecodeOptions, real_hu: np.ndarray, name: str
) -> None:
    """Lossless syntaxes give the values exactly, lossy ones within their bound."""
    codec = CODECS[name]
    for dataset in slices:
        set_frames(dataset, codec.syntax, [codec.encode(stored_values(dataset))])
    found = hu_of(slices, options)
    expected = np.stack([real_hu, real_hu[::-1], real_hu[:, ::-1]])
    assert np.abs(found.astype(int) - expected).max() <= codec.off_by


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("bits", [12, 16])
def test_signed_values(
    slices: list[Dataset], options: DecodeOptions, real_hu: np.ndarray, name: str, bits: int
) -> None:
    """Signed values of 12 or 16 bits, which most codecs know only as patterns of bits."""
    for dataset in slices:
        signed = np.clip(stored_values(dataset).astype(int) - 1024, -2048, 2047)
        pattern = (signed & ((1 << bits) - 1)).astype("<u2")
        dataset.PixelRepresentation, dataset.RescaleIntercept = 1, 0
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        set_frames(dataset, CODECS[name].syntax, [CODECS[name].encode(pattern)])
    assert np.array_equal(hu_of(slices, options)[0], real_hu)


def test_jpeg_2000_that_knows_its_sign(
    slices: list[Dataset], options: DecodeOptions, real_hu: np.ndarray
) -> None:
    """A signed codestream is read right, whether the header says signed or wrongly unsigned."""
    for representation in (1, 0):
        for dataset in slices:
            signed = real_hu.astype(np.int16) if representation else real_hu + 1024
            data = imagecodecs.jpeg2k_encode(
                signed.astype(np.int16), level=0, codecformat="j2k", bitspersample=13
            )
            dataset.PixelRepresentation = representation
            dataset.RescaleIntercept = 0 if representation else -1024
            dataset.BitsStored, dataset.HighBit = 13, 12
            set_frames(dataset, JPEG2000Lossless, [data])
        assert np.array_equal(hu_of(slices, options)[0], real_hu)


@pytest.mark.parametrize("name", ["693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "CT_small.dcm"])
def test_real_files(options: DecodeOptions, name: str) -> None:
    """Real CT slices, one of them with a codestream whose sign is not the header's, as pydicom."""
    path = get_testdata_file(name)
    dataset = dcmread(path)
    expected = dataset.pixel_array.astype(float) * float(dataset.RescaleSlope) + float(
        dataset.RescaleIntercept
    )
    if "PixelPaddingValue" in dataset:
        expected[dataset.pixel_array == dataset.PixelPaddingValue] = -1024
    with open(path, "rb") as file:  # noqa: PTH123  # get_testdata_file gives text
        scan = decode([file.read()], options)
    assert np.array_equal(scan.volume.array[0], np.clip(np.rint(expected), -1024, 32767))


@pytest.mark.parametrize(
    ("name", "syntax"),
    [("JPGExtended.dcm", JPEGExtended12Bit), ("JPEG-lossy.dcm", JPEGExtended12Bit)],
)
def test_extended_jpeg_of_another_encoder(
    clean_volume: Volume, options: DecodeOptions, name: str, syntax: UID
) -> None:
    """12-bit JPEG of a real scanner, padded behind its end; imagecodecs itself is the reference."""
    source = dcmread(get_testdata_file(name))
    frame = next(generate_frames(source.PixelData, number_of_frames=1))
    (dataset,) = series(clean_volume[:1])
    dataset.Rows, dataset.Columns = source.Rows, source.Columns
    dataset.BitsStored, dataset.HighBit = 12, 11
    set_frames(dataset, syntax, [frame])
    found = hu_of([dataset], options)
    assert np.array_equal(found[0], imagecodecs.jpeg8_decode(frame).astype(int) - 1024)


def test_baseline_jpeg(slices: list[Dataset], options: DecodeOptions, real_hu: np.ndarray) -> None:
    """8-bit JPEG with a slope, within a twentieth of its range."""
    for dataset in slices:
        eight = np.clip((stored_values(dataset) // 16), 0, 255).astype(np.uint8)
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.RescaleSlope = 7, 16
        set_frames(dataset, JPEGBaseline8Bit, [imagecodecs.jpeg8_encode(eight, level=98)])
    assert np.abs(hu_of(slices, options)[0].astype(int) - real_hu).max() <= 4096 // 20


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("table", [True, False])
def test_fragments_and_offset_tables(
    slices: list[Dataset],
    options: DecodeOptions,
    real_hu: np.ndarray,
    fragments: int,
    table: bool,
) -> None:
    """A frame in several fragments, with and without an offset table, padded to an even length."""
    for dataset in slices:
        data = imagecodecs.jpegls_encode(stored_values(dataset))
        how = {"fragments_per_frame": fragments, "has_bot": table}
        set_frames(dataset, JPEGLSLossless, [data + bytes(1 + len(data) % 2)], **how)
    assert np.array_equal(hu_of(slices, options)[0], real_hu)


def test_a_wrong_offset_table_of_one_frame(
    slices: list[Dataset], options: DecodeOptions, real_hu: np.ndarray
) -> None:
    """The only frame is all there is, whatever the table says."""
    for dataset in slices:
        set_frames(dataset, JPEGLSLossless, [imagecodecs.jpegls_encode(stored_values(dataset))])
        wrong = (4096).to_bytes(4, "little")
        dataset.PixelData = dataset.PixelData[:8] + wrong + dataset.PixelData[12:]
    assert np.array_equal(hu_of(slices, options)[0], real_hu)


def test_jpeg_2000_in_a_jp2_file(
    slices: list[Dataset], options: DecodeOptions, real_hu: np.ndarray
) -> None:
    """Some senders wrap the codestream in a JP2 file, and name another JPEG syntax."""
    for dataset in slices:
        data = imagecodecs.jpeg2k_encode(
            stored_values(dataset), level=0, codecformat="jp2", bitspersample=16
        )
        set_frames(dataset, JPEGLosslessSV1, [data])
    assert np.array_equal(hu_of(slices, options)[0], real_hu)


def claims(data: bytes, rows: int, columns: int) -> bytes:
    """A codestream whose header says another size than its data hold."""
    changed = bytearray(data)
    if data.startswith(b"\xff\x4f"):
        changed[8:16] = columns.to_bytes(4, "big") + rows.to_bytes(4, "big")
        return bytes(changed)
    for marker in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xf7"):
        if (at := data.find(marker, 0, 1000)) >= 0:
            changed[at + 5 : at + 9] = rows.to_bytes(2, "big") + columns.to_bytes(2, "big")
            return bytes(changed)
    raise AssertionError("no frame header")


@pytest.mark.parametrize("name", ["JPEG lossless", "JPEG-LS", "JPEG 2000", "HTJ2K lossless"])
def test_a_bomb_inside_a_frame(slices: list[Dataset], options: DecodeOptions, name: str) -> None:
    """60,000 x 60,000 pixels by the codestream are refused before they take any memory."""
    codec = CODECS[name]
    data = claims(codec.encode(stored_values(slices[1])), 60_000, 60_000)
    set_frames(slices[1], codec.syntax, [data])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableFile, match=r"128 x 128 .* 60000 x 60000 .* slice 2\."):
        hu_of(slices, options)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


@pytest.mark.parametrize("name", ["JPEG lossless", "JPEG-LS", "JPEG 2000", "HTJ2K", "RLE"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_frame_that_is_cut_off(
    slices: list[Dataset], options: DecodeOptions, name: str, share: float
) -> None:
    """Nothing is made up for what is missing; the slice is named."""
    data = CODECS[name].encode(stored_values(slices[1]))
    set_frames(slices[1], CODECS[name].syntax, [data[: 2 * int(share * len(data) / 2)]])
    with pytest.raises(UnreadableFile, match=r"slice 2\."):
        hu_of(slices, options)


def test_noise_instead_of_a_frame(slices: list[Dataset], options: DecodeOptions) -> None:
    """Bytes that are no codestream at all: the transfer syntax is not what it says."""
    noise = np.random.default_rng(0).bytes(5000)
    set_frames(slices[1], JPEG2000Lossless, [noise])
    with pytest.raises(UnsupportedTransferSyntax, match="JPEG 2000"):
        hu_of(slices, options)


@pytest.mark.parametrize("name", ["JPEG-LS", "JPEG lossless", "JPEG 2000 lossless", "RLE"])
def test_flipped_bytes_never_crash(
    slices: list[Dataset], options: DecodeOptions, name: str
) -> None:
    """Damage anywhere in a frame gives values or a refusal, never another exception."""
    rng = np.random.default_rng(1)
    codec = CODECS[name]
    whole = codec.encode(stored_values(slices[0]))
    for _ in range(40):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(damaged), 4):
            damaged[at] = rng.integers(0, 256)
        set_frames(slices[0], codec.syntax, [bytes(damaged)])
        with suppress(UnreadableFile, UnsupportedTransferSyntax):
            assert hu_of(slices[:1], options).shape == (1, 128, 128)


def test_an_rle_bomb(slices: list[Dataset], options: DecodeOptions) -> None:
    """Runs that decode to more than the frame holds are refused, not collected."""
    run = b"\x81\x00" * 2_000_000
    header = np.array([2, 64, 64 + len(run), *[0] * 13], dtype="<u4").tobytes()
    set_frames(slices[1], RLELossless, [header + run + run])
    with pytest.raises(UnreadableFile, match=r"slice 2\."):
        hu_of(slices, options)


def test_colour_in_a_codestream(slices: list[Dataset], options: DecodeOptions) -> None:
    """Three components where the header promises one."""
    rgb = np.zeros((128, 128, 3), dtype=np.uint8)
    set_frames(slices[1], JPEGBaseline8Bit, [imagecodecs.jpeg8_encode(rgb)])
    with pytest.raises(UnreadableFile, match=r"one component, found 3 .* slice 2\."):
        hu_of(slices, options)


def test_a_private_transfer_syntax(slices: list[Dataset], options: DecodeOptions) -> None:
    """A syntax that is nobody's but the vendor's is named as such."""
    for dataset in slices:
        dataset.file_meta.TransferSyntaxUID = UID("1.2.3.4.5")
    with pytest.raises(UnsupportedTransferSyntax, match="a private one"):
        decode([to_bytes_of(item) for item in slices], options)


def to_bytes_of(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_floating_point_pixels(slices: list[Dataset], options: DecodeOptions, keyword: str) -> None:
    """Float pixel data belong to parametric maps; no CT image may hold them."""
    for dataset in slices:
        values = stored_values(dataset).astype("<f4" if keyword[0] == "F" else "<f8")
        del dataset.PixelData
        setattr(dataset, keyword, values.tobytes())
    with pytest.raises(UnsupportedPixels, match=f"found {keyword} in slice 1"):
        decode([to_bytes(item) for item in slices], options)


def test_only_the_chosen_series_is_decoded(
    slices: list[Dataset], clean_volume: Volume, options: DecodeOptions
) -> None:
    """Pixel data that nobody asked for may be as damaged as they like."""
    (other,) = series(clean_volume[:1], seed=5)
    set_frames(other, JPEG2000Lossless, [b"not a codestream"])
    scan = decode([written(item) for item in (other, *slices)], options)
    assert scan.volume.spatial_shape == (3, 128, 128)
    assert [notice.code for notice in scan.notices] == ["other_series"]
