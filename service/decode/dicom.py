"""DICOM files to a scan: choose the CT series, stack its slices, read Hounsfield units."""

from collections.abc import Sequence

import numpy as np
from highdicom import Volume
from numpy.typing import NDArray

from service.decode.headers import Allowance, read_instance, text
from service.decode.options import DecodeOptions
from service.decode.pixels import hounsfield_units, size_px
from service.decode.readable import Readable
from service.decode.series import check_size, choose
from service.decode.stack import Stack, stack
from service.errors import TooManyVoxels
from service.notices import Notice
from service.volume import Scan, SourceReference


def inspect(files: list[bytes], options: DecodeOptions) -> Readable:
    """Choose one CT series and put its slices in order.

    The list is emptied, so that each file can be freed once its slice is decoded. Raises what
    `choose` and `stack` raise, and `TooManyVoxels`, `UnreadableFile`, `ArchiveTooLarge`; reading
    raises what `hounsfield_units` raises. Only the slices that make the volume are decoded.
    """
    allowance = Allowance(options.archive.max_decompressed_bytes)
    instances = [read_instance(data, index, allowance) for index, data in enumerate(files)]
    files.clear()
    slices, notices = choose(instances, options.series_instance_uid, options.modality)
    check_size(slices, options.max_voxels)
    stacked = stack(slices, options.resample)
    _check_resampled_size(stacked, options.max_voxels)
    frame_uid = text(stacked.slices[0].header, "FrameOfReferenceUID")
    shape = (len(stacked.slices), *size_px(stacked.slices[0]))
    geometry = Volume(
        np.broadcast_to(np.int16(0), shape), stacked.affine, "PATIENT", frame_uid or None
    )
    return Readable(geometry, "dicom", lambda: _read(geometry, stacked, notices))


def _read(geometry: Volume, stacked: Stack, notices: Sequence[Notice]) -> Scan:
    """Hounsfield units, int16 [slice, row, column]."""
    hu = hounsfield_units(stacked.slices)
    headers = tuple(item.header for item in stacked.slices)
    frames = tuple(item.frame for item in stacked.slices if item.frame is not None)
    source = SourceReference(
        format="dicom",
        pixel_spacing_mm=stacked.pixel_spacing_mm,
        slice_spacing_mm=stacked.slice_spacing_mm,
        datasets=headers,
        frame_numbers=frames,
    )
    volume = geometry.with_array(hu)
    return Scan(volume, source, (*notices, *_about(hu, stacked)), stacked.irregular)


def _check_resampled_size(stacked: Stack, max_voxels: int) -> None:
    if stacked.irregular is None:
        return
    shape = stacked.irregular.grid(size_px(stacked.slices[0])).shape
    if np.prod(shape, dtype=np.int64) > max_voxels:
        raise TooManyVoxels(f"Expected at most {max_voxels} voxels, found {shape} once resampled.")


def _about(hu: NDArray[np.int16], stacked: Stack) -> list[Notice]:
    notices = []
    for odd in stacked.odd:
        message = f"Slice {odd.slice.number} is none of the volume's and was left out. {odd.reason}"
        notices.append(Notice("objects_left_out", message))
    if stacked.irregular is not None:
        message = f"The model saw a regular volume made from the slices. {stacked.irregularity}"
        notices.append(Notice("resampled", message))
    if stacked.slice_spacing_mm is None:
        message = "The slice has no SliceThickness: volumes are null."
        notices.append(Notice("thickness_unknown", message))
    if hu.max() < 0 or hu.min() > 0:
        message = f"The values run from {hu.min()} to {hu.max()}; a CT holds air and tissue."
        notices.append(Notice("hu_range_unusual", message))
    return notices
