"""Labels as NIfTI, on the source's own grid where the source was NIfTI."""

import gzip

import nibabel
import numpy as np
from numpy.typing import NDArray

from service.decode.nifti import LPS_FROM_RAS
from service.inference.segment import Segmentation
from service.volume import Scan

_NIFTI1_MAX = np.iinfo(np.int16).max
"""Voxels along an axis that NIfTI-1 can hold; beyond it takes NIfTI-2."""

_RAS_FROM_LPS = LPS_FROM_RAS  # negating x and y is its own inverse


def mask_nii_gz(segmentation: Segmentation) -> bytes:
    """Labels (0, 1, 2) as gzipped NIfTI, uint8 [column, row, slice].

    For a NIfTI source shape and affine are the file's own; for an image the affine means nothing,
    and its codes say so. The same labels give the same bytes.
    """
    labels = np.asarray(segmentation.labels.array, dtype=np.uint8)
    return _nii_gz(labels, segmentation.scan, compresslevel=6)


def image_nii_gz(scan: Scan) -> bytes:
    """The scan's Hounsfield units as gzipped NIfTI, int16, on the grid of its mask."""
    return _nii_gz(np.asarray(scan.volume.array, dtype=np.int16), scan, compresslevel=1)


def _nii_gz(values: NDArray[np.generic], scan: Scan, compresslevel: int) -> bytes:
    grid = scan.source.grid
    if grid is None:
        affine = _RAS_FROM_LPS @ scan.volume.affine[:, [2, 1, 0, 3]]
    else:
        affine = grid.affine_ras
        values = values[::-1] if grid.reversed_slices else values
    array = values.transpose(2, 1, 0)
    if grid is not None:
        array = array.reshape(grid.shape)
    fits = max(array.shape) <= _NIFTI1_MAX
    image = (nibabel.Nifti1Image if fits else nibabel.Nifti2Image)(array, affine)
    known = int(scan.source.has_patient_coordinates)
    image.set_sform(affine, code=known)
    image.set_qform(affine, code=known)
    if known:
        image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel, mtime=0)
