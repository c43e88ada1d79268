"""What is said of a case, and how that is kept; needs no training framework."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.inference.contract import Thresholds


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
