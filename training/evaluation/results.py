"""The outcome of an evaluation, as it is kept in JSON."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.inference.contract import Thresholds
from training.config import TrainingConfig
from training.data.case import same_name
from training.evaluation.bootstrap import Estimate
from training.evaluation.calibration import Calibration
from training.evaluation.codalab import CodalabDetection, DetectedLesion
from training.evaluation.decision import Choice, Cleaning, Spacing
from training.evaluation.lesions import CaseLesions
from training.evaluation.metrics import Overlap
from training.evaluation.surface import SurfaceDistances

Compat = Literal["paper", "codalab"]
"""`paper` is what is meant; `codalab` is the official scorer, for published tables only."""


BY_SERVICE: Literal["by the service"] = "by the service"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Subject(_Frozen):
    """What is evaluated; None for what its kind does not tell."""

    name: str
    kind: Literal["network", "onnx", "service", "out_of_fold"]
    sha256: str | None = None
    configuration: dict[str, Any] | None = None
    training_slices: int | None = Field(None, description="budget: slices seen while it learned")
    parameters: int | None = None
    trained_on: tuple[str, ...] | None = Field(
        None, description="names of cases, with others of the same patients where these are known"
    )
    folds: dict[str, int] | None = Field(
        None, description="out of fold: the fold that held each case out, where that is known"
    )
    tells_probability: bool = True

    def knows(self, case: str) -> bool:
        """Whether it learned from the case of this name, or from others of its patient.

        Names are all there is to tell by: other content under the same name counts as known.
        """
        return same_name(case) in {same_name(name) for name in self.trained_on or ()}

    @property
    def config(self) -> TrainingConfig | None:
        """Of what was trained here; None for what has only its contract."""
        if self.kind not in ("network", "out_of_fold") or self.configuration is None:
            return None
        return TrainingConfig.model_validate(self.configuration)

    def patients(self) -> dict[str, str]:
        """The patient of each case that is known to share one with others, by name."""
        groups = self.config.same_patient if self.config else ()
        return {name: group[0] for group in groups for name in group}


class Conditions(_Frozen):
    """All that decides the figures beside the subject and the data."""

    compat: Compat = "paper"
    slice_step: int = 1
    assumed_spacing_mm: Spacing | None = None
    thresholds: Thresholds | None = Field(None, description="None: the model's own")
    cleaning: Cleaning | Literal["by the service"] | None = Field(
        None, description="None: labels as the model gives them"
    )
    chosen: Choice | None = Field(None, description="what thresholds and cleaning were chosen on")


class StructureMetrics(_Frozen):
    """Of the liver (with tumour) or of tumour in one case."""

    overlap: Overlap
    surface: SurfaceDistances | None = Field(description="None: one is empty, or no spacing")


class CaseMetrics(_Frozen):
    """One case; its tumour burden is tumour over liver with tumour, 0 without liver."""

    name: str
    patient: str | None = Field(None, description="None: no other case is known to be of the same")
    slices: int
    spacing_mm: Spacing | None
    spacing_assumed: bool = Field(False, description="not told by the data")
    notices: tuple[str, ...] = Field((), description="codes of what the decoder found odd")
    liver: StructureMetrics
    tumor: StructureMetrics
    lesions: CaseLesions
    reference_burden: float
    predicted_burden: float
    codalab: tuple[CodalabDetection, CodalabDetection] | None = Field(
        None, description="compat only: at IoU above 0.5 and above 0"
    )
    detected: tuple[DetectedLesion, ...] | None = Field(None, description="compat only")

    @property
    def has_tumor(self) -> bool:
        return self.tumor.overlap.reference_voxels > 0

    @property
    def burden_error(self) -> float:
        return self.predicted_burden - self.reference_burden


def patients_of(cases: Iterable[CaseMetrics]) -> list[str]:
    """Whose each case is; one that is not known to share its patient stands for itself."""
    return [case.patient or case.name for case in cases]


class Evaluation(_Frozen):
    """Figures of a subject on the cases of one data set."""

    subject: Subject
    conditions: Conditions
    data_sha256: str
    cases: tuple[CaseMetrics, ...]
    figures: dict[str, dict[str, Estimate]] = Field(description="by group and metric")
    calibration: Calibration | None

    @property
    def seen_in_training(self) -> tuple[str, ...]:
        """Names of cases whose patients the subject learned from: their figures say little."""
        return tuple(case.name for case in self.cases if self.subject.knows(case.name))

    @property
    def chose_the_decision(self) -> tuple[str, ...]:
        """Names of cases that thresholds and cleaning were chosen on."""
        chosen = self.conditions.chosen
        known = set(chosen.cases) if chosen else set()
        return tuple(case.name for case in self.cases if case.name in known)

    @property
    def chose_its_decision(self) -> bool:
        """Whether predictions of this very recipe chose thresholds and cleaning."""
        chosen = self.conditions.chosen
        own = self.subject.config
        return chosen is not None and own is not None and chosen.recipe_sha256 == own.recipe_sha256

    @classmethod
    def read(cls, path: Path) -> "Evaluation":
        return cls.model_validate_json(path.read_text())
