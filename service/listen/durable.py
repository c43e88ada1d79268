"""Files that are on the disk, not only written, when a function returns."""

import os
from collections.abc import Sequence
from pathlib import Path

from typing_extensions import Buffer


def write(path: Path, parts: Sequence[Buffer]) -> None:
    """Write a new file, for its owner only. Its name is on the disk once its folder is synced."""
    with open(path, "xb", buffering=0, opener=_private) as file:
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[file.write(rest) or 0 :]
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring names that were made, renamed or deleted in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def holds(path: Path, parts: Sequence[Buffer]) -> bool | None:
    """Whether a file holds just these bytes; None where there is no file."""
    try:
        with path.open("rb") as file:
            same = all(file.read(memoryview(part).nbytes) == part for part in parts)
            return same and not file.read(1)
    except FileNotFoundError:
        return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
