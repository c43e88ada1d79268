"""What outlives a request: uploads and results as objects, by key, in one folder or bucket.

A put is atomic: a process killed in the middle of it leaves the old object or none. In a folder
that holds for a killed process; a power cut may lose what the system had not yet written.
"""

import errno
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store
from pydantic import SecretStr
from typing_extensions import Buffer

from service.errors import ForeignStore, StorageFull, Unavailable

if TYPE_CHECKING:
    from obstore.store import S3Config

_NO_SPACE = re.compile(rf"os error ({errno.ENOSPC}|{errno.EDQUOT})\b")
"""As the object store's messages name a full disk, and a quota that is used up."""

_RECORD_BYTES = 1024**2
"""SQLite takes a few pages for a job's step; the rest is for others who write meanwhile."""

_UNFINISHED = re.compile(r".*#\d+")
"""Files that the local store writes before it renames them."""


MARK = "service-id"
"""The key that says whose a shared store is."""

_YOUNG_S = 3600
"""Another process may still be writing an unfinished file that is younger."""


class BucketKeys(NamedTuple):
    """By which a bucket knows the service."""

    access_key: SecretStr
    secret_key: SecretStr


class Store:
    """Objects by key. Methods block: any thread may call them, the event loop none.

    They raise `Unavailable` where a bucket or a shared folder cannot be reached.
    """

    def __init__(
        self,
        objects: ObjectStore,
        spool: Path,
        min_free_bytes: int,
        folder: Path | None = None,
        is_shared: bool = True,
    ) -> None:
        """`spool` is on the disk that must have room; `folder` where the objects are files."""
        self._objects = objects
        self._disks = [spool] if folder is None else [spool, folder]
        self._min_free_bytes = min_free_bytes
        self._is_shared = is_shared

    @classmethod
    def open(
        cls,
        url: str | None,
        folder: Path,
        spool: Path,
        min_free_bytes: int,
        bucket_keys: BucketKeys | None = None,
    ) -> "Store":
        """The store at `url`, else the folder, which is made where it is missing.

        A bucket without keys takes the environment's, or the machine's role.

        What a killed process left unfinished in a folder is cleared.
        """
        if url is not None and not url.startswith("file:"):
            return cls(_bucket(url, bucket_keys), spool, min_free_bytes)
        is_own = url is None
        if url is not None:
            folder = Path(unquote(urlsplit(url).path))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _clear_unfinished(folder, older_s=0 if is_own else _YOUNG_S)
        objects = LocalStore(prefix=folder, mkdir=True, automatic_cleanup=True)
        return cls(objects, spool, min_free_bytes, folder, is_shared=not is_own)

    def mark(self, service_id: str) -> None:
        """Note in a shared store whose it is. Raises `ForeignStore` where it is another's.

        Each service deletes what none of its own jobs knows.
        """
        if not self._is_shared:
            return
        found = self.get(MARK)
        if found is None:
            self.put(MARK, service_id.encode())
        elif found != service_id.encode():
            raise ForeignStore(
                "Expected a bucket or folder that no other database knows: take another prefix."
            )

    def check_mark(self) -> None:
        """Raise `Unavailable` where what is missing may be the store itself, as one not mounted."""
        if self._is_shared and self.get(MARK) is None:
            raise Unavailable("Expected the store with its mark, found none.")

    def is_reachable(self) -> bool:
        """Whether what is kept can be read; a folder of this process always can."""
        try:
            self.check_mark()
        except Unavailable:
            return False
        return True

    def check_space(self, needed_bytes: int = 0) -> None:
        """Raise `StorageFull` unless so many bytes and the reserve are free."""
        self._check_free(self._min_free_bytes + needed_bytes)

    def check_records(self) -> None:
        """Raise `StorageFull` unless there is room to note how far a job is."""
        self._check_free(_RECORD_BYTES)

    def _check_free(self, wanted: int) -> None:
        for disk in self._disks:
            free = shutil.disk_usage(disk).free
            if free < wanted:
                raise StorageFull(f"Expected {wanted} bytes free, found {free}.")

    def put(self, key: str, data: Buffer | Iterable[Buffer]) -> None:
        """Write an object, or replace it. Raises `StorageFull`."""
        with self._mapped():
            obstore.put(self._objects, key, data)

    def get(self, key: str) -> bytes | None:
        """An object's bytes, None where there is none."""
        with self._mapped(), suppress(FileNotFoundError):
            return bytes(obstore.get(self._objects, key).bytes())
        return None

    def get_range(self, key: str, start: int, length: int) -> bytes | None:
        """Some of an object's bytes, None where there is no such object (and some are wanted)."""
        if not length:
            return b""
        with self._mapped(), suppress(FileNotFoundError):
            return bytes(obstore.get_range(self._objects, key, start=start, length=length))
        return None

    def prefixes(self) -> list[str]:
        """The first parts of all keys."""
        with self._mapped():
            return list(obstore.list_with_delimiter(self._objects)["common_prefixes"])

    def keys(self, prefix: str) -> list[str]:
        """The keys under a prefix, in their order."""
        with self._mapped():
            batches = obstore.list(self._objects, prefix)
            return sorted(item["path"] for batch in batches for item in batch)

    def delete(self, key: str) -> None:
        """Delete an object; nothing happens where there is none."""
        with self._mapped(), suppress(FileNotFoundError):
            obstore.delete(self._objects, key)

    def delete_all(self, prefix: str) -> None:
        """Delete every object under a prefix; nothing happens where there is none."""
        for key in self.keys(prefix):
            self.delete(key)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except BaseError as error:
            if _NO_SPACE.search(str(error)):
                raise StorageFull("Expected room for the data, found the disk full.") from error
            if self._is_shared:
                raise Unavailable("Expected the object store to answer, found none.") from error
            raise


def _bucket(url: str, keys: BucketKeys | None) -> ObjectStore:
    """Its requests fail soon: whoever works on a job tries again, a client is told to."""
    config: S3Config = {}
    if keys is not None:
        config["access_key_id"] = keys.access_key.get_secret_value()
        config["secret_access_key"] = keys.secret_key.get_secret_value()
    return S3Store.from_url(
        url,
        config=config,
        client_options={
            "connect_timeout": "2s",
            "read_timeout": "10s",
            "timeout": "15m",
            "allow_http": True,
        },
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=5)},
    )


def _clear_unfinished(folder: Path, older_s: float) -> None:
    before = time.time() - older_s
    for path in folder.rglob("*#*"):
        with suppress(FileNotFoundError):
            if _UNFINISHED.fullmatch(path.name) and path.stat().st_mtime <= before:
                path.unlink()
