"""The figures for docs/performance.md measure what they say."""

import os

import numpy as np
import pytest

from benchmarks.memory import reset_peak, resident_mb, series_zip
from service.decode import decode
from service.decode.options import DecodeOptions


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux")  # noqa: PTH110
def test_peak_is_that_since_the_reset() -> None:
    """Memory that was taken and given back counts until the next reset."""
    pid = os.getpid()
    reset_peak(pid)
    before = resident_mb(pid, "VmHWM")
    np.ones(100_000_000, dtype=np.uint8).sum()
    assert resident_mb(pid, "VmHWM") - before > 80
    reset_peak(pid)
    assert resident_mb(pid, "VmHWM") - before < 60


def test_series_has_the_wanted_size(options: DecodeOptions) -> None:
    """Repeated slices make a regular series of the phantom's height."""
    volume = decode([series_zip(120, 32)], options).volume
    assert volume.spatial_shape == (120, 32, 32)
    assert volume.spacing == pytest.approx((1.5, 12.5, 12.5))
