"""Damage for valid requests: blind, and with knowledge of each format's headers.

Everything follows from the random generator that is handed in, so a case is known by its number.
"""

import bz2
import gzip
import io
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence

import nibabel
from pydicom import dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from reliability.case import Case, Labels
from reliability.seeds import Files, zip_of
from service.decode.sniff import sniff
from service.inference.postprocess import Rules
from service.phantom_files import PHANTOM_NAME
from service.pipeline import Options
from service.volume import HounsfieldWindow

Mutator = Callable[[random.Random, bytes], bytes]

MOST_BYTES = 1 << 20
"""Of one mutated file: what is looked for are defects, not patience."""

_WIDTHS = (1, 2, 4, 8)

_VALUES = (
    b"", b"\0", b"0", b"1", b"-1", b"2", b"3", b"65535", b"65536", b"4294967296", b"-2147483648",
    b"1e308", b"-1e308", b"1e-308", b"nan", b"inf", b"1e999", b"0.0", b"1e-9", b"0.0001", b"1e9",
    b"1\\1", b"0\\0", b"1\\2\\3", b"0\\0\\0", b"1\\0\\0\\0\\1\\0", b"0\\1\\0\\0\\0\\-1",
    b"0\\0\\0\\0\\0\\0", b"nan\\nan\\nan", b"1e300\\1e300\\1e300", b"\\" * 40, b" " * 70,
    b"99999999", b"19501301", b"20200102-", b"0000", b"246060.999999", b"Y", b"001D", b"999Y",
    b"\0\0", b"\x01\0", b"\x02\0", b"\x08\0", b"\x0c\0", b"\x10\0", b"\x20\0", b"\xff\xff",
    b"\x07\0", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\xc0\x7f", b"\0\0\x80\x7f",
    b"CT", b"MR", b"ct ", b"MONOCHROME1", b"RGB", b"YBR_FULL_422", b"PALETTE COLOR",
    b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.5.1.4.1.1.2.1", b"1.2.840.10008.5.1.4.1.1.4",
    b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.5", b"1.2..3.",
    b"ISO_IR 192", b"ISO 2022 IR 87\\ISO 2022 IR 149", b"\x1b$B", b"\xff\xfe\x80\xc3\x28",
    PHANTOM_NAME.encode(), PHANTOM_NAME.encode() + b"=" * 8 + b"^" * 9, "Phantom^Ж".encode() * 30,
    b"ORIGINAL\\PRIMARY\\LOCALIZER", b"DERIVED\\SECONDARY", b"HU", b"US", b"\r\n\t\f",
)  # fmt: skip
"""What stands in header elements: numbers, codes and texts at and over every edge."""

_KEYWORDS = (
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate", "SeriesDate",
    "ContentDate", "AcquisitionDate", "StudyTime", "SeriesTime", "ContentTime", "AcquisitionTime",
    "AccessionNumber", "Modality", "ReferringPhysicianName", "StudyDescription", "PatientName",
    "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "SliceThickness", "StudyID",
    "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "AcquisitionNumber", "InstanceNumber",
    "ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "ConcatenationUID",
    "PositionReferenceIndicator", "TemporalPositionIdentifier", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "PixelSpacing",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope", "RescaleType", "PixelData",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "PlanarConfiguration",
)  # fmt: skip

_VRS = (b"UN", b"OB", b"OW", b"SQ", b"DS", b"IS", b"US", b"SS", b"UL", b"FD", b"LO", b"PN", b"UI",
        b"CS", b"DA", b"AT", b"UT", b"zz", b"\0\0")  # fmt: skip


def make_case(name: str, seeds: Mapping[str, Files], rng: random.Random) -> Case:
    """A request of this seed, damaged at one to four places, with options of any kind."""
    files = list(seeds[name])
    if len(files) > 1:
        files = _rearranged(rng, files, seeds)
    same = rng.random() < 0.3  # the same damage in all files is what a broken writer does
    steps = rng.choice((1, 1, 1, 2, 3, 4))
    if same:
        state = rng.random()
        files = [_damaged(random.Random(state), data, seeds, steps) for data in files]
    else:
        at = rng.randrange(len(files))
        files[at] = _damaged(rng, files[at], seeds, steps)
    if rng.random() < 0.1:
        files = [_packed(rng, files)]
    labels: Labels = rng.choice(("threshold", "threshold", "salt"))
    return Case(name, tuple(files), _options(rng), labels)


