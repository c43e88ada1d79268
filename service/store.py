"""What outlives a request: uploads and results as objects, by key, under one folder.

A put is atomic: a process killed in the middle of it leaves the old object or none. That holds for
a killed process; a power cut may lose what the operating system had not yet written.
"""

import errno
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore
from typing_extensions import Buffer

from service.errors import StorageFull

_NO_SPACE = re.compile(rf"os error ({errno.ENOSPC}|{errno.EDQUOT})\b")
"""As the object store's messages name a full disk, and a quota that is used up."""

_RECORD_BYTES = 1024**2
"""SQLite takes a few pages for a job's step; the rest is for others who write meanwhile."""

_UNFINISHED = re.compile(r".*#\d+")
"""Files that the local store writes before it renames them."""


class Store:
    """Objects in a folder. Methods block: any thread may call them, the event loop none."""

    def __init__(self, folder: Path, min_free_bytes: int) -> None:
        """Make the folder where it is missing, and clear what a killed process left unfinished."""
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in folder.rglob("*#*"):
            if path.is_file() and _UNFINISHED.fullmatch(path.name):
                path.unlink(missing_ok=True)
        self._objects = LocalStore(prefix=folder, mkdir=True, automatic_cleanup=True)

    def check_space(self, needed_bytes: int = 0) -> None:
        """Raise `StorageFull` unless so many bytes and the reserve are free."""
        self._check_free(self._min_free_bytes + needed_bytes)

    def check_records(self) -> None:
        """Raise `StorageFull` unless there is room to note how far a job is."""
        self._check_free(_RECORD_BYTES)

    def _check_free(self, wanted: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < wanted:
            raise StorageFull(f"Expected {wanted} bytes free, found {free}.")

    def put(self, key: str, data: Buffer | Iterable[Buffer]) -> None:
        """Write an object, or replace it. Raises `StorageFull`."""
        try:
            obstore.put(self._objects, key, data)
        except BaseError as error:
            raise _storage_error(error) from error

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless the key is taken; says whether it was written."""
        try:
            obstore.put(self._objects, key, data, mode="create")
        except AlreadyExistsError:
            return False
        except BaseError as error:
            raise _storage_error(error) from error
        return True

    def get(self, key: str) -> bytes | None:
        """An object's bytes, None where there is none."""
        try:
            return bytes(obstore.get(self._objects, key).bytes())
        except FileNotFoundError:
            return None

    def get_range(self, key: str, start: int, length: int) -> bytes | None:
        """Some of an object's bytes, None where there is no such object."""
        try:
            return bytes(obstore.get_range(self._objects, key, start=start, length=length))
        except FileNotFoundError:
            return None

    def prefixes(self) -> list[str]:
        """The first parts of all keys."""
        return list(obstore.list_with_delimiter(self._objects)["common_prefixes"])

    def keys(self, prefix: str) -> list[str]:
        """The keys under a prefix, in their order."""
        batches = obstore.list(self._objects, prefix)
        return sorted(item["path"] for batch in batches for item in batch)

    def delete(self, key: str) -> None:
        """Delete an object; nothing happens where there is none."""
        with suppress(FileNotFoundError):
            obstore.delete(self._objects, key)

    def delete_all(self, prefix: str, but: str | None = None) -> None:
        """Delete every object under a prefix but one; nothing happens where there is none."""
        for batch in obstore.list(self._objects, prefix):
            for item in batch:
                if item["path"] != but:
                    self.delete(item["path"])


def _storage_error(error: BaseError) -> Exception:
    if _NO_SPACE.search(str(error)):
        return StorageFull("Expected room for the data, found the disk full.")
    return error
