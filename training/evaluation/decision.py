"""What becomes of a network's probabilities: thresholds, then the service's own rules."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from service.inference.contract import NO_LIMITS, LesionLimits, Thresholds
from service.inference.postprocess import Grid, Rules, postprocess
from service.volume import AIR_HU
from training.data import Case
from training.evaluation.stack import Stack
from training.prediction import Prediction, decided

Spacing = tuple[float, float, float]
"""Distances of neighbouring voxels in mm: slice, row, column."""

Labels = NDArray[np.uint8]


class Cleaning(BaseModel):
    """The service's rules, all of them, with what a lesion must show to be kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_lesion_mm3: float = Field(0.0, ge=0)
    min_lesion_px: int = Field(0, ge=0, description="where the spacing is not known")
    lesion_limits: LesionLimits = NO_LIMITS

    def __str__(self) -> str:
        size = (
            f"lesions from {self.min_lesion_mm3:g} mm3 ({self.min_lesion_px} voxels where the "
            "spacing is not known)"
        )
        return ", ".join(filter(None, (size, str(self.lesion_limits))))

    def grid(self, spacing_mm: Spacing | None) -> Grid:
        return Grid(spacing_mm, self.min_lesion_mm3, self.min_lesion_px, self.lesion_limits)


class Choice(BaseModel):
    """What a decision was chosen on, where its figures are a little too good."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: tuple[str, ...] = Field(description="names")
    recipe_sha256: str | None = Field(
        None, description="of the runs whose predictions chose; None: not known"
    )
    left_out_tumor_dice: float | None = Field(
        description="mean over cases with tumour, each under the limits of lesions that the "
        "cases of all other patients would choose; None with a single patient with tumour"
    )


class Decision(BaseModel):
    """As the tuning chooses it and an export's contract carries it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    thresholds: Thresholds = Thresholds()
    cleaning: Cleaning = Cleaning()
    chosen: Choice | None = Field(None, description="None where nobody chose it on cases")

    @classmethod
    def read(cls, path: Path) -> "Decision":
        """From JSON. Raises pydantic.ValidationError for what is no decision."""
        return cls.model_validate_json(path.read_text())


@dataclass(frozen=True)
class Space:
    """How slices lie in space: the step between neighbours' numbers, and a spacing to assume where
    a case has none.
    """

    slice_step: int = 1
    assumed_spacing_mm: Spacing | None = None

    def spacing_mm(self, case: Case) -> Spacing | None:
        return case.spacing_mm or self.assumed_spacing_mm

    def stack(self, case: Case) -> Stack:
        return Stack.of(case, self.slice_step)


def decide_again(prediction: Prediction, thresholds: Thresholds) -> Prediction:
    """The prediction with labels by other thresholds.

    Raises ValueError where the organ's probability is not kept.
    """
    if prediction.organ_probability is None:
        raise ValueError("expected probabilities to decide on, found labels only")
    pairs = zip(prediction.organ_probability, prediction.tumor_probability, strict=True)
    return Prediction.joined(  # slice by slice, since floats take four times the memory
        [decided(_part(organ)[None], _part(tumor)[None], thresholds) for organ, tumor in pairs]
    )


def _part(probability: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(probability / np.float32(255), dtype=np.float32)


def clean(labels: Labels, case: Case, space: Space, cleaning: Cleaning) -> Labels:
    """The labels of a case's slices after the service's rules, which see the whole volume."""
    stack = space.stack(case)
    hu = None if cleaning.lesion_limits == NO_LIMITS else stack.fill(case.hu(), AIR_HU)
    cleaned, _ = postprocess(stack.fill(labels), cleaning.grid(space.spacing_mm(case)), Rules(), hu)
    return stack.take(cleaned)
