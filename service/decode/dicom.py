"""DICOM files to a scan: choose the CT series, stack its slices, read Hounsfield units."""

import io
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pydicom.config
from highdicom import Volume
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import UID, CTImageStorage

from service.decode.options import DecodeOptions
from service.decode.stack import Stack, instance_number, numbers, stack
from service.errors import (
    ArchiveTooLarge,
    InconsistentSeries,
    InvalidParameter,
    NoCtSeries,
    TooManyVoxels,
    UnreadableFile,
    UnsupportedPixels,
    UnsupportedTransferSyntax,
    WrongModality,
)
from service.notices import Notice
from service.volume import AIR_HU, Scan, SourceReference

# pydicom would print values that break the standard's rules, a patient's name among them. What we
# use of a file we check ourselves.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_META_BYTES = 2048
"""Where the file meta information with the transfer syntax ends at the latest, in practice."""
_CHUNK_BYTES = 1 << 20

_NOT_A_SLICE = {"LOCALIZER", "SCREEN SAVE", "DOSE_INFO", "DOSE"}
"""Words in ImageType (PS3.3 C.8.2.1.1.1 and vendors' own) of images that belong to no volume."""


def read(files: Sequence[bytes], options: DecodeOptions) -> Scan:
    """One CT series as Hounsfield units, int16 [slice, row, column].

    Unless the options name a series, the axial series with most slices is taken, then the thinnest.
    Raises what `stack` raises, and `WrongModality`, `NoCtSeries`, `InvalidParameter` for a series
    that is not there, `TooManyVoxels`, `UnreadableFile`, `UnsupportedTransferSyntax` and
    `UnsupportedPixels`.
    """
    limit = options.archive.max_decompressed_bytes
    datasets = [_parse(data, index, limit) for index, data in enumerate(files)]
    slices = [dataset for dataset in datasets if _is_ct_slice(dataset)]
    if not slices:
        raise _no_slices(datasets, options.modality)
    series, others = _choose_series(slices, options.series_instance_uid)
    _check_one_patient(series)
    _check_size(series, options.max_voxels)
    stacked = stack(series)
    hu = np.stack([_hounsfield_units(dataset) for dataset in stacked.datasets])
    for dataset in stacked.datasets:
        del dataset.PixelData
    source = SourceReference(
        format="dicom",
        pixel_spacing_mm=stacked.pixel_spacing_mm,
        slice_spacing_mm=stacked.slice_spacing_mm,
        datasets=stacked.datasets,
    )
    frame_uid = stacked.datasets[0].get("FrameOfReferenceUID")
    volume = Volume(hu, stacked.affine, "PATIENT", str(frame_uid) if frame_uid else None)
    notices = (*_left_out(datasets, slices), *others, *_about(hu, stacked))
    return Scan(volume, source, notices)


def _parse(data: bytes, index: int, max_inflated_bytes: int) -> Dataset:
    _check_inflated_size(data, max_inflated_bytes)
    try:
        dataset = dcmread(io.BytesIO(data), force=data[128:132] != b"DICM")
        dataset.get("SOPClassUID"), dataset.get("Modality")  # decode them, or fail here
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        raise UnreadableFile(f"Expected DICOM, found file {index + 1} damaged.") from error
    if "SOPClassUID" not in dataset:  # a DICOMDIR names itself in its file meta information only
        meta = getattr(dataset, "file_meta", Dataset())
        dataset.SOPClassUID = meta.get("MediaStorageSOPClassUID", "")
        dataset.SOPInstanceUID = meta.get("MediaStorageSOPInstanceUID", "")
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if not dataset.get(keyword):
            raise UnreadableFile(f"Expected DICOM, found file {index + 1} without a {keyword}.")
    if not hasattr(dataset, "file_meta") or "TransferSyntaxUID" not in dataset.file_meta:
        dataset.ensure_file_meta()
        encoding = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = _uncompressed_syntax(encoding[0], encoding[1])
    return dataset


def _check_inflated_size(data: bytes, max_bytes: int) -> None:
    """Pydicom inflates a deflated data set whole, so its size is counted first, and thrown away."""
    if data[128:132] != b"DICM" or _DEFLATED not in data[:_META_BYTES]:
        return
    # PS3.10 7.1: the first element is the group's length, 12 bytes, and counts what follows it.
    start = 144 + int.from_bytes(data[140:144], "little")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    rest, inflated = data[start:], 0
    try:
        while rest and not inflater.eof:
            inflated += len(inflater.decompress(rest, _CHUNK_BYTES))
            if inflated > max_bytes:
                raise ArchiveTooLarge(
                    f"Expected at most {max_bytes} bytes once decompressed, found more."
                )
            rest = inflater.unconsumed_tail
    except zlib.error as error:
        raise UnreadableFile("Expected whole deflated DICOM, found it damaged.") from error


