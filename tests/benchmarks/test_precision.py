"""What the benchmark of int8 says of a profile."""

from typing import Any

import pytest

pytest.importorskip("onnx")

from benchmarks.precision import operator_lines


def event(operator: str, node: str, microseconds: int) -> dict[str, Any]:
    return {
        "name": f"{node}_kernel_time",
        "dur": microseconds,
        "args": {"op_name": operator},
    }


def test_operators_sum_the_least_time_of_their_nodes() -> None:
    """Of two slices, the slowest operator first, without what takes under a hundredth."""
    events = [
        event("Conv", "first", 8000),
        event("Conv", "first", 6000),
        event("Conv", "second", 2000),
        event("Add", "sum", 3000),
        event("Add", "sum", 2000),
        event("Shape", "shape", 10),
        {"name": "session_initialization", "dur": 99999},
    ]
    assert operator_lines(events) == ["| Conv | 4.0 | 80% |", "| Add | 1.0 | 20% |"]