def _rearranged(rng: random.Random, files: list[bytes], seeds: Mapping[str, Files]) -> list[bytes]:
    """Some files missing, twice, in another order, or beside strangers."""
    match rng.randrange(8):
        case 0:
            del files[rng.randrange(len(files))]
        case 1:
            files.insert(0, rng.choice(files))
        case 2:
            rng.shuffle(files)
        case 3:
            files.append(rng.choice(seeds[rng.choice(sorted(seeds))]))
    return files


def _packed(rng: random.Random, files: Sequence[bytes]) -> bytes:
    names = [f"{PHANTOM_NAME}/{index}" for index in range(len(files))]
    if rng.random() < 0.5:
        return zip_of(dict(zip(names, files, strict=True)))
    return gzip.compress(files[0], 1, mtime=0)


def _options(rng: random.Random) -> Options:
    def maybe(share: float) -> bool:
        return rng.random() < share

    lower = rng.choice((-1024.0, -40.0, -65536.0, 0.0))
    return Options(
        image_window=HounsfieldWindow(lower_hu=lower, upper_hu=lower + rng.choice((1, 200, 65535)))
        if maybe(0.3)
        else None,
        pixel_spacing_mm=rng.choice((0.01, 0.7, 10.0)) if maybe(0.3) else None,
        series_instance_uid=rng.choice(("1.2.3", PHANTOM_NAME)) if maybe(0.03) else None,
        resample=maybe(0.4),
        rules=Rules(
            liver_fragments=maybe(0.7),
            distant_tumor=maybe(0.7),
            small_lesions=maybe(0.7),
            unlikely_lesions=maybe(0.7),
        ),
    )


