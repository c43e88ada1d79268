"""What a training run is made of, read from a TOML file and stored with the run."""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from service.volume import HounsfieldWindow


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SamplingConfig(_Frozen):
    """Slices of each kind in one training batch."""

    with_tumor: int = Field(4, ge=0)
    liver_only: int = Field(3, ge=0)
    without_liver: int = Field(1, ge=0)

    @property
    def batch_size(self) -> int:
        return self.with_tumor + self.liver_only + self.without_liver


class AugmentConfig(_Frozen):
    """Ranges of the random changes; every one is drawn anew for each slice."""

    rotation_deg: float = Field(15.0, description="rotation, uniform in plus or minus this")
    scale: tuple[float, float] = Field((0.75, 1.3), description="zoom of the field of view")
    shift: float = Field(0.1, description="translation, as a part of the slice's side")
    contrast: float = Field(0.15, description="factor around the slice's mean, 1 plus or minus")
    brightness: float = Field(0.1, description="offset, in window widths")
    gamma: float = Field(0.2, description="exponent, e to the plus or minus")
    noise: float = Field(0.04, description="largest standard deviation, in window widths")
    blur_px: float = Field(1.0, description="largest Gaussian sigma, in pixels of the source")
    blur_probability: float = 0.2


class TrainingConfig(_Frozen):
    """One training run. `seed` and the files named here decide its result."""

    name: str
    seed: int = 1
    window: HounsfieldWindow
    grid: int = Field(256, description="rows and columns of the network's input")
    decoder_filters: tuple[int, int, int, int, int] = (256, 128, 64, 32, 16)
    sampling: SamplingConfig = SamplingConfig()
    augment: AugmentConfig = AugmentConfig()
    epochs: int = 18
    steps_per_epoch: int = 100
    crop: int = Field(160, description="side of the crops of the first epochs; a multiple of 32")
    crop_epochs: int = Field(0, ge=0, description="epochs on crops, before those on the whole grid")
    learning_rate: float = 4e-4
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    precision: str = Field("float32", description="Keras dtype policy, e.g. mixed_bfloat16")

    @classmethod
    def read(cls, path: Path) -> "TrainingConfig":
        """Raises pydantic.ValidationError for unknown keys and values out of range."""
        return cls.model_validate(tomllib.loads(path.read_text()))
