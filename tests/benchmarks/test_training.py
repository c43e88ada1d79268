"""What the benchmark of training measures and prints."""

import time
from pathlib import Path

import pytest

pytest.importorskip("keras")

from benchmarks.training import WARM_UP, main, per_step
from training.phantom import write_phantoms

CONFIG = Path(__file__).parents[2] / "training/configs/phantom.toml"


def test_waiting_takes_time_and_no_processor() -> None:
    """Each of the counted steps, and none of the first ones."""
    taken = iter([0.2] * WARM_UP + [0.02] * 5)
    seconds, cpu_seconds = per_step(lambda: time.sleep(next(taken)), 5)
    assert 0.02 <= seconds < 0.2
    assert cpu_seconds < 0.02


def test_a_line_for_each_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On phantoms, with the size of the configuration's batches."""
    write_phantoms(tmp_path / "data", cases=2, slices=8, size=64)
    main(CONFIG, tmp_path / "data", steps=2, prepared=tmp_path / "prepared")
    printed = capsys.readouterr().out
    assert "phantom: 4 slices of 64 x 64" in printed
    assert [line.split(" | ")[0] for line in printed.splitlines()[4:]] == [
        "| learning alone",
        "| with its batch",
    ]
