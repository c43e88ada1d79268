"""Series on disk, from their first instance until the service has them.

    open/NAME      instances still arrive
    whole/NAME     nothing came for a while: it is sent on, or waits for that
    refused/NAME   nothing that the service could segment; kept for a while
    gone/NAME      being deleted

NAME is a hash of the sender and the series, and an id of its own, which is the Idempotency-Key
under which it is sent on. A folder moves by one rename, so that a killed process leaves it in one
place, and an instance has its name once its bytes are on the disk.

Instances may come when their series was taken for whole already. While it waits, it is opened again
and gets a new id: whatever the service may have heard of it was less. While it is being sent, and
afterwards, they begin a folder of their own, which holds only them: the service then gets a series
in two parts. The log says `late_instances`; the quiet period must be longer than any pause that a
sender makes, and than the way of its largest object.
"""

import errno
import hashlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import Buffer

from service.errors import StorageFull
from service.listen.durable import holds, sync_folder, write
from service.listen.instance import Instance

_OPEN, _WHOLE, _REFUSED, _GONE = "open", "whole", "refused", "gone"
_INSTANCE, _PARTIAL = ".dcm", ".part"
_ORIGIN, _PROBLEM = "origin.json", "problem.json"

_REMEMBERED = 4096
"""Series that the service has, to say so where more of one comes later; 100 bytes each."""

_log = structlog.get_logger(__name__)


class Kept(Enum):
    """What became of an instance."""

    NEW = "new"
    REPEATED = "repeated"
    DIFFERS = "duplicate_differs"
    """Another object of this UID came before, and stays."""


class Origin(BaseModel):
    """Who sent a series, and which it is."""

    model_config = ConfigDict(frozen=True)

    caller: str
    series_uid: str


class Problem(BaseModel):
    """Why the service refused a series."""

    status: int
    code: str
    title: str | None


@dataclass
class Series:
    """A series that is whole; `key` stays the same however often it is sent.

    Its sender notes how often that was in vain, why the last time, and when to try again.
    """

    folder: Path
    origin: Origin
    instances: int
    tries: int = 0
    trouble: str = ""
    due: float = 0

    @property
    def key(self) -> str:
        return self.folder.name.rpartition("-")[2]

    @property
    def files(self) -> list[Path]:
        """Always in the same order."""
        return sorted(_instances(self.folder))


@dataclass
class _Growing:
    """A series that is not whole yet; `writing` instances come in at this moment."""

    folder: Path
    origin: Origin
    last: float
    writing: int = 0


