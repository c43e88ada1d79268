"""The contract's fields that people decide, from a TOML file, and the contract made with them."""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from export.trained import Trained
from service.inference.contract import (
    NO_LIMITS,
    FieldOfView,
    LesionLimits,
    ModelContract,
    SelfTest,
    Thresholds,
    TrainingData,
    Validation,
)
from training.config import Architecture, NetworkConfig, TrainingConfig
from training.evaluation.decision import Cleaning
from training.evaluation.results import Conditions

_ARCHITECTURES: dict[Architecture, str] = {
    "resnet50_unet": "U-Net, ResNet-50 encoder, decoder",
    "resnet50_fpn": "FPN, ResNet-50 encoder, pyramid and head",
    "unet": "U-Net, stages",
    "unet++": "U-Net++, levels",
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataName(_Frozen):
    """Training data without its counts, which the run gives."""

    name: str
    license: str


class ContractFields(_Frozen):
    """One file of `export/contracts/`; the names are those of `ModelContract`."""

    name: str
    version: str
    description: str
    license: str
    thresholds: Thresholds = Thresholds()
    field_of_view: FieldOfView
    min_lesion_mm3: float = Field(ge=0)
    min_lesion_px: int = Field(ge=0)
    lesion_limits: LesionLimits = NO_LIMITS
    training_data: DataName
    limitations: tuple[str, ...] = Field(
        (), description="before those that follow from the run's configuration"
    )

    @classmethod
    def read(cls, path: Path) -> "ContractFields":
        """Raises pydantic.ValidationError for unknown keys and values out of range."""
        return cls.model_validate(tomllib.loads(path.read_text()))

    def decided_as(self, conditions: Conditions) -> "ContractFields":
        """With the thresholds of an out-of-fold evaluation, and what it kept lesions by.

        Kept predictions are decided by the defaults where nothing else was asked for.
        """
        changes: dict[str, object] = {"thresholds": conditions.thresholds or Thresholds()}
        if isinstance(conditions.cleaning, Cleaning):
            changes |= dict(conditions.cleaning)
        return self.model_copy(update=changes)

    def contract(
        self, trained: Trained, validation: Validation, self_test: SelfTest, precision: str
    ) -> ModelContract:
        """The whole contract of one exported file."""
        return ModelContract(
            **self.model_dump(exclude={"training_data", "limitations"}),
            modality="CT",
            architecture=architecture(trained.config.network),
            precision=precision,
            grid=trained.config.grid,
            window=trained.config.window,
            training_data=TrainingData(
                name=self.training_data.name,
                license=self.training_data.license,
                cases=len(trained.cases),
                slices=trained.slices,
                volumes=trained.cases,
                also_known=tuple(sorted({*trained.known_cases} - {*trained.cases})),
            ),
            validation=validation,
            self_test=self_test,
            limitations=(*self.limitations, *limits(trained.config)),
        )


def limits(config: TrainingConfig) -> list[str]:
    """What no network of this configuration can do, in sentences."""
    window = config.window
    sentences = [
        f"CT values outside {window.lower_hu:g} to {window.upper_hu:g} HU cannot be told apart."
    ]
    if config.network.context == 1:
        sentences.append("Each slice is labelled without its neighbours.")
    return sentences


def architecture(network: NetworkConfig) -> str:
    """In words, with the filters from the coarsest stage to the finest."""
    filters = "-".join(str(count) for count in network.filters)
    return f"{_ARCHITECTURES[network.architecture]} {filters}"
