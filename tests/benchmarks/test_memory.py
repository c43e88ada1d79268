"""The figures for docs/performance.md measure what they say."""

import mmap
import os

import pytest

from benchmarks.memory import reset_peak, resident_mb, series_zip
from service.decode import decode
from service.decode.options import DecodeOptions


def test_peak_is_that_since_the_reset() -> None:
    """Memory that was taken and given back counts until the next reset."""
    pid = os.getpid()
    reset_peak(pid)
    before = resident_mb(pid, "VmHWM")
    # Pages straight from the kernel: malloc may hand out those that an earlier test left.
    with mmap.mmap(-1, 200_000_000, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as taken:
        for page in range(0, len(taken), mmap.PAGESIZE):
            taken[page] = 1
    assert resident_mb(pid, "VmHWM") - before > 150
    reset_peak(pid)
    assert resident_mb(pid, "VmHWM") - before < 60


def test_series_has_the_wanted_size(options: DecodeOptions) -> None:
    """Repeated slices make a regular series of the phantom's height."""
    volume = decode([series_zip(120, 32)], options).volume
    assert volume.spatial_shape == (120, 32, 32)
    assert volume.spacing == pytest.approx((1.5, 12.5, 12.5))
