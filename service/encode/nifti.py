"""Labels as NIfTI, on the source's own grid where the source was NIfTI."""

import gzip
import io

import nibabel
import numpy as np
from numpy.typing import NDArray

from service.decode.nifti import LPS_FROM_RAS
from service.inference.segment import Segmentation

_NIFTI1_MAX = np.iinfo(np.int16).max
"""Voxels along an axis that NIfTI-1 can hold; beyond it takes NIfTI-2."""

_GZIP_LEVEL = 3
"""Labels shrink to a hundredth at any level; 3 takes 0.4 of the time of 6."""

_RAS_FROM_LPS = LPS_FROM_RAS  # negating x and y is its own inverse


def mask_nii_gz(segmentation: Segmentation) -> bytes:
    """Labels (0, 1, 2) as gzipped NIfTI, uint8 [column, row, slice].

    For a NIfTI source shape and affine are the file's own; for an image the affine means nothing,
    and its codes say so. The same labels give the same bytes.
    """
    grid = segmentation.scan.source.grid
    labels = np.asarray(segmentation.labels.array, dtype=np.uint8)
    if grid is None:
        affine = _RAS_FROM_LPS @ segmentation.labels.affine[:, [2, 1, 0, 3]]
    else:
        affine = grid.affine_ras
        labels = labels[::-1] if grid.reversed_slices else labels
    shape = labels.shape[::-1] if grid is None else grid.shape
    fits = max(shape) <= _NIFTI1_MAX
    no_data = np.broadcast_to(np.uint8(0), shape)  # the header needs its shape and type only
    image = (nibabel.Nifti1Image if fits else nibabel.Nifti2Image)(no_data, affine)
    known = int(segmentation.scan.source.has_patient_coordinates)
    image.set_sform(affine, code=known)
    image.set_qform(affine, code=known)
    if known:
        image.header.set_xyzt_units("mm")
    return _written(image.header, labels)


def _written(header: nibabel.Nifti1Header, labels: NDArray[np.uint8]) -> bytes:
    """A gzipped NIfTI file, written slice by slice: whole, its copies take twice the labels.

    NIfTI stores the first axis fastest, so [column, row, slice] is [slice, row, column] in C order.
    """
    header.set_slope_inter(1, 0)
    buffer = io.BytesIO()
    with gzip.GzipFile(
        filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=buffer, mtime=0
    ) as file:
        header.write_to(file)
        for plane in labels:
            file.write(np.ascontiguousarray(plane).data)
    return buffer.getvalue()
