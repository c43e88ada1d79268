"""Labels and images as NIfTI, on the source's own grid where the source was NIfTI."""

import gzip
import io
from collections.abc import Callable
from functools import partial

import nibabel
import numpy as np
from isal import igzip
from numpy.typing import NDArray

from service.decode.nifti import LPS_FROM_RAS
from service.inference.segment import Segmentation
from service.volume import AIR_HU, Affine, Scan

_NIFTI1_MAX = np.iinfo(np.int16).max
"""Voxels along an axis that NIfTI-1 can hold; beyond it takes NIfTI-2."""

_Gzip = Callable[..., gzip.GzipFile]

_mask_gzip: _Gzip = partial(gzip.GzipFile, compresslevel=3)
"""Labels shrink to a hundredth at any level, and 3 takes 0.4 of the time of 6. Its bytes are kept:
they must not depend on the processor, as ISA-L's may."""

_image_gzip: _Gzip = partial(igzip.IGzipFile, compresslevel=1)
"""ISA-L takes a sixth of the time of zlib's level 1, for 6 % more bytes."""

_RAS_FROM_LPS = LPS_FROM_RAS  # negating x and y is its own inverse


def mask_nii_gz(segmentation: Segmentation) -> bytes:
    """Labels (0, 1, 2) as gzipped NIfTI, uint8 [column, row, slice].

    For a NIfTI source shape, affine and unit are the file's own; for an image, and for a NIfTI file
    without sform and qform, the affine means nothing, and its codes say so. A tilted stack has a
    sheared affine, in the sform only, since a qform cannot say it; of an unevenly spaced one, which
    no affine describes, the labels are spread on a regular grid. The same labels give the same
    bytes.
    """
    scan = segmentation.scan
    labels = np.asarray(segmentation.labels.array, dtype=np.uint8)
    if _is_uneven(scan) and scan.irregular is not None:
        labels = scan.irregular.grid((labels.shape[1], labels.shape[2])).spread(labels)
    return _nii_gz(labels, scan, _mask_gzip)


def image_nii_gz(scan: Scan) -> bytes:
    """Hounsfield units as gzipped NIfTI, int16, on the grid of the scan's mask."""
    hu = np.asarray(scan.volume.array, dtype=np.int16)
    if _is_uneven(scan) and scan.irregular is not None:
        hu = scan.irregular.grid((hu.shape[1], hu.shape[2])).interpolate(hu, AIR_HU)
    return _nii_gz(hu, scan, _image_gzip)


def _nii_gz(values: NDArray[np.generic], scan: Scan, compressed: _Gzip) -> bytes:
    """Values [slice, row, column] of a scan, or of the regular grid over an uneven one."""
    grid = scan.source.grid
    if grid is None:
        shape, affine = values.shape[::-1], _RAS_FROM_LPS @ _affine_lps(scan)[:, [2, 1, 0, 3]]
    else:
        shape, affine = grid.shape, grid.affine_ras
        values = values[::-1] if grid.reversed_slices else values
    header = _header(shape, values.dtype, affine, scan)
    buffer = io.BytesIO()
    with compressed(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
        header.write_to(file)
        # Slice by slice: whole, the copies take twice the values. NIfTI stores the first axis
        # fastest, so its [column, row, slice] is [slice, row, column] in C order.
        for plane in values:
            file.write(np.ascontiguousarray(plane).data)
    return buffer.getvalue()


def _header(
    shape: tuple[int, ...], dtype: np.dtype[np.generic], affine: Affine, scan: Scan
) -> nibabel.Nifti1Header:
    fits = max(shape) <= _NIFTI1_MAX
    no_data = np.broadcast_to(np.zeros((), dtype), shape)  # a header needs shape and type only
    image = (nibabel.Nifti1Image if fits else nibabel.Nifti2Image)(no_data, affine)
    grid = scan.source.grid
    # What is no more placed than its source is read in the same way, whatever the reader's way is.
    known = int(scan.source.has_patient_coordinates and (grid is None or grid.placed))
    image.set_sform(affine, code=known)
    if scan.irregular is not None and scan.irregular.sheared_affine is not None:
        image.set_qform(None, code=0)
    else:
        image.set_qform(affine, code=known)
    if scan.source.has_patient_coordinates:
        image.header.set_xyzt_units("mm" if grid is None else grid.unit)
    image.header.set_slope_inter(1, 0)
    return image.header


def _affine_lps(scan: Scan) -> Affine:
    irregular = scan.irregular
    if irregular is None:
        return scan.volume.affine
    if irregular.sheared_affine is not None:
        return irregular.sheared_affine
    _, rows, columns = scan.volume.spatial_shape
    return irregular.grid((rows, columns)).affine


def _is_uneven(scan: Scan) -> bool:
    """Whether no affine describes where the slices lie."""
    return scan.irregular is not None and scan.irregular.sheared_affine is None
