"""The blocks of docs/operations.md that tests follow."""

import re
import shlex

from conftest import ROOT
from deploy.engine import compose

GUIDE = (ROOT / "docs" / "operations.md").read_text()


def block(name: str) -> str:
    """The lines of the guide's block with this name, as they stand."""
    (found,) = re.findall(rf"```sh {name}\n(.*?)```", GUIDE, re.DOTALL)
    return str(found)


def commands(name: str) -> str:
    """The same for the compose at hand."""
    return block(name).replace("docker compose", shlex.join(compose()))
