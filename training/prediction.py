"""What is said of a case, and how that is kept; needs no training framework."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.inference.contract import Thresholds
from training.files import replacing


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
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(
                file,
                labels=self.labels,
                tumor_probability=self.tumor_probability,
                **optional,  # type: ignore[arg-type]  # its hint takes them for allow_pickle
            )

    @classmethod
    def load(cls, path: Path) -> "Prediction":
        """Raises ValueError for a damaged file."""
        with path.open("rb") as file:
            try:
                with np.load(file) as arrays:
                    return cls(**arrays)
            except MemoryError:
                raise
            except Exception as error:  # NumPy raises nearly anything for a damaged file
                raise ValueError(
                    f"{path.stem}: expected kept predictions, found a damaged file"
                ) from error

    @classmethod
    def joined(cls, parts: "Sequence[Prediction]") -> "Prediction":
        """Of one case after the other's slices; without the organ's where a part has none."""
        organ = [part.organ_probability for part in parts if part.organ_probability is not None]
        return cls(
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.tumor_probability for part in parts]),
            np.concatenate(organ) if len(organ) == len(parts) else None,
        )


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
