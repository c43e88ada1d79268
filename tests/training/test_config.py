"""A configuration is whole, or refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from tiny_training import tiny_config

from training.config import TrainingConfig

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.rglob("*.toml")), ids=lambda path: str(path.relative_to(CONFIGS))
)
def test_configurations_are_valid(path: Path) -> None:
    """Every file that comes with the project can be trained."""
    assert TrainingConfig.read(path).training_slices > 0


def test_extends_takes_what_a_file_does_not_say(tmp_path: Path) -> None:
    """Tables are merged key by key; everything else is replaced."""
    (tmp_path / "base.toml").write_text(
        'name = "base"\nepochs = 3\n[window]\nlower_hu = -40\nupper_hu = 160\n'
        "[augment]\nnoise = 0.1\ngamma = 0.3\n"
    )
    (tmp_path / "own.toml").write_text(
        'extends = "base.toml"\nname = "own"\n[augment]\nnoise = 0.2\n'
    )
    config = TrainingConfig.read(tmp_path / "own.toml")
    assert (config.name, config.epochs) == ("own", 3)
    assert (config.augment.noise, config.augment.gamma) == (0.2, 0.3)
    assert config.window.upper_hu == 160


def test_files_that_extend_in_a_circle_are_refused(tmp_path: Path) -> None:
    """By the name of the one that closes it, however it is written."""
    (tmp_path / "a.toml").write_text(f'extends = "../{tmp_path.name}/b.toml"')
    (tmp_path / "b.toml").write_text('extends = "a.toml"')
    with pytest.raises(ValueError, match=r"a\.toml: expected extends to end somewhere"):
        TrainingConfig.read(tmp_path / "a.toml")


@pytest.mark.parametrize(
    "changes",
    [
        {"grid": 100},
        {"grid": 0},
        {"seed": -1},
        {"network": {"architecture": "unet", "filters": (8,)}},
        {"sampling": {"with_tumor": 0, "liver_only": 0, "without_liver": 0}},
        {"crop": 50},
        {"epochs": 0},
        {"unknown": 1},
        {"network": {"architecture": "transformer"}},
        {"validation": {"patience": 2}},
        {"augment": {"scale": (0, 1)}},
        {"precision": "mixed_float16"},
        {"neighbours": {"learning_steps": [2, 0]}},
        {"network": {"architecture": "unet", "filters": (2,) * 7}},
        {"network": {"architecture": "resnet50_fpn", "filters": (8, 8), "deep_supervision": True}},
        {"crop": 96, "crop_epochs": 1},
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object]) -> None:
    """With the field's name in the message."""
    with pytest.raises(ValidationError, match=next(iter(changes))):
        tiny_config(**changes)


def test_training_slices_are_counted() -> None:
    """Epochs times steps times slices a batch."""
    assert tiny_config(epochs=3, steps_per_epoch=5).training_slices == 30
