"""What all servers are started with: a port, a folder, an end. Linux only, for /proc and pidfds."""

import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"
READY_S = 30
STOP_S = 20


@dataclass(frozen=True)
class Account:
    """Who a server runs as; None is whoever we are."""

    name: str | None = None

    def give(self, path: Path) -> None:
        """Make this file or folder the account's own."""
        if self.name is not None:
            shutil.chown(path, self.name, self._group)

    def check_reach(self, folder: Path) -> None:
        """Raise PermissionError where the account may not go down to the folder."""
        if self.name is None:
            return
        for parent in folder.resolve().parents:
            if not parent.stat().st_mode & 0o001:
                raise PermissionError(
                    f"Expected folders that {self.name} may search, found {parent} closed to it: "
                    "leave the folder out for a temporary one."
                )

    def popen(
        self, command: Iterable[str | Path], log: Path, environment: Mapping[str, str], cwd: Path
    ) -> subprocess.Popen[bytes]:
        """Start a server whose output is appended to a file.

        In a session of its own: a terminal's Ctrl-C does not reach it, and the kernel does not wake
        it from SIGSTOP as it wakes what an ended shell leaves behind.
        """
        with log.open("ab") as sink:
            return subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=cwd,
                env=environment, start_new_session=True, user=self.name, group=self._group,
                extra_groups=None if self.name is None else (),
            )  # fmt: skip

    @property
    def _group(self) -> int | None:
        """By number: it need not be called as the account is."""
        return None if self.name is None else pwd.getpwnam(self.name).pw_gid


@contextmanager
def own_folder(folder: Path | None) -> Iterator[Path]:
    """The folder, made where it is missing; without one, a temporary one that others may search."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="lts-part-", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o755)
        yield Path(made).resolve()


@contextmanager
def held_port() -> Iterator[int]:
    """A free port on loopback that stays ours while the server on it is down.

    A socket that is bound and never listens keeps it from everyone who does not ask for that very
    port; a server sets SO_REUSEADDR too, and may listen on it.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((LOOPBACK, 0))
        yield int(holder.getsockname()[1])


def wait_until(
    done: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, within_s: float = READY_S
) -> None:
    """Ask until it is so.

    Raises RuntimeError with the log's end where the process has ended, TimeoutError where it takes
    too long.
    """
    deadline = time.monotonic() + within_s
    while not done():
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}: {_end_of(log)}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"the server was not so far within {within_s} s: {_end_of(log)}")
        time.sleep(0.02)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def accepts(port: int) -> bool:
    """Whether somebody takes connections on this port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=2).close()
    except OSError:
        return False
    return True


def children(pid: int) -> list[int]:
    """The processes that this one started and that are not yet waited for."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended since
            # The name in brackets may hold anything, brackets too.
            _state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid:
                found.append(int(stat.parent.name))
    return found


def kill_with_children(process: subprocess.Popen[bytes], within_s: float = STOP_S) -> None:
    """`kill -9` of a process and of its children; nothing happens where it has ended.

    It is stopped first, so that it starts no more of them. Raises TimeoutError where one remains.
    """
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    watched = [handle for pid in children(process.pid) if (handle := _watch(pid)) is not None]
    try:
        process.kill()
        process.wait(within_s)
        for handle in watched:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        _wait_ended(watched, within_s)
    finally:
        for handle in watched:
            os.close(handle)


def _watch(pid: int) -> int | None:
    """A handle that means this process even when its number is given to another."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _wait_ended(handles: Iterable[int], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    for handle in handles:
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        if not ended.poll(max(0, deadline - time.monotonic()) * 1000):
            raise TimeoutError(f"a killed process remained for {within_s} s")


def end(process: subprocess.Popen[bytes], number: signal.Signals, within_s: float = STOP_S) -> None:
    """Send a signal and wait for the end. Raises TimeoutError, once the process is killed."""
    if process.poll() is not None:
        return
    process.send_signal(number)
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        kill_with_children(process)
        raise TimeoutError(f"the server did not end within {within_s} s of {number.name}") from None
