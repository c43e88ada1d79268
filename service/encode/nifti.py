"""Labels as NIfTI, on the source's own grid where the source was NIfTI."""

import gzip

import nibabel
import numpy as np

from service.decode.nifti import LPS_FROM_RAS
from service.inference.segment import Segmentation

_NIFTI1_MAX = np.iinfo(np.int16).max
"""Voxels along an axis that NIfTI-1 can hold; beyond it takes NIfTI-2."""

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
    array = labels.transpose(2, 1, 0)
    if grid is not None:
        array = array.reshape(grid.shape)
    fits = max(array.shape) <= _NIFTI1_MAX
    image = (nibabel.Nifti1Image if fits else nibabel.Nifti2Image)(array, affine)
    known = int(segmentation.scan.source.has_patient_coordinates)
    image.set_sform(affine, code=known)
    image.set_qform(affine, code=known)
    if known:
        image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)
