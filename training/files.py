"""Files that appear as a whole, and what they hold in one number."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the path to write to; what is there in the end takes the place of `path` as a whole.

    Where the writing fails, as on a full disk, the file before is kept, and no half of the new one
    takes room. One that a killed process left is written over by the next.
    """
    partial = path.with_name(f"partial.{path.name}")
    try:
        yield partial
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a file as a whole: on a full disk the one before is kept."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def read_facts(path: Path) -> dict[str, Any]:
    """What a JSON file holds. Raises ValueError, which names it, for what is no JSON object, and
    OSError.
    """
    try:
        facts = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, found a damaged file") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{path}: expected a JSON object, found another value")
    return facts


def sha256_of(path: Path) -> str:
    """Of the content, in hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
