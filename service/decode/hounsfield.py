"""Values that stand for Hounsfield units as they are: rounded, and refused where they cannot.

DICOM says what its values mean. NIfTI and signed or floating-point TIFF only hold numbers.
"""

import numpy as np
from numpy.typing import NDArray

from service.errors import UnsupportedPixels
from service.notices import Notice
from service.volume import AIR_HU

_HIGHEST_HU = 1e6
"""Metal ends at 30,000 HU on extended scales; far more is damage, or the wrong byte order."""

_LEAST_RANGE_HU = 10
"""Noise alone spans more. Less is a label map, a picture scaled to 0..1 or to unit variance."""


def rounded(values: NDArray[np.generic]) -> NDArray[np.int16]:
    """Real values in HU as int16, from `AIR_HU` up; lower ones stand for padding.

    Raises `UnsupportedPixels` for values that are not finite or too high for any tissue or metal.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UnsupportedPixels("Expected finite values, found some that are not.")
    highest = float(values.max())
    if highest > _HIGHEST_HU:
        raise UnsupportedPixels(f"Expected Hounsfield units, found values up to {highest:.3g}.")
    if values.dtype == np.int16:
        return np.asarray(np.maximum(values, AIR_HU), dtype=np.int16)
    # Wide enough for the bounds and for every integer that lies between them.
    wide = values.astype(np.result_type(values.dtype, np.float32), copy=False)
    return np.asarray(np.rint(np.clip(wide, AIR_HU, np.iinfo(np.int16).max)), dtype=np.int16)


def check_range(hu: NDArray[np.int16]) -> tuple[Notice, ...]:
    """What is to be said about the range of a whole volume.

    Raises `UnsupportedPixels` for one in which no two tissues could be told apart.
    """
    lowest, highest = int(hu.min()), int(hu.max())
    if highest - lowest < _LEAST_RANGE_HU:
        raise UnsupportedPixels(
            f"Expected Hounsfield units that differ by {_LEAST_RANGE_HU} at least, found values "
            f"from {lowest} to {highest}."
        )
    if lowest <= -200 and highest >= 0:
        return ()
    text = f"The values run from {lowest} to {highest}; a CT holds air and tissue."
    return (Notice("hu_range_unusual", text),)
