"""A configuration is whole, or refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from tiny_training import tiny_config

from training.config import LossConfig, TrainingConfig, ValidationConfig
from training.data import Case
from training.data.pairs import find_pairs
from training.folds import patients_of

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.rglob("*.toml")), ids=lambda path: str(path.relative_to(CONFIGS))
)
def test_configurations_are_valid(path: Path) -> None:
    """Every file that comes with the project can be trained."""
    assert TrainingConfig.read(path).training_slices > 0


def test_recipe_is_what_decides_the_network() -> None:
    """Not the name, the seed, or how often held-out cases are looked at; any other setting."""
    config = tiny_config()
    same = config.model_copy(
        update={"name": "x", "seed": 9, "validation": ValidationConfig(every_epochs=3)}
    )
    assert same.recipe() == config.recipe()
    assert same.recipe_sha256 == config.recipe_sha256
    other = config.model_copy(update={"loss": LossConfig(miss=0.7)})
    assert other.recipe_sha256 != config.recipe_sha256


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


def lits_files(folder: Path, number: int) -> None:
    for kind in ("volume", "segmentation"):
        (folder / f"{kind}-{number}.nii").touch()


def decathlon_files(folder: Path, number: int) -> None:
    """Adds a case to the list of the description."""
    description = folder / "dataset.json"
    fields = {"labels": {"0": "background", "1": "liver", "2": "cancer"}, "training": []}
    if description.exists():
        fields = json.loads(description.read_text())
    places = {"image": "imagesTr", "label": "labelsTr"}
    for place in places.values():
        (folder / place).mkdir(exist_ok=True)
        (folder / place / f"liver_{number}.nii.gz").touch()
    entry = {kind: f"./{place}/liver_{number}.nii.gz" for kind, place in places.items()}
    fields["training"] = [*fields["training"], entry]
    description.write_text(json.dumps(fields))


@pytest.mark.parametrize(
    ("layout", "write"), [("lits", lits_files), ("decathlon", decathlon_files)]
)
def test_each_layout_has_a_recipe_that_keeps_its_patients_together(
    tmp_path: Path, layout: str, write: Callable[[Path, int], None]
) -> None:
    """Volumes 7 to 10 by that layout's names, and nothing else than in the recipe for slices."""
    for number in range(12):
        write(tmp_path, number)
    recipe = TrainingConfig.read(CONFIGS / "resnet50_unet.toml")
    config = TrainingConfig.read(CONFIGS / f"resnet50_unet_{layout}.toml")
    cases = [Case(pair.name, (), "0") for pair in find_pairs(tmp_path)[0]]
    patients = patients_of(cases, config.same_patient)
    together = {name for name, patient in patients.items() if patient != name}
    assert {int(re.split("[-_]", name)[1]) for name in together} == {8, 9, 10}
    assert len(set(patients.values())) == 12 - 3
    assert config.model_copy(update={"same_patient": recipe.same_patient}) == recipe


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
        {"optimizer": {"learning_rate": -1}},
        {"optimizer": {"learning_rate": float("nan")}},
        {"optimizer": {"weight_decay": -3}},
        {"optimizer": {"warmup_steps": -5}},
        {"optimizer": {"warmup_steps": 4}},
        {"augment": {"noise": -1}},
        {"augment": {"shift": float("inf")}},
        {"augment": {"scale": (1.3, 0.7)}},
        {"augment": {"synthetic_veins": {"contrast": (0.3, 0.1)}}},
        {"loss": {"focus": 0.5}},
        {"network": {"filters": (8, 0)}},
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object]) -> None:
    """With the field's name in the message."""
    with pytest.raises(ValidationError, match=next(iter(changes))):
        tiny_config(**changes)


def test_training_slices_are_counted() -> None:
    """Epochs times steps times slices a batch."""
    assert tiny_config(epochs=3, steps_per_epoch=5).training_slices == 30


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("extends = 3", "a.toml: expected extends to name a file, found 3"),
        ("name = ", "a.toml: Invalid value"),
        ("[augment]\nnoise = -1", "a.toml: augment.noise: Input should be greater than or equal"),
        ("colour = 1", "a.toml: colour: Extra inputs are not permitted"),
        ("crop = 96\ncrop_epochs = 1\ngrid = 64", "a.toml: Value error, crop must not be above"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path, text: str, found: str) -> None:
    """With the file's name, and that of the setting."""
    (tmp_path / "b.toml").write_text('name = "b"\nwindow = { lower_hu = -40, upper_hu = 160 }\n')
    extends = "" if "extends" in text else 'extends = "b.toml"\n'
    (tmp_path / "a.toml").write_text(extends + text)
    with pytest.raises(ValueError, match=r"a\.toml") as caught:
        TrainingConfig.read(tmp_path / "a.toml")
    assert str(caught.value).startswith(found)
    assert "\n" not in str(caught.value)
