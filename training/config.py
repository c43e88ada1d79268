"""What a training run is made of, read from a TOML file and stored with the run."""

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.volume import HounsfieldWindow
from training.files import read_facts

Architecture = Literal["resnet50_unet", "resnet50_fpn", "unet", "unet++"]
Precision = Literal["float32", "mixed_bfloat16"]
_MOST_STAGES = 6  # sides are multiples of 32, which can be halved five times
_NO_RECIPE = {"name", "seed", "validation"}


def _ascending(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError("the first number must not be above the second")
    return ends


Factor = Annotated[float, Field(gt=0)]
Factors = Annotated[tuple[Factor, Factor], AfterValidator(_ascending)]
Parts = Annotated[
    tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]], AfterValidator(_ascending)
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NetworkConfig(_Frozen):
    """Which network, and how wide; `filters` from the coarsest stage to the finest."""

    architecture: Architecture = "resnet50_unet"
    filters: tuple[Annotated[int, Field(gt=0)], ...] = Field((256, 128, 64, 32, 16), min_length=2)
    context: int = Field(1, ge=1, description="slices seen at once, odd; 1 is the slice alone")
    deep_supervision: bool = Field(False, description="scores of coarser stages learn too")
    norm_momentum: float = Field(
        0.99, gt=0, lt=1, description="of the decoder's batch norms; short runs need a lower one"
    )


class NeighbourConfig(_Frozen):
    """The slices beside the labelled one, for a network that sees more than one."""

    step: int = Field(1, ge=1, description="numbers from one to the next when a case is labelled")
    learning_steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1,), min_length=1, description="drawn in training"
    )
    alone: float = Field(
        0.5, ge=0, le=1, description="part of samples whose neighbours are the slice itself"
    )


class SamplingConfig(_Frozen):
    """Slices of each kind in one training batch."""

    with_tumor: int = Field(4, ge=0)
    liver_only: int = Field(3, ge=0)
    without_liver: int = Field(1, ge=0)

    @property
    def batch_size(self) -> int:
        return self.with_tumor + self.liver_only + self.without_liver


class SyntheticLesionConfig(_Frozen):
    """Lesions drawn into slices that show liver and no tumour."""

    probability: float = Field(0.0, ge=0, le=1, description="of such a slice to get lesions")
    most: int = Field(3, ge=1, description="lesions in one slice")
    radius_px: Factors = Field((2.0, 16.0), description="on the grid, log-uniform")
    contrast: Parts = Field((0.08, 0.35), description="darker than the liver, in window widths")
    bright: float = Field(0.15, ge=0, le=1, description="part that is brighter than the liver")


class SyntheticVeinConfig(_Frozen):
    """Dark veins drawn into slices that show liver, without a label of their own."""

    probability: float = Field(0.0, ge=0, le=1, description="of such a slice to get veins")
    most: int = Field(4, ge=1, description="veins in one slice")
    width_px: Factors = Field((2.0, 8.0), description="on the grid, log-uniform")
    contrast: Parts = Field((0.05, 0.3), description="darker than the liver, in window widths")


class AugmentConfig(_Frozen):
    """Ranges of the random changes; every one is drawn anew for each slice."""

    rotation_deg: float = Field(15.0, ge=0, description="rotation, uniform in plus or minus this")
    scale: Factors = Field((0.75, 1.3), description="zoom of the field of view")
    shift: float = Field(0.1, ge=0, description="translation, as a part of the slice's side")
    flip_left_right: float = Field(0.0, ge=0, le=1, description="probability")
    flip_front_back: float = Field(0.0, ge=0, le=1, description="probability")
    elastic: float = Field(0.0, ge=0, description="largest mean bend, as a part of the side")
    contrast: float = Field(
        0.15, ge=0, description="factor around the slice's mean, 1 plus or minus"
    )
    brightness: float = Field(0.1, ge=0, description="offset, in window widths")
    gamma: float = Field(0.2, ge=0, description="exponent, e to the plus or minus")
    noise: float = Field(0.04, ge=0, description="largest standard deviation, in window widths")
    blur_px: float = Field(1.0, ge=0, description="largest Gaussian sigma, in pixels of the grid")
    blur_probability: float = Field(0.2, ge=0, le=1)
    coarse: float = Field(1.0, ge=1, description="largest factor of a simulated coarser scan")
    coarse_probability: float = Field(0.0, ge=0, le=1)
    lesion_contrast: float = Field(
        0.0, ge=0, description="how far lesions leave the liver's grey: 1 minus this to 1 plus this"
    )
    organ_shift: float = Field(
        0.0, ge=0, description="largest shift of the liver's grey, lesions too, in window widths"
    )
    synthetic_lesions: SyntheticLesionConfig = SyntheticLesionConfig()
    synthetic_veins: SyntheticVeinConfig = SyntheticVeinConfig()


class LossConfig(_Frozen):
    """Cross-entropy and an overlap term; `miss` above 0.5 punishes missed pixels more (Tversky)."""

    miss: float = Field(0.5, gt=0, lt=1)
    focus: float = Field(
        0.0, ge=0, description="focal exponent of the cross-entropy, at least 1; 0 is plain"
    )
    tumor_weight: float = Field(1.0, gt=0, description="of the tumour's overlap over the liver's")

    @model_validator(mode="after")
    def _has_a_slope(self) -> "LossConfig":
        if 0 < self.focus < 1:
            raise ValueError("focus must be 0 or at least 1: below, its slope has no bound")
        return self