def _uncompressed_syntax(is_implicit: bool | None, is_little_endian: bool | None) -> UID:
    if is_implicit is None or is_implicit:
        return pydicom.uid.ImplicitVRLittleEndian
    return (
        pydicom.uid.ExplicitVRLittleEndian if is_little_endian else pydicom.uid.ExplicitVRBigEndian
    )


def _is_ct_slice(dataset: Dataset) -> bool:
    if dataset.SOPClassUID != CTImageStorage or _modality(dataset) not in ("CT", "?"):
        return False
    image_type = dataset.get("ImageType") or []
    words = [image_type] if isinstance(image_type, str) else image_type
    return not _NOT_A_SLICE.intersection(str(word).upper() for word in words)


def _no_slices(datasets: Sequence[Dataset], modality: str) -> Exception:
    found = Counter(_modality(dataset) for dataset in datasets)
    other = sorted(name for name in found if name != modality)
    if other:
        return WrongModality(f"Expected {modality}, found {', '.join(other)}.")
    classes = sorted({UID(str(dataset.SOPClassUID)).name for dataset in datasets})
    return NoCtSeries(
        f"Expected CT Image Storage slices, found {len(datasets)} other object(s): "
        f"{', '.join(_safe(name) for name in classes)}."
    )


def _modality(dataset: Dataset) -> str:
    """Modality as a message may show it: a DICOM code string, else a question mark."""
    text = str(dataset.get("Modality", "")).strip().upper()
    is_code = text.isascii() and 0 < len(text) <= 16 and text.replace("_", "").isalnum()
    return text if is_code else "?"


def _safe(uid_name: str) -> str:
    """A UID's registered name, or the UID; anything else a file may hold there becomes "?"."""
    return (
        uid_name if UID(uid_name).is_valid or uid_name.endswith(("Storage", "Directory")) else "?"
    )


def _choose_series(
    slices: Sequence[Dataset], wanted: str | None
) -> tuple[list[Dataset], list[Notice]]:
    series: dict[str, list[Dataset]] = defaultdict(list)
    for dataset in slices:
        series[str(dataset.get("SeriesInstanceUID") or "")].append(dataset)
    if wanted is not None and wanted not in series:
        raise InvalidParameter(
            f"Expected series_instance_uid to name one of the {len(series)} CT series, found none "
            "that it names."
        )
    chosen = wanted if wanted is not None else max(series, key=lambda uid: _rank(series[uid]))
    others = [members[0] for uid, members in series.items() if uid != chosen]
    if not others:
        return series[chosen], []
    names = ", ".join(
        f"{numeric_text(other.get('SeriesNumber'))} ({_uid_text(other.get('SeriesInstanceUID'))})"
        for other in others
    )
    notice = Notice("other_series", f"{len(others)} further CT series not segmented: {names}.")
    return series[chosen], [notice]


def _rank(series: Sequence[Dataset]) -> tuple[bool, int, float]:
    """Axial first, then most slices, then thinnest."""
    orientation = numbers(series[0], "ImageOrientationPatient", 6)
    axial = False
    if orientation is not None:
        normal = np.abs(np.cross(orientation[:3], orientation[3:]))
        axial = bool(normal.argmax() == 2)
    thickness = numbers(series[0], "SliceThickness", 1)
    return axial, len(series), -float(thickness[0]) if thickness is not None else -np.inf


def _check_one_patient(series: Sequence[Dataset]) -> None:
    for keyword in ("StudyInstanceUID", "PatientID"):
        if len({str(dataset.get(keyword) or "") for dataset in series}) > 1:
            raise InconsistentSeries(f"Expected one {keyword} in the series, found several.")


def numeric_text(value: object) -> str:
    """A number for a message, else a question mark: no free text of a file gets into one."""
    text = str(value)
    return text if text.isascii() and text.lstrip("-").isdigit() else "?"


def _uid_text(value: object) -> str:
    uid = UID(str(value))
    return str(uid) if uid.is_valid else "?"


def _check_size(series: Sequence[Dataset], max_voxels: int) -> None:
    voxels = 0
    for dataset in series:
        size = numbers(dataset, "Rows", 1), numbers(dataset, "Columns", 1)
        if size[0] is None or size[1] is None or size[0] < 1 or size[1] < 1:
            raise UnreadableFile(
                f"Expected Rows and Columns, found none in slice {instance_number(dataset)}."
            )
        voxels += int(size[0][0]) * int(size[1][0])
    if voxels > max_voxels:
        raise TooManyVoxels(f"Expected at most {max_voxels} voxels, found {voxels}.")


