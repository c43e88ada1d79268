"""How fast an exported model labels slices on this machine's processor."""

import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.phantom import abdomen_hu
from training.evaluation.predictors import label_slices, open_session

SLICES, SIDE, ROUNDS = 16, 512, 5


def slices_per_second(model: Path) -> float:
    """Median of five rounds over 16 phantom slices of 512 x 512, after one that warms up.

    ONNX Runtime's CPU kernels on all cores, window and resampling included. The card of an export
    gives another number: the service's lanes at once, the best round.
    """
    session = open_session(model)
    hu = abdomen_hu(1, SLICES, SIDE)
    label_slices(session, hu)
    return SLICES / statistics.median(_seconds(session, hu) for _ in range(ROUNDS))


def _seconds(session: onnxruntime.InferenceSession, hu: NDArray[np.int16]) -> float:
    started = time.perf_counter()
    label_slices(session, hu)
    return time.perf_counter() - started