def _damaged(rng: random.Random, data: bytes, seeds: Mapping[str, Files], steps: int) -> bytes:
    for _ in range(steps):
        known = BY_KIND.get(sniff(data))
        if known is not None and rng.random() < 0.65:
            data = rng.choice(known)(rng, data)
        elif rng.random() < 0.08:
            data = splice(rng, data, rng.choice(seeds[rng.choice(sorted(seeds))]))
        else:
            data = rng.choice(BLIND)(rng, data)
    return data[:MOST_BYTES]


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    """One to eight bits anywhere, or close to the start where headers are."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        end = rng.choice((len(data), min(len(data), 600)))
        changed[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_integer(rng: random.Random, data: bytes) -> bytes:
    """A number at the edges of its width, anywhere."""
    width = rng.choice(_WIDTHS)
    at = rng.randrange(max(1, len(data) - width))
    return data[:at] + _edge(rng, width) + data[at + width :]


def set_run(rng: random.Random, data: bytes) -> bytes:
    """A run of one byte, or of noise, over what stands there."""
    at, length = rng.randrange(len(data) + 1), rng.choice((1, 4, 16, 100, 2000))
    run = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return data[:at] + run + data[at + length :]


def truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def remove(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 2, 7, 64, 512)) :]


def repeat(rng: random.Random, data: bytes) -> bytes:
    """A piece once more, or many times."""
    at, length = rng.randrange(len(data) + 1), rng.choice((1, 8, 64, 512))
    return data[:at] + data[at : at + length] * rng.choice((2, 3, 50)) + data[at:]


def splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """The start of one file and the end of another."""
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def dicom_element(rng: random.Random, data: bytes) -> bytes:
    """An element set to another value, or taken out, in a file that is otherwise written well."""
    keyword = rng.choice(_KEYWORDS)
    tag = BaseTag(tag_for_keyword(keyword) or 0)
    try:
        dataset = dcmread(io.BytesIO(data), force=True)
        if rng.random() < 0.2:
            dataset.pop(tag, None)
        else:
            value = rng.choice(_VALUES)
            vr = dictionary_VR(tag).split(" or ")[0]
            little = dataset.is_little_endian is not False
            dataset[tag] = RawDataElement(
                tag, vr, len(value), value, 0, bool(dataset.is_implicit_VR), little
            )
        buffer = io.BytesIO()
        dataset.save_as(buffer)
    except Exception:  # what is damaged already need not be written again
        return flip_bits(rng, data)
    return buffer.getvalue()


def dicom_bytes(rng: random.Random, data: bytes) -> bytes:
    """VR, length or value of an element, overwritten where it stands; nested ones too."""
    tag = tag_for_keyword(rng.choice(_KEYWORDS)) or 0
    order = rng.choice("<<<>")
    places = _places(data, struct.pack(order + "HH", tag >> 16, tag & 0xFFFF))
    if not places:
        return set_integer(rng, data)
    at = rng.choice(places) + 4
    match rng.randrange(3):
        case 0:
            new = rng.choice(_VRS)
        case 1:
            at, new = at + rng.choice((0, 2)), _edge(rng, rng.choice((2, 4)))
        case _:
            at, new = at + 4, rng.choice(_VALUES)
    return data[:at] + new + data[at + len(new) :]


def codestream(rng: random.Random, data: bytes) -> bytes:
    """Damage behind the start of the pixel data, where the codecs read."""
    start = data.rfind(b"\xe0\x7f\x10\x00")
    if start < 0 or start + 12 >= len(data):
        return flip_bits(rng, data)
    head, body = data[: start + 12], data[start + 12 :]
    if rng.random() < 0.5:  # the codestream's own header comes first
        near = body[:120]
        return head + rng.choice((flip_bits, set_integer))(rng, near) + body[120:]
    return head + rng.choice((flip_bits, set_integer, set_run, truncate, remove))(rng, body)


def nifti_field(rng: random.Random, data: bytes) -> bytes:
    """A field of the header set to an edge."""
    kind = nibabel.Nifti2Header if data[4:7] == b"n+2" else nibabel.Nifti1Header
    fields = kind.template_dtype.fields or {}
    dtype, offset = fields[rng.choice(sorted(fields))][:2]
    width = dtype.base.itemsize
    at = offset + width * rng.randrange(max(1, dtype.itemsize // width))
    if dtype.base.kind == "f" and rng.random() < 0.7:
        edge = rng.choice((0.0, -0.0, 1e-30, 1e30, -1.0, float("nan"), float("inf"), 1e9, 0.5))
        new = struct.pack("<f" if width == 4 else "<d", edge)
    elif width in _WIDTHS and rng.random() < 0.5:
        small = rng.choice((0, 1, 2, 3, 4, 5, 8, 16, 64, 512, 768))
        new = (small % (1 << 8 * width)).to_bytes(width, "little")
    else:
        new = _edge(rng, width) if width in _WIDTHS else rng.randbytes(width)
    return data[:at] + new + data[at + width :]


def recompressed(rng: random.Random, data: bytes) -> bytes:
    """What a compressed file holds, damaged; the compression is whole."""
    is_gzip = data.startswith(b"\x1f\x8b")
    try:
        inner = gzip.decompress(data) if is_gzip else bz2.decompress(data)
    except (OSError, EOFError, ValueError, zlib.error):
        return flip_bits(rng, data)
    inner = rng.choice(BY_KIND.get(sniff(inner), BLIND))(rng, inner)[:MOST_BYTES]
    return gzip.compress(inner, 1, mtime=0) if is_gzip else bz2.compress(inner, 1)


def zip_member(rng: random.Random, data: bytes) -> bytes:
    """A file of an archive, damaged; the archive is whole."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # what is damaged already need not be written again
        return flip_bits(rng, data)
    if not files:
        return data
    name = rng.choice(sorted(files))
    inner = files[name]
    files[name] = rng.choice(BY_KIND.get(sniff(inner), BLIND))(rng, inner)[:MOST_BYTES]
    return zip_of(files)


def zip_field(rng: random.Random, data: bytes) -> bytes:
    """A field of a local header, of the directory, or of its end."""
    mark, length = rng.choice(((b"PK\3\4", 30), (b"PK\1\2", 46), (b"PK\5\6", 22)))
    places = _places(data, mark)
    if not places:
        return set_integer(rng, data)
    width = rng.choice((2, 4))
    at = rng.choice(places) + rng.randrange(4, length - width + 1, 2)
    return data[:at] + _edge(rng, width) + data[at + width :]


