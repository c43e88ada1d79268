"""What answers for a slice's labels: the common face of every stage of an export."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from service.inference.contract import INPUT_NAME, OUTPUT_NAMES

BATCH = 4
"""Slices handed to ONNX Runtime at once; more is not faster on a CPU."""


@dataclass(frozen=True)
class Prediction:
    """Both uint8 [slices, rows, columns]; a probability of 1 is 255."""

    labels: NDArray[np.uint8]
    tumor_probability: NDArray[np.uint8]


Runner = Callable[[NDArray[np.int16]], Prediction]
"""From int16 HU [slices, rows, columns], at least one slice."""


def onnx_runner(model: ModelProto) -> Runner:
    """The model on ONNX Runtime's CPU kernels, for a context of one slice.

    In batches as `training.evaluation.predictors.label_slices`, which the environment that makes
    the GPU's graph cannot import: it has no Keras.
    """
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )

    def run(hu: NDArray[np.int16]) -> Prediction:
        starts = range(0, len(hu), BATCH)
        answers = [
            session.run(OUTPUT_NAMES, {INPUT_NAME: hu[start : start + BATCH, ..., None]})
            for start in starts
        ]
        labels, probabilities = zip(*answers, strict=True)
        return Prediction(np.concatenate(labels), np.concatenate(probabilities))

    return run
