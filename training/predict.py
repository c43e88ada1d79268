"""What a trained network says of a case."""

from dataclasses import dataclass, field

import keras
import numpy as np
from numpy.typing import NDArray

from service.inference.contract import Thresholds
from service.volume import HounsfieldWindow
from training.batches import in_window
from training.grid import to_grid, to_pixels
from training.prediction import Prediction, decided

SLICES_AT_ONCE = 8
"""Bounds the memory of a batch."""


@dataclass(frozen=True)
class NetworkPredictor:
    """A Keras network with what the deployed graph does around it.

    It takes the Hounsfield units of a case, int16 [slices, rows, columns, context]. `flips` adds
    the slice seen from the other side, and takes the mean of both.
    """

    network: keras.Model
    grid: int
    window: HounsfieldWindow
    thresholds: Thresholds = field(default_factory=Thresholds)
    flips: bool = False

    def __call__(self, hu: NDArray[np.int16]) -> Prediction:
        return Prediction.joined(
            [self._decided(hu, start) for start in range(0, len(hu), SLICES_AT_ONCE)]
        )

    def _decided(self, hu: NDArray[np.int16], start: int) -> Prediction:
        """Of the batch from `start` on. The last one begins earlier, to be as large as the others,
        and what was said already is left out: JAX compiles anew for each size.
        """
        begin = max(0, min(start, len(hu) - SLICES_AT_ONCE))
        chances = self.chances(hu[begin : begin + SLICES_AT_ONCE])[start - begin :]
        organ, tumor = np.moveaxis(chances, -1, 0)
        return decided(organ, tumor, self.thresholds)

    def chances(self, hu: NDArray[np.int16]) -> NDArray[np.float32]:
        """Chances of the organ and of tumour on the slices' own pixels, [slices, r, c, 2]."""
        images = [to_grid(in_window(planes, self.window), self.grid) for planes in hu]
        _, rows, columns, _ = hu.shape
        return to_pixels(self._on_grid(np.stack(images)), rows, columns)

    def _on_grid(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        chances = organ_and_tumor(self._logits(images))
        if self.flips:
            other = organ_and_tumor(self._logits(images[:, :, ::-1]))[:, :, ::-1]
            return np.asarray((chances + other) / 2, dtype=np.float32)
        return chances

    def _logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        answer = self.network.predict_on_batch(np.ascontiguousarray(images))
        finest = answer[0] if isinstance(answer, list) else answer  # a list while it learns
        return np.asarray(finest, dtype=np.float32)


def organ_and_tumor(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Chances of the organ (liver or tumour) and of tumour, [..., 2], from logits [..., 3]."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    tumor = powers[..., 2]
    organ = powers[..., 1] + tumor
    both = np.stack([organ, tumor], axis=-1)
    return np.asarray(both / powers.sum(axis=-1, keepdims=True), dtype=np.float32)