def tar_field(rng: random.Random, data: bytes) -> bytes:
    """A field of an entry's header, its checksum made right again."""
    start = 512 * rng.randrange(max(1, min(len(data) // 512, 4)))
    block = bytearray(data[start : start + 512].ljust(512, b"\0"))
    at, length = rng.choice(((0, 100), (124, 12), (156, 1), (257, 8), (345, 155)))
    new = rng.choice((
        b"L", b"x", b"S", b"5", b"1", b"g", b"K", b"77777777777\0", b"-0000000001\0", b"\0" * 12,
        b"\x80" + b"\xff" * 11, b"\xff" * 12, b"../../x", PHANTOM_NAME.encode(), b"00000001000\0",
    ))  # fmt: skip
    block[at : at + min(length, len(new))] = new[:length]
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return data[:start] + bytes(block) + data[start + 512 :]


def tar_member(rng: random.Random, data: bytes) -> bytes:
    """A file of an archive, damaged; the archive is whole."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            entry = rng.choice([entry for entry in archive.getmembers() if entry.isreg()])
    except Exception:  # what is damaged already need not be written again
        return flip_bits(rng, data)
    start, end = entry.offset_data, entry.offset_data + entry.size
    inner = rng.choice((flip_bits, set_integer, dicom_bytes))(rng, data[start:end])
    return data[:start] + inner[: entry.size].ljust(entry.size, b"\0") + data[end:]


def png_chunk(rng: random.Random, data: bytes) -> bytes:
    """A chunk's content, kind or length changed, and its checksum made right again."""
    at, chunks = 8, []
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return flip_bits(rng, data)
    index = rng.randrange(len(chunks))
    kind, content = chunks[index]
    match rng.randrange(4):
        case 0:
            kind = rng.choice((b"IDAT", b"PLTE", b"tRNS", b"IEND", b"acTL", b"fdAT", b"zTXt",
                               b"iCCP", b"eXIf", b"IHDR"))  # fmt: skip
        case 1 if kind == b"IDAT":
            content = _inflated_and_damaged(rng, content)
        case _:
            content = rng.choice((flip_bits, set_integer, truncate, repeat))(rng, content)
    chunks[index] = kind, content
    return data[:8] + b"".join(
        len(content).to_bytes(4, "big") + kind + content
        + zlib.crc32(kind + content).to_bytes(4, "big")
        for kind, content in chunks
    )  # fmt: skip


def _inflated_and_damaged(rng: random.Random, content: bytes) -> bytes:
    try:
        inner = zlib.decompress(content)
    except zlib.error:
        return flip_bits(rng, content)
    return zlib.compress(rng.choice(BLIND)(rng, inner)[:MOST_BYTES])


def early_integer(rng: random.Random, data: bytes) -> bytes:
    """An edge in the first bytes, where the headers of BMP and JPEG are."""
    return set_integer(rng, data[:200]) + data[200:]


def tiff_entry(rng: random.Random, data: bytes) -> bytes:
    """Type, count or value of a directory's entry."""
    order = "<" if data.startswith(b"II") else ">"
    tag = rng.choice((254, 256, 257, 258, 259, 262, 270, 273, 277, 278, 279, 284, 317, 320, 322,
                      323, 324, 325, 338, 339, 347, 530))  # fmt: skip
    places = _places(data, struct.pack(order + "H", tag))
    if not places:
        return set_integer(rng, data)
    at = rng.choice(places) + rng.choice((0, 2, 4, 8, 12))
    small = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 254, 256, 258, 273, 322, 324, 339))
    new = rng.choice((struct.pack(order + "H", small), _edge(rng, 4)))
    return data[:at] + new + data[at + len(new) :]


def _edge(rng: random.Random, width: int) -> bytes:
    top = 1 << (8 * width)
    number = rng.choice((0, 1, 2, top - 1, top - 2, top // 2, top // 2 - 1, top // 4, 255, 256,
                         rng.randrange(top)))  # fmt: skip
    return (number % top).to_bytes(width, rng.choice(("little", "big")))


def _places(data: bytes, mark: bytes) -> list[int]:
    """Where a mark stands, the first thousand of them."""
    found, at = [], data.find(mark)
    while at >= 0 and len(found) < 1000:
        found.append(at)
        at = data.find(mark, at + 1)
    return found


BLIND: tuple[Mutator, ...] = (
    flip_bits, flip_bits, set_integer, set_integer, set_run, truncate, remove, repeat,
)  # fmt: skip

BY_KIND: Mapping[str, tuple[Mutator, ...]] = {
    "dicom": (dicom_element, dicom_element, dicom_bytes, codestream),
    "nifti": (nifti_field,),
    "gzip": (recompressed,),
    "bzip2": (recompressed,),
    "zip": (zip_member, zip_field),
    "tar": (tar_field, tar_member),
    "png": (png_chunk,),
    "tiff": (tiff_entry,),
    "jpeg": (early_integer,),
    "bmp": (early_integer,),
}
