"""The record of an export and its documentation."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from export.record import ExportRecord

TRAINING = (Path(__file__).parents[2] / "docs/training.md").read_text()


def keys(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Of all figures, with dots between the levels."""
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if inner:
            yield from keys(inner[0], f"{before}{name}.")
        else:
            yield before + name


def test_every_key_is_documented() -> None:
    """A row for each in docs/training.md, and no row for what is no key."""
    table = TRAINING.split("| Key of `export.json` |")[1].split("\n\n")[0]
    documented = [
        name
        for first in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
        for name in re.findall(r"`([\w.]+)`", first)
    ]
    assert documented == list(keys(ExportRecord))
