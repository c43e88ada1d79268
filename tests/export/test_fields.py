"""What people decide about a model, and what follows from its run instead."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

from export.fields import ContractFields
from export.measure import CaseDice, DiceReport
from export.trained import Trained
from service.inference.contract import SelfTest
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
