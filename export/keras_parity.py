"""Whether the float32 graph answers as the Keras network does, on whatever it may be given."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from export.parity import ParityError, phantom_scans
from export.signature import CHANCES
from service.inference.contract import INPUT_NAME, OUTPUT_NAMES, Thresholds
from service.phantom import abdomen_hu
from training.predict import NetworkPredictor
from training.prediction import decided

MAX_DRIFT = 1e-3
"""The most that a probability may differ, and that the two best scores may be apart where a label
does. The same arithmetic in another order: a trained ResNet-50 U-Net differed by 3e-5."""

LARGE_BATCH = 24
"""Slices in the largest batch that is compared."""


@dataclass(frozen=True)
class Drift:
    """How far the ONNX graph is from Keras."""

    pixels: int
    largest_probability_difference: float
    """Of the organ's and the tumour's probabilities."""
    differing_labels: int
    widest_gap: float
    """The largest difference between the two best scores among the pixels whose labels differ; 0
    where none does."""

    def __str__(self) -> str:
        return (
            f"probabilities within {self.largest_probability_difference:.1e} on {self.pixels} "
            f"pixels; {self.differing_labels} labels differ, with scores at most "
            f"{self.widest_gap:.1e} apart"
        )

    def check(self) -> None:
        """Raises ParityError beyond `MAX_DRIFT`."""
        if not _largest((self.largest_probability_difference, self.widest_gap)) <= MAX_DRIFT:
            raise ParityError(f"Keras and float32 ONNX: expected at most {MAX_DRIFT}, found {self}")


def drift(keras: NetworkPredictor, model: ModelProto, scans: Iterable[NDArray[np.int16]]) -> Drift:
    """Compare on scans of any sizes, int16 HU [slices, rows, columns], each as one batch.

    `keras` resamples and decides with NumPy, so nothing is shared but the weights; `model` still
    has the output `CHANCES`.
    """
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = [_compared(keras, session, hu) for hu in scans]
    return Drift(
        pixels=sum(item.pixels for item in found),
        largest_probability_difference=_largest(
            item.largest_probability_difference for item in found
        ),
        differing_labels=sum(item.differing_labels for item in found),
        widest_gap=_largest(item.widest_gap for item in found),
    )


def _largest(values: Iterable[float]) -> float:
    """Not a number where one is not: Python's own max would leave it out."""
    return float(np.max(list(values)))


def _compared(
    keras: NetworkPredictor, session: onnxruntime.InferenceSession, hu: NDArray[np.int16]
) -> Drift:
    expected = np.moveaxis(keras.chances(hu[..., None]), -1, 1)
    organ, tumor = expected[:, 0], expected[:, 1]
    labels, chances = session.run([OUTPUT_NAMES[0], CHANCES], {INPUT_NAME: hu[..., None]})
    differs = labels != decided(organ, tumor, keras.thresholds).labels
    gaps = _gaps(organ, tumor, keras.thresholds)[differs]
    return Drift(
        pixels=hu.size,
        largest_probability_difference=float(np.abs(chances - expected).max()),
        differing_labels=int(differs.sum()),
        widest_gap=float(gaps.max(initial=0.0)),
    )


def _gaps(
    organ: NDArray[np.float32], tumor: NDArray[np.float32], thresholds: Thresholds
) -> NDArray[np.float32]:
    """How far apart the scores are between which each pixel's label was chosen.

    At thresholds of 0.5: background and organ, and, within the organ, liver and tumour; whichever
    two are nearer.
    """
    between_organ = 2 * np.abs(organ - thresholds.liver)
    within_organ = 2 * np.abs(tumor - thresholds.tumor * organ)
    return np.asarray(np.minimum(between_organ, within_organ), dtype=np.float32)


def hard_scans() -> list[NDArray[np.int16]]:
    """Odd sizes, one slice and many, and values as no patient has them."""
    noise = np.random.default_rng(1).integers(-32768, 32768, (1, 96, 131))
    constant = [np.full((1, 90, 90), hu) for hu in (-32768, -1000, 32767)]
    return [
        *phantom_scans(2),
        abdomen_hu(2, 1, 333),
        abdomen_hu(3, LARGE_BATCH, 65),
        _with_metal(abdomen_hu(4, 1, 256)),
        *(hu.astype(np.int16) for hu in (*constant, noise)),
    ]


def _with_metal(hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """A rod at the scale's upper end with streaks from its lower to its upper end across it."""
    _, rows, columns = hu.shape
    streaked = hu.copy()
    streaked[:, rows // 2 - 4 : rows // 2 + 4, ::7] = 32767
    streaked[:, rows // 2 - 4 : rows // 2 + 4, 3::7] = -32768
    streaked[:, rows // 2 - 12 : rows // 2 + 12, columns // 3 : columns // 3 + 24] = 32767
    return streaked