class Received:
    """The folder, of one process. Methods block, and any thread may call them."""

    PLACES = (_OPEN, _WHOLE, _REFUSED)
    """Where a series can be that is not gone."""

    def __init__(self, folder: Path, min_free_bytes: int) -> None:
        """Find again what an earlier process left; the quiet period of open series starts anew."""
        self._root = folder
        self._min_free_bytes = min_free_bytes
        self._lock = threading.Lock()
        self._sending: set[str] = set()
        self._sent: dict[str, None] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for place in (_OPEN, _WHOLE, _REFUSED, _GONE):
            (folder / place).mkdir(mode=0o700, exist_ok=True)
        for made in (folder.parent, folder):
            sync_folder(made)
        for left in (folder / _GONE).iterdir():
            shutil.rmtree(left, ignore_errors=True)
        now = time.monotonic()
        self._growing = {
            _series_of(path): _Growing(path, origin, now) for path, origin in self._found(_OPEN)
        }
        self._whole = {
            path.name: Series(path, origin, len(_instances(path)))
            for path, origin in self._found(_WHOLE)
        }

    def free_bytes(self) -> int:
        return shutil.disk_usage(self._root).free

    def count(self, place: str) -> int:
        """Series in one of the places."""
        return sum(1 for _ in (self._root / place).iterdir())

    def add(self, instance: Instance) -> Kept:
        """Keep an instance; it is on the disk when this returns. Raises `StorageFull`."""
        series = _hash(instance.caller, instance.study_uid, instance.series_uid)
        name = _hash(instance.sop_instance_uid) + _INSTANCE
        if (kept := self._repeats_whole(series, name, instance.file)) is not None:
            return kept
        free, wanted = self.free_bytes(), self._min_free_bytes + instance.bytes
        if free < wanted:
            raise StorageFull(f"Expected {wanted} bytes free, found {free}.")
        origin = Origin(caller=instance.caller, series_uid=instance.series_uid)
        try:
            with self._arriving(series, origin) as folder:
                return self._keep(folder / name, instance.file)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull("Expected room for an instance, found none.") from error
            raise

    def close_quiet(self, quiet_s: float) -> list[Series]:
        """Take for whole what got nothing for so long."""
        due = time.monotonic() - quiet_s
        with self._lock:
            quiet = [
                series
                for series, growing in self._growing.items()
                if not growing.writing and growing.last <= due
            ]
            whole = [closed for series in quiet if (closed := self._close(series)) is not None]
        if whole:
            sync_folder(self._root / _OPEN)
            sync_folder(self._root / _WHOLE)
        return whole

    def take(self) -> Series | None:
        """The whole series that waits longest of those that are due.

        Whoever takes it puts it back, removes it or refuses it.
        """
        now = time.monotonic()
        with self._lock:
            for name, series in self._whole.items():
                if name not in self._sending and series.due <= now:
                    self._sending.add(name)
                    return series
        return None

    def put_back(self, series: Series) -> None:
        """Let a series wait again."""
        with self._lock:
            self._sending.discard(series.folder.name)

    def remove(self, series: Series) -> None:
        """Delete a series that the service has."""
        with self._lock:
            gone = self._leave(series, _GONE)
            self._sent[_series_of(series.folder)] = None
            if len(self._sent) > _REMEMBERED:
                del self._sent[next(iter(self._sent))]
        shutil.rmtree(gone, ignore_errors=True)

    def refuse(self, series: Series, problem: Problem) -> None:
        """Put a series aside."""
        with suppress(OSError):  # on a full disk it is put aside without the reason
            write(series.folder / _PROBLEM, (problem.model_dump_json().encode(),))
        os.utime(series.folder)
        with self._lock:
            self._leave(series, _REFUSED)

    def forget_refused(self, older_than_s: float) -> None:
        """Delete what was put aside so long ago."""
        for folder in (self._root / _REFUSED).iterdir():
            if time.time() - folder.stat().st_mtime > older_than_s:
                shutil.rmtree(self._moved(folder, _GONE), ignore_errors=True)

    def _found(self, place: str) -> list[tuple[Path, Origin]]:
        """Folders of an earlier process, the oldest first, without what it had not finished."""
        found = []
        for folder in sorted((self._root / place).iterdir(), key=lambda path: path.stat().st_mtime):
            if not folder.is_dir():
                continue
            try:
                for partial in folder.glob(f"*{_PARTIAL}"):
                    partial.unlink()
                origin = Origin.model_validate_json((folder / _ORIGIN).read_bytes())
            except (OSError, ValidationError):
                if _instances(folder):
                    _log.error("series without its origin", code="damaged_folder")
                else:  # it was just being made
                    shutil.rmtree(folder)
            else:
                found.append((folder, origin))
        return found

    def _repeats_whole(self, series: str, name: str, file: Sequence[Buffer]) -> Kept | None:
        """What `add` answers for an instance of a series that is whole and not the service's yet;
        None for one that it does not have.
        """
        with self._lock:
            folders = [it.folder for it in self._whole.values() if _series_of(it.folder) == series]
        for folder in folders:
            if (same := holds(folder / name, file)) is not None:
                return Kept.REPEATED if same else Kept.DIFFERS
        return None

    @contextmanager
    def _arriving(self, series: str, origin: Origin) -> Iterator[Path]:
        """The folder of a series, which stays open while the block runs."""
        with self._lock:
            growing = self._growing.get(series) or self._opened(series, origin)
            growing.writing += 1
        try:
            yield growing.folder
        finally:
            with self._lock:
                growing.writing -= 1
                growing.last = time.monotonic()

    def _keep(self, path: Path, file: Sequence[Buffer]) -> Kept:
        is_new = not path.exists() and self._put(path, file)
        sync_folder(path.parent)
        if is_new:
            return Kept.NEW
        return Kept.REPEATED if holds(path, file) else Kept.DIFFERS

    def _put(self, path: Path, file: Sequence[Buffer]) -> bool:
        """Write an instance; False where another association was faster with the same one."""
        partial = path.with_suffix(f".{uuid.uuid4().hex}{_PARTIAL}")
        try:
            write(partial, file)
            with self._lock:
                if path.exists():
                    return False
                partial.rename(path)
                return True
        finally:
            partial.unlink(missing_ok=True)

    def _opened(self, series: str, origin: Origin) -> _Growing:
        """A folder for a series that has no open one; with the lock."""
        folder = self._root / _OPEN / f"{series}-{uuid.uuid4().hex}"
        earlier = [it for it in self._whole.values() if _series_of(it.folder) == series]
        waiting = [it for it in earlier if it.folder.name not in self._sending]
        if earlier or series in self._sent:
            _log.warning(
                "more of a series that was whole", code="late_instances", caller=origin.caller
            )
        if waiting:
            waiting[-1].folder.rename(folder)
            del self._whole[waiting[-1].folder.name]
        else:
            _make(folder, origin)
        sync_folder(folder.parent)
        self._growing[series] = _Growing(folder, origin, time.monotonic())
        return self._growing[series]

    def _close(self, series: str) -> Series | None:
        """Take one for whole, None where nothing of it was kept; with the lock."""
        growing = self._growing[series]
        instances = len(_instances(growing.folder))
        moved = self._moved(growing.folder, _WHOLE if instances else _GONE)
        del self._growing[series]
        if not instances:
            shutil.rmtree(moved, ignore_errors=True)
            return None
        self._whole[moved.name] = Series(moved, growing.origin, instances)
        return self._whole[moved.name]

    def _leave(self, series: Series, place: str) -> Path:
        """Move a series that was taken out of those that wait; with the lock."""
        moved = self._moved(series.folder, place)
        del self._whole[series.folder.name]
        self._sending.discard(series.folder.name)
        return moved

    def _moved(self, folder: Path, place: str) -> Path:
        return folder.rename(self._root / place / folder.name)


def _make(folder: Path, origin: Origin) -> None:
    folder.mkdir(mode=0o700)
    try:
        write(folder / _ORIGIN, (origin.model_dump_json().encode(),))
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _instances(folder: Path) -> list[Path]:
    return list(folder.glob(f"*{_INSTANCE}"))


def _series_of(folder: Path) -> str:
    return folder.name.partition("-")[0]


def _hash(*parts: str) -> str:
    """A name that tells nothing of what it is made of."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
