"""What a trained network says of a case, and how that is kept."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from service.inference.contract import Thresholds
from service.volume import HounsfieldWindow
from training.batches import in_window
from training.grid import to_grid, to_pixels

SLICES_AT_ONCE = 8
"""Bounds the memory of a batch."""


@dataclass(frozen=True)
class Prediction:
    """Of one case, all uint8 [slices, rows, columns]; a probability of 1 is 255.

    `tumor_probability` may be 0 where the label is not tumour. `organ_probability` (liver or
    tumour) is None where the model does not tell it, as a deployed one does not.
    """

    labels: NDArray[np.uint8]
    tumor_probability: NDArray[np.uint8]
    organ_probability: NDArray[np.uint8] | None = None

    def save(self, path: Path) -> None:
        """As one compressed file, which appears as a whole or not at all."""
        organ = self.organ_probability
        optional = {} if organ is None else {"organ_probability": organ}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez_compressed(
                file,
                labels=self.labels,
                tumor_probability=self.tumor_probability,
                **optional,  # type: ignore[arg-type]  # its hint takes them for allow_pickle
            )
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Prediction":
        with np.load(path) as arrays:
            return cls(**arrays)


Predictor = Callable[[NDArray[np.int16]], Prediction]
"""From the Hounsfield units of a case, int16 [slices, rows, columns, context]."""


@dataclass(frozen=True)
class NetworkPredictor:
    """A Keras network with what the deployed graph does around it.

    `flips` adds the slice seen from the other side, and takes the mean of both.
    """

    network: keras.Model
    grid: int
    window: HounsfieldWindow
    thresholds: Thresholds = field(default_factory=Thresholds)
    flips: bool = False

    def __call__(self, hu: NDArray[np.int16]) -> Prediction:
        starts = range(0, len(hu), SLICES_AT_ONCE)
        chances = [self.chances(hu[start : start + SLICES_AT_ONCE]) for start in starts]
        organ, tumor = np.moveaxis(np.concatenate(chances), -1, 0)
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


def decided(
    organ: NDArray[np.floating], tumor: NDArray[np.floating], thresholds: Thresholds
) -> Prediction:
    """First the organ, then tumour within it: tumour is at least its threshold's part of it."""
    is_organ = organ >= thresholds.liver
    is_tumor = is_organ & (tumor >= thresholds.tumor * organ)
    return Prediction(
        labels=is_organ.astype(np.uint8) + is_tumor,
        tumor_probability=np.rint(255 * tumor).astype(np.uint8),
        organ_probability=np.rint(255 * organ).astype(np.uint8),
    )
