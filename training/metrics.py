"""Overlap of a prediction with its reference, as the LiTS challenge defines it."""

import numpy as np
from numpy.typing import NDArray


def dice(reference: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> float:
    """2 x intersection / (reference + prediction) of one case; both arrays have the same shape.

    Empty in both: 1; empty in one only: 0. Raises ValueError where the shapes differ.
    Source: Bilic et al., Medical Image Analysis 84, 2023.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"expected the shape {reference.shape}, found {prediction.shape}")
    total = int(reference.sum()) + int(prediction.sum())
    return 2 * int((reference & prediction).sum()) / total if total else 1.0
