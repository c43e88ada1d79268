"""The contract's fields that people decide, from a TOML file, and the contract made with them."""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from service.inference.contract import (
    FieldOfView,
    ModelContract,
    SelfTest,
    Thresholds,
    TrainingData,
    Validation,
)
from training.config import TrainingConfig
from training.data import LabelledSlice, by_case
from training.evaluate import Report


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataName(_Frozen):
    """Training data without its counts, which the manifest gives."""

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
    training_data: DataName
    validation_method: str
    limitations: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "ContractFields":
        """Raises pydantic.ValidationError for unknown keys and values out of range."""
        return cls.model_validate(tomllib.loads(path.read_text()))

    def contract(
        self,
        config: TrainingConfig,
        training_slices: list[LabelledSlice],
        report: Report,
        self_test: SelfTest,
        precision: str,
    ) -> ModelContract:
        """The whole contract of one exported file, measured by `report` and `self_test`."""
        decided = self.model_dump(exclude={"training_data", "validation_method"})
        decoder = "-".join(str(filters) for filters in config.decoder_filters)
        return ModelContract(
            **decided,
            modality="CT",
            architecture=f"U-Net, ResNet-50 encoder, decoder {decoder}",
            precision=precision,
            grid=config.grid,
            window=config.window,
            training_data=TrainingData(
                name=self.training_data.name,
                license=self.training_data.license,
                cases=len(by_case(training_slices)),
                slices=len(training_slices),
            ),
            validation=validation(self.validation_method, report),
            self_test=self_test,
        )


def validation(method: str, report: Report) -> Validation:
    """The report as the contract writes it, rounded to four digits."""
    return Validation(
        method=method,
        cases=len(report.cases),
        liver_dice_per_case=round(report.liver_dice, 4),
        tumor_dice_per_case=round(report.tumor_dice, 4),
        cases_with_tumor=report.cases_with_tumor,
        per_case={
            case.case: {
                "liver": round(case.liver, 4),
                "tumor": round(case.tumor, 4) if case.has_tumor else None,
            }
            for case in report.cases
        },
    )
