"""The comparison of one worker with two adds up."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.cluster import cpu_s, family_cpu_s
from benchmarks.load import service_process
from benchmarks.scaling import Timed, report

BURN = "import time\nwhile time.process_time() < 0.5: pass"


def test_the_ratio_is_the_median_of_the_rounds(capsys) -> None:
    """A round that something disturbed does not decide; CPU is told by who took it."""
    timed = [
        [Timed(one, {"workers": 10.0, "API": 0.5}), Timed(two, {"workers": 10.0, "API": 0.6})]
        for one, two in ((5.0, 9.5), (5.0, 9.4), (5.0, 6.0))
    ]
    assert report(timed, [5.0, 9.9]) == pytest.approx(1.88)
    printed = capsys.readouterr().out
    assert "| CPU for each job, API | 0.50 s | 0.60 s |" in printed
    assert "| all of it but the workers' | 0.50 s | 0.60 s |" in printed


def test_cpu_of_a_process_and_its_children_is_counted() -> None:
    """Children count while they run, and once they have ended."""
    before = cpu_s(os.getpid()), family_cpu_s(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", f"{BURN}\nimport time; time.sleep(60)"])
    try:
        deadline = time.monotonic() + 30
        while family_cpu_s(os.getpid()) - before[1] < 0.45:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        child.kill()
        child.wait()
    assert family_cpu_s(os.getpid()) - before[1] >= 0.45
    assert cpu_s(os.getpid()) - before[0] < 5


def test_a_process_keeps_to_its_cores() -> None:
    """Every thread of a service that is given a core stays there, and we stay where we were."""
    ours = os.sched_getaffinity(0)
    core = min(ours)
    with service_process(cores=[core], device="cpu") as service:
        threads = [int(path.name) for path in Path(f"/proc/{service.pid}/task").iterdir()]
        assert all(os.sched_getaffinity(thread) == {core} for thread in threads)
    assert os.sched_getaffinity(0) == ours
