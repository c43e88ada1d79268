"""Bytes to a scan, by content and never by file name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from highdicom import Volume

from service.decode import dicom, image, nifti
from service.decode.archive import expand
from service.decode.options import MAX_SIDE_PX, DecodeOptions
from service.decode.readable import Readable
from service.decode.sniff import ReadableKind
from service.errors import (
    EmptyInput,
    ImageTooSmall,
    InconsistentSeries,
    TooManyVoxels,
    UnknownFormat,
)
from service.notices import Notice
from service.volume import Scan, to_canonical


def decode(files: Iterable[bytes], options: DecodeOptions) -> Scan:
    """Turn the files of one request into one scan. Raises `BadRequest`."""
    return inspect(files, options).read()


def inspect(files: Iterable[bytes], options: DecodeOptions) -> Readable:
    """Check container, limits, headers and geometry; the pixels of DICOM are left to `read`.

    Archives are opened first. DICOM wins over other files beside it, which are left out with a
    notice; otherwise there must be exactly one NIfTI file, or images of one kind, which make a
    stack in their order. Raises `BadRequest`.
    """
    by_kind: dict[ReadableKind, list[bytes]] = {}
    unknown = 0
    for kind, member in expand(files, options.archive):
        if kind == "unknown":
            unknown += 1
        else:
            by_kind.setdefault(kind, []).append(member)
    if not by_kind and not unknown:
        raise EmptyInput("Expected image data, found no file with any content.")
    chosen = _chosen_kind(by_kind, unknown)
    group = by_kind.pop(chosen)
    left_out = unknown + sum(len(others) for others in by_kind.values())
    readable = _inspect(chosen, group, options)
    _check_sides(readable.geometry)
    return Readable(
        readable.geometry, readable.format, lambda: _with_left_out(readable.read(), left_out)
    )


def _chosen_kind(by_kind: Mapping[ReadableKind, Sequence[bytes]], unknown: int) -> ReadableKind:
    if "dicom" in by_kind:
        return "dicom"
    if not by_kind:
        raise UnknownFormat(
            f"Expected DICOM, NIfTI, PNG, JPEG, TIFF, BMP, or zip, tar, gzip or bzip2 of them, "
            f"found {unknown} file(s) that start like none of them."
        )
    if len(by_kind) > 1 or len(by_kind.get("nifti", ())) > 1:
        found = ", ".join(f"{len(group)} {kind.upper()}" for kind, group in by_kind.items())
        raise InconsistentSeries(
            f"Expected a DICOM series, one NIfTI file or images of one kind, found {found}."
        )
    return next(iter(by_kind))


def _inspect(kind: ReadableKind, group: list[bytes], options: DecodeOptions) -> Readable:
    match kind:
        case "dicom":
            return dicom.inspect(group, options)
        case "nifti":
            scan = nifti.read(group[0], options)
        case _:
            scan = image.read(group, kind, options)
    return Readable(scan.volume, scan.source.format, lambda: scan)


def _check_sides(volume: Volume) -> None:
    """Of the slices that the model will see: a line of pixels shows nothing, and very long sides
    would take memory for their square.
    """
    _, rows, columns = to_canonical(volume).volume.spatial_shape
    if sorted(volume.spatial_shape)[1] < 2:
        raise ImageTooSmall(
            f"Expected an image of at least 2 x 2 voxels, found {volume.spatial_shape}."
        )
    if max(rows, columns) > MAX_SIDE_PX:
        raise TooManyVoxels(
            f"Expected axial slices of at most {MAX_SIDE_PX} voxels a side, found "
            f"{rows} x {columns}."
        )


def _with_left_out(scan: Scan, count: int) -> Scan:
    if not count:
        return scan
    notice = Notice("objects_left_out", f"{count} file(s) of another kind were left out.")
    return replace(scan, notices=(*scan.notices, notice))
