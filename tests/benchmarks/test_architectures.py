"""The benchmark of architectures measures the network that a configuration describes."""

import pytest
from tiny_training import tiny_config

pytest.importorskip("tensorflow")

from benchmarks.architectures import line


def test_a_line_holds_size_and_speed() -> None:
    """Of a plain U-Net with filters (8, 4): its weights counted by hand, and what it took."""
    cells = [cell.strip() for cell in line(tiny_config()).strip("| ").split("|")]
    name, grid, parameters, megabytes, speed = cells
    assert (name, grid) == ("tiny", "64")
    convolutions = 9 * (1 * 4 + 4 * 4 + 4 * 8 + 8 * 8 + (8 + 4) * 4 + 4 * 4) + 4 * 3 + 3
    norms = 4 * (4 + 4 + 8 + 8 + 4 + 4)
    assert parameters == f"{convolutions + norms:,}"
    assert 0 < float(megabytes) < 1
    assert float(speed) > 0
