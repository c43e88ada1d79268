"""Files that appear as a whole, and what they hold in one number."""

import hashlib
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a file as a whole: on a full disk the one before is kept."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    partial.replace(path)


def sha256_of(path: Path) -> str:
    """Of the content, in hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
