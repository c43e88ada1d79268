"""Distances between the surfaces of a reference and a prediction."""

from dataclasses import dataclass, fields

import edt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from service.boxes import box_of

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]

_FACES = ndimage.generate_binary_structure(3, 1)


@dataclass(frozen=True)
class SurfaceDistances:
    """In mm, over the distances of both directions pooled: mean, largest, root of mean square.

    ASSD, MSSD and RMSD of Bilic et al., Medical Image Analysis 84, 2023.
    """

    assd_mm: float
    mssd_mm: float
    rmsd_mm: float


SURFACE_METRICS = tuple(item.name for item in fields(SurfaceDistances))


def surface_distances(
    reference: Mask, prediction: Mask, spacing_mm: Spacing | None
) -> SurfaceDistances | None:
    """From every surface voxel of each mask to the nearest surface voxel of the other.

    Masks are [slice, row, column]. A surface voxel is one of the mask with at least one of its six
    face neighbours outside of it, where what lies beyond the array is outside; distances are
    between voxel centres. None where a mask is empty or the spacing (slice, row, column) unknown.
    """
    if spacing_mm is None or not reference.any() or not prediction.any():
        return None
    # All surfaces, and so all distances between them, lie in the box around both masks.
    box = box_of(reference | prediction)
    first, second = _surface(reference[box]), _surface(prediction[box])
    distances = np.concatenate(
        [_to(second, spacing_mm)[first], _to(first, spacing_mm)[second]]
    ).astype(np.float64)
    return SurfaceDistances(
        assd_mm=float(distances.mean()),
        mssd_mm=float(distances.max()),
        rmsd_mm=float(np.sqrt(np.mean(distances**2))),
    )


def _surface(mask: Mask) -> Mask:
    inner = ndimage.binary_erosion(mask, _FACES, border_value=0)
    return np.asarray(mask & ~inner)


def _to(surface: Mask, spacing_mm: Spacing) -> NDArray[np.float32]:
    """Distance in mm of every voxel to the nearest voxel of the surface."""
    return np.asarray(edt.edt(~surface, anisotropy=spacing_mm, black_border=False))
