"""What people decide about a model, and what follows from its run instead."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

from export.fields import ContractFields
from export.measure import CaseDice, DiceReport
from export.trained import Trained
from service.inference.contract import NO_LIMITS, LesionLimits, SelfTest
from service.volume import HounsfieldWindow

CONTRACTS = sorted((ROOT / "export/contracts").glob("*.toml"))


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_what_follows_from_the_run_is_not_typed(path: Path) -> None:
    """No count of volumes, no window, and nothing of neighbours: the run's own would differ."""
    fields = ContractFields.read(path)
    typed = " ".join((fields.training_data.name, *fields.limitations))
    assert not re.search(r"\d+ (cases|slices|volumes)|HU|neighbours", typed)


@pytest.mark.parametrize("context", [1, 3])
def test_limits_follow_from_the_runs_configuration(
    fields: ContractFields, trained: Trained, context: int
) -> None:
    """After those that people wrote: its window, and that a slice is seen alone, where it is."""
    network = trained.config.network.model_copy(update={"context": context})
    window = HounsfieldWindow(lower_hu=-100, upper_hu=400)
    config = trained.config.model_copy(update={"window": window, "network": network})
    validation = DiceReport((CaseDice("volume-001", 0.9, 0.5),)).validation("by hand")
    expected = SelfTest(seed=7, size=64, slices=2, liver_voxels=9, tumor_voxels=1, tolerance=0.05)
    contract = fields.contract(replace(trained, config=config), validation, expected, "int8")
    alone = ["Each slice is labelled without its neighbours."] if context == 1 else []
    assert list(contract.limitations) == [
        *fields.limitations,
        "CT values outside -100 to 400 HU cannot be told apart.",
        *alone,
    ]


def test_limits_of_lesions(fields: ContractFields, trained: Trained, tmp_path: Path) -> None:
    """A file may set them, and a contract is made with them; none of them are needed."""
    assert fields.lesion_limits == NO_LIMITS
    path = tmp_path / "fields.toml"
    text = (ROOT / "export/contracts/phantom.toml").read_text()
    path.write_text(text + "\n[lesion_limits]\nsurrounded = 0.4\nfluid_hu = 25\n")
    validation = DiceReport((CaseDice("volume-001", 0.9, 0.5),)).validation("by hand")
    expected = SelfTest(seed=7, size=64, slices=2, liver_voxels=9, tumor_voxels=1, tolerance=0.05)
    contract = ContractFields.read(path).contract(trained, validation, expected, "int8")
    assert contract.lesion_limits == LesionLimits(surrounded=0.4, fluid_hu=25, contrast_hu=0)
    path.write_text(text + "\n[lesion_limits]\nsurrounded = 40\n")
    with pytest.raises(ValueError, match=r"lesion_limits\.surrounded"):
        ContractFields.read(path)
