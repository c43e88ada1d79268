"""What a model says of itself: written by the export into the ONNX file, read by the service.

The contract travels as one JSON document in the ONNX metadata under `METADATA_KEY`. Both sides use
these classes, so a model whose contract the service does not understand is never ready.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.volume import LIVER_LABEL, TUMOR_LABEL, HounsfieldWindow

METADATA_KEY = "segmentation_contract"
"""Key of the contract in the ONNX model's metadata."""

INPUT_NAME = "hu"
"""Graph input: int16 Hounsfield units [slices, rows, columns, context]."""

OUTPUT_NAMES = ("labels", "tumor_probability")
"""Graph outputs: both uint8 [slices, rows, columns]; a probability of 1 is 255."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Code(_Frozen):
    """A coded concept as DICOM writes it: value, scheme, meaning."""

    value: str
    scheme: str
    meaning: str


class SegmentClass(_Frozen):
    """One value of the label map and the concept it stands for."""

    label: int = Field(ge=1, le=255)
    name: str
    category: Code
    type: Code


LIVER_CODE = Code(value="10200004", scheme="SCT", meaning="Liver")

LIVER = SegmentClass(
    label=LIVER_LABEL,
    name="liver",
    category=Code(value="91723000", scheme="SCT", meaning="Anatomical Structure"),
    type=LIVER_CODE,
)
TUMOR = SegmentClass(
    label=TUMOR_LABEL,
    name="tumor",
    category=Code(value="49755003", scheme="SCT", meaning="Morphologically Abnormal Structure"),
    type=Code(value="108369006", scheme="SCT", meaning="Neoplasm"),
)


class Context(_Frozen):
    """Neighbouring slices that the network sees beside the one it labels."""

    slices: int = Field(1, ge=1, description="odd; 1 is the slice alone")
    distance_mm: float | None = Field(None, gt=0, description="step between them; None for 1")

    @model_validator(mode="after")
    def _is_symmetric(self) -> Self:
        if self.slices % 2 == 0:
            raise ValueError("context slices must be odd")
        if (self.slices > 1) != (self.distance_mm is not None):
            raise ValueError("distance_mm belongs to a context of more than one slice")
        return self


class Thresholds(_Frozen):
    """Decision on the class probabilities: organ first (liver or tumour), tumour within it."""

    liver: float = Field(0.5, gt=0, lt=1)
    tumor: float = Field(0.5, gt=0, lt=1)


class LesionLimits(_Frozen):
    """What a lesion must show to be kept; by default every lesion does."""

    surrounded: float = Field(
        0.0, ge=0, le=1, description="least part of what is around it, in its slices, that is liver"
    )
    fluid_hu: float | None = Field(
        None,
        description="a lesion of a lower mean, more than 40 HU darker than the liver, is fluid",
    )
    contrast_hu: float = Field(
        0.0, ge=0, description="least difference of its mean to that of the liver around it"
    )

    def __str__(self) -> str:
        """What is asked of a lesion, in words; empty where nothing is."""
        asked = []
        if self.surrounded:
            asked.append(f"at least {self.surrounded:.0%} of what is around it liver")
        if self.fluid_hu is not None:
            asked.append(f"no fluid (a mean under {self.fluid_hu:g} HU in a brighter liver)")
        if self.contrast_hu:
            asked.append(f"at least {self.contrast_hu:g} HU from the liver around it")
        return ", ".join(asked)


NO_LIMITS = LesionLimits()


class FieldOfView(_Frozen):
    """Sides of the square field of view seen in training; beyond them a result warns."""

    smallest_mm: float = Field(gt=0)
    largest_mm: float = Field(gt=0)

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.smallest_mm > self.largest_mm:
            raise ValueError("smallest_mm must not be above largest_mm")
        return self


class TrainingData(_Frozen):
    """What the model learned from."""

    name: str
    license: str
    cases: int = Field(ge=0)
    slices: int = Field(ge=0)
    volumes: tuple[str, ...] = Field((), description="names of the cases; empty if not told")
    also_known: tuple[str, ...] = Field(
        (),
        description="names of other cases that are none to measure by: of the same patients, or "
        "they chose the network",
    )

    @model_validator(mode="after")
    def _names_all_or_none(self) -> Self:
        if self.volumes and len(self.volumes) != self.cases:
            raise ValueError(f"expected {self.cases} volumes, found {len(self.volumes)}")
        return self


class Validation(_Frozen):
    """How the metrics were obtained, in numbers and in a sentence."""

    method: str
    cases: int = Field(ge=0)
    liver_dice_per_case: float = Field(ge=0, le=1, description="mean over all cases")
    tumor_dice_per_case: float = Field(
        ge=0, le=1, description="mean over the cases that have tumour"
    )
    cases_with_tumor: int = Field(ge=0)
    per_case: dict[str, dict[str, float | None]] = Field(
        default_factory=dict, description="Dice by case; tumour null where there is none"
    )


class SelfTest(_Frozen):
    """A phantom the model must label as it did when it was exported.

    The tolerance is a part of the expected count: CPU and GPU round differently.
    """

    seed: int
    size: int = Field(gt=0, description="rows and columns of the phantom's slices")
    slices: int = Field(gt=0)
    liver_voxels: int = Field(ge=0, description="voxels of liver with tumour")
    tumor_voxels: int = Field(ge=0)
    tolerance: float = Field(gt=0, lt=1, description="part of the liver's voxels")

    def accepts(self, liver_voxels: int, tumor_voxels: int) -> bool:
        """Whether these counts are those expected, within rounding.

        Tumour may be off by five times the liver's tolerance, of its own count: it is small, and
        most of a small thing is border.
        """
        liver_off = abs(liver_voxels - self.liver_voxels)
        tumor_off = abs(tumor_voxels - self.tumor_voxels)
        least = self.tolerance * self.liver_voxels / 20
        return liver_off <= self.tolerance * self.liver_voxels and tumor_off <= max(
            5 * self.tolerance * self.tumor_voxels, least
        )


class ModelContract(_Frozen):
    """Everything that the service, its callers and its results need to know of a model."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    version: str
    description: str
    license: str
    modality: Literal["CT"] = Field(description="as DICOM writes it in Modality")
    architecture: str
    precision: str
    grid: int = Field(gt=0, description="rows and columns of the network's own square grid")
    context: Context = Context()
    window: HounsfieldWindow
    classes: tuple[SegmentClass, ...] = (LIVER, TUMOR)
    thresholds: Thresholds = Thresholds()
    field_of_view: FieldOfView
    min_lesion_mm3: float = Field(ge=0, description="smaller lesions are dropped")
    min_lesion_px: int = Field(ge=0, description="the same where the spacing is not known")
    lesion_limits: LesionLimits = NO_LIMITS
    training_data: TrainingData
    validation: Validation
    self_test: SelfTest
    limitations: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _labels_liver_and_tumor(self) -> Self:
        if [item.label for item in self.classes] != [LIVER_LABEL, TUMOR_LABEL]:
            raise ValueError("classes must be liver (label 1) and tumour (label 2)")
        return self
