"""What an export was and measured, as `export.json` beside its files."""

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class NetworkRecord(_Frozen):
    architecture: str = Field(description="as in the run's configuration")
    filters: tuple[int, ...]
    grid: int = Field(description="rows and columns of the network's input")
    parameters: int
    training_slices: int = Field(
        description="slices, or crops of them, that the run drew; fewer than planned where it "
        "stopped early"
    )


class DriftRecord(_Frozen):
    """Keras and the float32 graph."""

    pixels: int = Field(description="compared")
    largest_probability_difference: float = Field(description="of organ and tumour, at most 0.001")
    differing_labels: int
    widest_gap: float = Field(
        description="between the two best scores where labels differ, at most 0.001"
    )


class AgreementRecord(_Frozen):
    """Another precision and the float32 graph, on the synthetic abdomen at several sizes."""

    label_agreement: float = Field(description="part of the pixels with the same label")
    organ_dice: float
    tumor_dice: float


class GpuRecord(_Frozen):
    """int8 and the graph that `python -m export gpu` makes of it; null where it makes none."""

    label_agreement: float | None
    organ_dice: float | None
    tumor_dice: float | None
    accepted: bool = Field(description="false: that command refuses this file")


class DiceRecord(_Frozen):
    liver: float = Field(description="mean Dice over the cases")
    tumor: float | None = Field(description="the same over cases with tumour; null without any")


class RoundingRecord(_Frozen):
    """What int8 costs: the same slices through both files."""

    held_out: bool = Field(description="false where the run learned from these cases")
    cases: int
    slices: int
    float32: DiceRecord
    int8: DiceRecord


class SpeedRecord(_Frozen):
    """Slices a second as `export.speed` measures them."""

    float32: float
    float16: float = Field(description="on a CPU through casts; it is meant for a GPU")
    int8: float
    cpu: str
    cores: int
    batch: int = Field(description="slices of 512 x 512 in one run, a run on each lane")


class FileRecord(_Frozen):
    name: str
    bytes: int
    sha256: str


class ExportRecord(_Frozen):
    """The whole of `export.json`."""

    network: NetworkRecord
    keras_and_float32: DriftRecord
    float32_and_float16: AgreementRecord
    float32_and_int8: AgreementRecord
    int8_and_gpu: GpuRecord
    rounding: RoundingRecord
    slices_per_second: SpeedRecord
    files: tuple[FileRecord, ...]
