"""A request's files on their way in: in memory while small, then in one unnamed file on disk."""

import errno
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from service.errors import StorageFull

IN_MEMORY_BYTES = 1024**2


class Spool:
    """Files one after the other; `begin` starts the next one. Closing it frees everything."""

    def __init__(self, folder: Path | None = None) -> None:
        place = None if folder is None else str(folder)
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=place)  # noqa: SIM115  # closed by close
        self._sizes: list[int] = []
        self._digest = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        with suppress(OSError):  # a full disk once more, for what could not be written before
            self._file.close()

    def begin(self) -> None:
        """Start the next file."""
        self._sizes.append(0)

    def write(self, data: bytes) -> None:
        """Add to the file that was begun last. Raises `StorageFull`."""
        try:
            self._file.write(data)
            self._file.flush()  # else a full disk shows when the files are read
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull("Expected room for the upload, found the disk full.") from error
            raise
        self._sizes[-1] += len(data)
        self._digest.update(data)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of each file."""
        return tuple(self._sizes)

    @property
    def total_bytes(self) -> int:
        return sum(self._sizes)

    @property
    def sha256(self) -> str:
        """Of the files' content and sizes."""
        digest = self._digest.copy()
        digest.update(repr(self._sizes).encode())
        return digest.hexdigest()

    def files(self) -> Iterator[bytes]:
        """Each file's bytes, read as it is asked for."""
        self._file.seek(0)
        for size in self._sizes:
            yield self._file.read(size)

    def content(self) -> bytes | Iterator[bytes]:
        """All files' bytes, one after the other: at once where they are few, else in pieces."""
        return b"".join(self.files()) if self.total_bytes <= IN_MEMORY_BYTES else self.chunks()

    def chunks(self, size: int = 1024**2) -> Iterator[bytes]:
        """The same, always in pieces."""
        self._file.seek(0)
        while chunk := self._file.read(size):
            yield chunk
