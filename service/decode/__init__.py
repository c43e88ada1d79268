"""Bytes to a scan, by content and never by file name."""

from collections.abc import Iterable
from dataclasses import replace

from service.decode import dicom, image, nifti
from service.decode.archive import expand
from service.decode.options import DecodeOptions
from service.decode.sniff import FileKind, sniff
from service.errors import EmptyInput, InconsistentSeries, UnknownFormat, UnreadableFile
from service.notices import Notice
from service.volume import Scan


def decode(files: Iterable[bytes], options: DecodeOptions) -> Scan:
    """Turn the files of one request into one scan.

    Archives are opened first. DICOM wins over other files beside it, which are left out with a
    notice; otherwise there must be exactly one NIfTI file or one image. Raises `BadRequest`.
    """
    members = expand(files, options.archive)
    if not members:
        raise EmptyInput("Expected image data, found no file with any content.")
    by_kind: dict[FileKind, list[bytes]] = {}
    for member in members:
        by_kind.setdefault(sniff(member), []).append(member)
    del members

    if datasets := by_kind.pop("dicom", None):
        left_out = sum(len(group) for group in by_kind.values())
        return _with_left_out(dicom.read(datasets, options), left_out)
    unknown = by_kind.pop("unknown", [])
    if not by_kind:
        raise UnknownFormat(
            f"Expected DICOM, zip, gzip, NIfTI, PNG or JPEG, found {len(unknown)} file(s) that "
            "start like none of them."
        )
    images = [(kind, data) for kind, group in by_kind.items() for data in group]
    if len(images) > 1:
        raise InconsistentSeries(
            f"Expected a DICOM series, one NIfTI file or one image, found {len(images)} images."
        )
    kind, data = images[0]
    match kind:
        case "nifti":
            return _with_left_out(nifti.read(data, options), len(unknown))
        case "png" | "jpeg":
            return _with_left_out(image.read(data, options), len(unknown))
        case _:
            raise UnreadableFile("Expected image data, found an archive inside compressed data.")


def _with_left_out(scan: Scan, count: int) -> Scan:
    if not count:
        return scan
    notice = Notice("objects_left_out", f"{count} file(s) of another kind were left out.")
    return replace(scan, notices=(*scan.notices, notice))