class OptimizerConfig(_Frozen):
    """AdamW with warm-up and cosine decay."""

    learning_rate: float = Field(4e-4, gt=0)
    warmup_steps: int = Field(100, ge=0)
    weight_decay: float = Field(1e-4, ge=0)
    ema: float | None = Field(None, gt=0, lt=1, description="momentum of the averaged weights")


class ValidationConfig(_Frozen):
    """How often held-out cases are looked at, and when that ends a run."""

    every_epochs: int = Field(0, ge=0, description="0 is never")
    patience: int | None = Field(None, ge=1, description="looks without gain before stopping")


class TrainingConfig(_Frozen):
    """One training run. `seed`, the data and the files named beside it decide its result."""

    name: str
    seed: int = Field(1, ge=0)
    window: HounsfieldWindow
    grid: int = Field(
        256, gt=0, multiple_of=32, description="rows and columns of the network's input"
    )
    network: NetworkConfig = NetworkConfig()
    neighbours: NeighbourConfig = NeighbourConfig()
    sampling: SamplingConfig = SamplingConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    validation: ValidationConfig = ValidationConfig()
    epochs: int = Field(18, ge=1)
    steps_per_epoch: int = Field(100, ge=1)
    crop: int = Field(
        160, gt=0, multiple_of=32, description="side of the crops of the first epochs"
    )
    crop_epochs: int = Field(0, ge=0, description="epochs on crops, before those on the whole grid")
    precision: Precision = Field("float32", description="Keras dtype policy")
    same_patient: tuple[tuple[str, ...], ...] = Field(
        (), description="cases of one patient, who stays in one fold"
    )

    @model_validator(mode="after")
    def _sees_both_sides(self) -> "TrainingConfig":
        if self.network.context % 2 == 0:
            raise ValueError("network.context must be odd: as many neighbours on either side")
        return self

    @model_validator(mode="after")
    def _fits_the_network(self) -> "TrainingConfig":
        network = self.network
        if network.architecture in ("unet", "unet++") and len(network.filters) > _MOST_STAGES:
            raise ValueError(f"network.filters: at most {_MOST_STAGES} stages halve the grid")
        if network.architecture == "resnet50_fpn" and network.deep_supervision:
            raise ValueError("network.deep_supervision: a resnet50_fpn has no coarser scores")
        if self.crop_epochs and self.crop > self.grid:
            raise ValueError("crop must not be above the grid")
        return self

    @model_validator(mode="after")
    def _has_batches(self) -> "TrainingConfig":
        if not self.sampling.batch_size:
            raise ValueError("sampling needs a slice of some kind in each batch")
        return self

    @model_validator(mode="after")
    def _warms_up(self) -> "TrainingConfig":
        if self.optimizer.warmup_steps >= self.epochs * self.steps_per_epoch:
            raise ValueError("optimizer.warmup_steps must be below the steps of the run")
        return self

    @model_validator(mode="after")
    def _can_stop(self) -> "TrainingConfig":
        if self.validation.patience is not None and not self.validation.every_epochs:
            raise ValueError("validation.patience needs validation.every_epochs")
        return self

    @classmethod
    def read(cls, path: Path) -> "TrainingConfig":
        """From TOML; `extends` names a file beside it whose values hold where this one is silent.

        Raises ValueError for what is no TOML, files that extend one another in a circle, unknown
        keys and values out of range, and OSError.
        """
        return cls._of(_fields(path.resolve()), path.name)

    @classmethod
    def of_run(cls, path: Path) -> "TrainingConfig":
        """From the JSON that a run keeps. Raises ValueError and OSError."""
        return cls._of(read_facts(path), str(path))

    @classmethod
    def _of(cls, fields: dict[str, Any], source: str) -> "TrainingConfig":
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise ValueError(f"{source}: {_wrong(error)}") from error

    def recipe(self) -> dict[str, Any]:
        """The settings that make two runs runs of one recipe: all but the name, the seed and how
        held-out cases are looked at, which chooses nothing in a cross-validation.
        """
        return self.model_dump(mode="json", exclude=_NO_RECIPE)

    @property
    def recipe_sha256(self) -> str:
        """Stays the same when a setting comes up later, as long as it has its default."""
        changed = self.model_dump(mode="json", exclude=_NO_RECIPE, exclude_defaults=True)
        return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()

    @property
    def training_slices(self) -> int:
        """Slices, or crops of them, that a whole run sees."""
        return self.epochs * self.steps_per_epoch * self.sampling.batch_size


def _wrong(error: ValidationError) -> str:
    """In one line: which setting, and what is wrong with it."""
    lines = (
        ": ".join(filter(None, (".".join(map(str, one["loc"])), one["msg"])))
        for one in error.errors(include_url=False)
    )
    return "; ".join(lines)


def _fields(path: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path in extended_by:
        raise ValueError(f"{path.name}: expected extends to end somewhere, found a circle")
    try:
        own = tomllib.loads(path.read_text())
    except ValueError as error:  # no TOML, or no text
        raise ValueError(f"{path.name}: {error}") from error
    base = own.pop("extends", None)
    if base is None:
        return own
    if not isinstance(base, str):
        raise ValueError(f"{path.name}: expected extends to name a file, found {base}")
    return _merged(_fields((path.parent / base).resolve(), (*extended_by, path)), own)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        inner = merged.get(key)
        both_tables = isinstance(inner, dict) and isinstance(value, dict)
        merged[key] = _merged(inner or {}, value) if both_tables else value
    return merged
