"""Files as a tar archive that is made while it is sent: the same bytes whenever it is."""

import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

_CHUNK_BYTES = 1024**2
_END = bytes(2 * tarfile.BLOCKSIZE)
"""Two empty blocks (POSIX.1-1988)."""


class Tar:
    """An archive of known length; going through it reads the files, each time from the start."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._sizes = {path: path.stat().st_size for path in files}

    def __len__(self) -> int:
        padded = [-(-size // tarfile.BLOCKSIZE) for size in self._sizes.values()]
        return tarfile.BLOCKSIZE * (sum(padded) + len(padded)) + len(_END)

    def __iter__(self) -> Iterator[bytes]:
        """Raises `OSError`, also for a file that is not as long any more."""
        for path, size in self._sizes.items():
            yield from _entry(path, size)
        yield _END


def _entry(path: Path, size: int) -> Iterator[bytes]:
    header = tarfile.TarInfo(path.name)  # of no owner, and of 1970
    header.size = size
    yield header.tobuf(tarfile.USTAR_FORMAT)
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != size:
            raise OSError("the file has another length than before")
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
    yield bytes(-size % tarfile.BLOCKSIZE)