def _hounsfield_units(dataset: Dataset) -> NDArray[np.int16]:
    """One slice in HU, int16 [row, column]; padding, and what lies below it, becomes air.

    MONOCHROME1 only says how to show the values: those of a CT are HU after the rescale either way.
    """
    number = instance_number(dataset)
    if dataset.get("SamplesPerPixel", 1) != 1:
        raise UnsupportedPixels(f"Expected one sample a pixel, found more in slice {number}.")
    frames = numbers(dataset, "NumberOfFrames", 1)
    if frames is not None and frames[0] != 1:
        raise InconsistentSeries(f"Expected one frame a file, found more in slice {number}.")
    if dataset.get("HighBit", -1) not in (-1, dataset.get("BitsStored", 0) - 1):
        raise UnsupportedPixels(f"Expected HighBit below BitsStored by one in slice {number}.")
    slope = numbers(dataset, "RescaleSlope", 1)
    intercept = numbers(dataset, "RescaleIntercept", 1)
    if slope is None or intercept is None:
        raise UnsupportedPixels(f"Expected RescaleSlope and RescaleIntercept in slice {number}.")
    stored = _stored_values(dataset, number)
    if stored.ndim != 2:
        raise UnsupportedPixels(f"Expected rows and columns, found more in slice {number}.")
    hu = stored.astype(np.float32) * np.float32(slope[0]) + np.float32(intercept[0])
    hu[_is_padding(dataset, stored)] = AIR_HU
    rounded = np.rint(np.clip(hu, AIR_HU, np.iinfo(np.int16).max))
    return np.asarray(rounded, dtype=np.int16)


def _is_padding(dataset: Dataset, stored: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Where PixelPaddingValue stands, or the range up to its limit (PS3.3 C.7.5.1.1.2).

    A single value is compared as bits: some write 65535 where signed pixels hold -1.
    """
    padding = numbers(dataset, "PixelPaddingValue", 1)
    if padding is None:
        return np.zeros(stored.shape, dtype=bool)
    values = stored.astype(np.int64)
    limit = numbers(dataset, "PixelPaddingRangeLimit", 1)
    if limit is None:
        bits = 1 << int(dataset.get("BitsAllocated", 16))
        return np.asarray(values % bits == int(padding[0]) % bits)
    lower, upper = sorted((padding[0], limit[0]))
    return np.asarray((values >= lower) & (values <= upper))


def _stored_values(dataset: Dataset, number: str) -> NDArray[np.generic]:
    if "PixelData" not in dataset:
        raise UnreadableFile(f"Expected pixel data, found none in slice {number}.")
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    try:
        return np.asarray(dataset.pixel_array)
    except (RuntimeError, NotImplementedError) as error:  # no decoder, or it gave up
        if syntax.is_compressed:
            raise UnsupportedTransferSyntax(
                f"Expected a transfer syntax that can be decoded, found {_safe_syntax(syntax)}."
            ) from error
        raise UnreadableFile(
            f"Expected whole pixel data, found it damaged in slice {number}."
        ) from error
    except Exception as error:  # damaged pixel data makes decoders raise nearly anything
        raise UnreadableFile(
            f"Expected whole pixel data, found it damaged in slice {number}."
        ) from error


def _safe_syntax(syntax: UID) -> str:
    return syntax.name if syntax.is_transfer_syntax and not syntax.is_private else "a private one"


def _left_out(datasets: Sequence[Dataset], slices: Sequence[Dataset]) -> list[Notice]:
    count = len(datasets) - len(slices)
    if not count:
        return []
    kept = {id(dataset) for dataset in slices}
    kinds = Counter(_modality(dataset) for dataset in datasets if id(dataset) not in kept)
    listed = ", ".join(f"{number} of modality {name}" for name, number in sorted(kinds.items()))
    text = f"{count} object(s) that are no slices of a CT volume were left out: {listed}."
    return [Notice("objects_left_out", text)]


def _about(hu: NDArray[np.int16], stacked: Stack) -> list[Notice]:
    notices = []
    if stacked.slice_spacing_mm is None:
        text = "The slice has no SliceThickness: volumes are null."
        notices.append(Notice("thickness_unknown", text))
    if hu.max() < 0 or hu.min() > 0:
        text = f"The values run from {hu.min()} to {hu.max()}; a CT holds air and tissue."
        notices.append(Notice("hu_range_unusual", text))
    return notices
