"""Labels as NIfTI, on the source's own grid where the source was NIfTI."""

import gzip

import nibabel
import numpy as np
from numpy.typing import NDArray

from service.decode.nifti import LPS_FROM_RAS
from service.inference.segment import Segmentation
from service.volume import Affine, Scan

_NIFTI1_MAX = np.iinfo(np.int16).max
"""Voxels along an axis that NIfTI-1 can hold; beyond it takes NIfTI-2."""

_RAS_FROM_LPS = LPS_FROM_RAS  # negating x and y is its own inverse


def mask_nii_gz(segmentation: Segmentation) -> bytes:
    """Labels (0, 1, 2) as gzipped NIfTI, uint8 [column, row, slice].

    For a NIfTI source shape and affine are the file's own; for an image the affine means nothing,
    and its codes say so. A tilted stack has a sheared affine, in the sform only, since a qform
    cannot say it; of an unevenly spaced one, which no affine describes, the labels are spread on a
    regular grid. The same labels give the same bytes.
    """
    grid = segmentation.scan.source.grid
    labels = np.asarray(segmentation.labels.array, dtype=np.uint8)
    if grid is None:
        labels, affine_lps = _placed(segmentation.scan, labels)
        affine = _RAS_FROM_LPS @ affine_lps[:, [2, 1, 0, 3]]
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
    irregular = segmentation.scan.irregular
    if irregular is not None and irregular.sheared_affine is not None:
        image.set_qform(None, code=0)
    else:
        image.set_qform(affine, code=known)
    if known:
        image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)


def _placed(scan: Scan, labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Affine]:
    """Labels [slice, row, column] and the LPS affine that says where they lie."""
    if scan.irregular is None:
        return labels, scan.volume.affine
    sheared = scan.irregular.sheared_affine
    if sheared is not None:
        return labels, sheared
    regular = scan.irregular.grid((labels.shape[1], labels.shape[2]))
    return regular.spread(labels), regular.affine
