"""What README and docs say is so."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from benchmarks.load import running_service
from service.api.parameters import SegmentParameters
from service.errors import ServiceError
from service.notices import NOTICES
from service.settings import Settings

README = (ROOT / "README.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def codes(kind: type[ServiceError]) -> dict[str, tuple[int, str]]:
    """Status and title of every code."""
    found = {kind.code: (int(kind.status), kind.title)} if hasattr(kind, "code") else {}
    for child in kind.__subclasses__():
        found |= codes(child)
    return found


def settings_rows(document: str) -> dict[str, str]:
    """Setting and default of each row of a table of settings."""
    rows = re.findall(r"^\| `(LTS_\w+)` \| ([^|]*?) *\| [^|]+ \|$", document, re.MULTILINE)
    return {name: default.strip("`").replace(",", "") for name, default in rows}


def shown(value: object) -> set[str]:
    """How a table may show a default."""
    if isinstance(value, Path):
        value = value.relative_to(ROOT) if value.is_absolute() else value
    return {""} if value == () else {str(value), str(value).lower()}


def test_every_setting_is_in_the_operations_guide() -> None:
    """A row for each, with its default and its meaning, and no row for what is not a setting."""
    rows = settings_rows(OPERATIONS)
    assert set(rows) == {f"LTS_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        assert rows[f"LTS_{name.upper()}"] in shown(field.default), name


def test_readme_agrees_with_the_guide() -> None:
    """The few settings that it shows are there, and have the same defaults."""
    few, all_of_them = settings_rows(README), settings_rows(OPERATIONS)
    assert few
    assert few.items() <= all_of_them.items()


def test_every_code_is_documented() -> None:
    """Errors and warnings, each in a table row of docs/api.md."""
    errors, warnings = API.split("## Errors")[1].split("## Warnings")
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (.*) \|$", errors, re.MULTILINE)
    assert {row[0]: (int(row[1]), row[2]) for row in rows} == codes(ServiceError)
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", warnings, re.MULTILINE)) == NOTICES


def test_every_parameter_is_documented() -> None:
    """Those of a request, each in a row of docs/api.md, and no row for what is none."""
    table = API.split("**Parameters**")[1].split("\n\n")[1]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(\w+)", row)]
    assert sorted(names) == sorted(SegmentParameters.model_fields)


def test_links_lead_somewhere() -> None:
    """Relative links of README and docs name files that exist."""
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def examples() -> list[str]:
    """The commands of README's blocks marked as `sh example`."""
    blocks = re.findall(r"```sh example\n(.*?)```", README, re.DOTALL)
    assert blocks
    return blocks


def test_examples_run(tmp_path: Path) -> None:
    """README's commands, word for word, in one shell against a running service.

    But for the phantom's slices: enough for all that they ask for, and a third of what it has else.
    """
    with running_service(device="cpu") as address:
        script = "\n".join(examples()).replace("http://127.0.0.1:8000", address)
        script = script.replace(".venv/bin/python", shlex.quote(sys.executable))
        assert " phantom --out" in script
        script = script.replace(" phantom --out", " phantom --slices 21 --out")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert (tmp_path / "liver.seg.dcm").stat().st_size > 1000
    assert (tmp_path / "everything.zip").stat().st_size > 1000
    assert '"volume_ml"' in (tmp_path / "result.json").read_text()


@pytest.mark.parametrize("name", ["service", "training", "export"])
def test_diagram_names_every_package(name: str) -> None:
    """The architecture diagram shows the three packages."""
    assert re.search(rf"```mermaid.*{name}.*```", README, re.DOTALL)
