"""How a process that serves for long uses memory: few pools, and rare collections."""

import ctypes
import gc

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
