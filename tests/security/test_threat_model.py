"""What docs/security.md says is shown, is shown by a test that exists."""

import ast
import re
from pathlib import Path

import pytest
from conftest import ROOT

HERE = Path(__file__).parent

TEXT = (ROOT / "docs" / "security.md").read_text()
THREATS = TEXT.split("## Threats")[1].split("## What is not defended")[0]
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split(" | "))
    for line in THREATS.splitlines()
    if line.startswith("| ") and not line.startswith(("| Threat", "| ---"))
]


CONTROLS = {
    "test_an_honest_token",
    "test_the_service_s_own_page",
    "test_what_is_planted_works",
}
"""Tests that what is honest works, without which the others would show nothing."""


def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_every_threat_has_its_tests(row: tuple[str, ...]) -> None:
    """Each row names what stops it, and tests that are there."""
    assert len(row) == 3
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row[2])
    assert len(named) == row[2].count("::") > 0
    for path, name in named:
        assert name in functions(path), f"{path}::{name}"


@pytest.mark.parametrize("path", sorted(HERE.glob("test_*_attacks.py")), ids=lambda it: it.stem)
def test_every_attack_is_in_the_table(path: Path) -> None:
    """No test of an attack is missing there."""
    tests = {name for name in functions(f"security/{path.name}") if name.startswith("test_")}
    named = set(re.findall(rf"`security/{path.name}::(test_\w+)`", THREATS))
    assert tests - named <= CONTROLS


@pytest.mark.parametrize("place", re.findall(r"`(service/[\w/]+\.py)`", TEXT))
def test_places_in_the_code(place: str) -> None:
    assert (ROOT / place).is_file()
