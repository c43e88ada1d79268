"""How a process that serves for long uses memory: few pools, rare collections, and a bound."""

import ctypes
import gc
import resource
from contextlib import suppress
from pathlib import Path

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""glibc's malloc.h."""

_OF_ITS_OWN_BYTES = 256 * 1024
"""From this size on, as a slice is, an allocation is the system's own and goes back at once."""


def collect_rarely() -> None:
    """Let full garbage collections be rare, and leave out of them what lives for ever.

    A collection holds every thread, and goes over all objects: while headers of a series are read
    and a SEG is made of them there were 15 of up to 0.5 s, in which nobody got an answer. Rarer
    still, at a tenth of this, memory grew by 75 MB within three minutes of load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)


def keep_little() -> None:
    """Let all threads allocate from two pools of the C library, and volumes from none of them.

    It gives each of some 40 threads a pool of its own, and each keeps what its largest volume took:
    under mixed load that came to 920 MB, with two pools to 640 MB. What is as large as a slice lies
    in no pool, or holes between slices would cost 290 MB while a volume of 600 is read.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, _OF_ITS_OWN_BYTES)


def bound(max_bytes: int) -> None:
    """Let an allocation fail that would take this process beyond so much memory; 0: all there is.

    The system would end the process instead, with all that it works on. What it may have is the
    container's limit, or the machine's memory, less a twentieth. The bound is one of what is
    reserved and private, which is more than what is used: what that was by now comes on top.
    """
    allowed = max_bytes or _available() * 19 // 20
    used, reserved = _status_bytes("VmRSS"), _status_bytes("VmData")
    if allowed and reserved:
        limit = reserved + max(0, allowed - used)
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or limit <= hard:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _available() -> int:
    """Bytes that this process may use: the control group's, or the machine's; 0 if not known."""
    found = []
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # `max` is no number
            found.append(int(Path(path).read_text()))
    with suppress(OSError, ValueError, IndexError):
        total = Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0]
        found.append(int(total) * 1024)
    return min(found, default=0)


def _status_bytes(name: str) -> int:
    """A figure of /proc/self/status; 0 if not known."""
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{name}:")[1].split()[0]) * 1024
    return 0
