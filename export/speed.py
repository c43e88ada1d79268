"""How many slices a second each precision labels on this machine."""

import platform
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from service.inference.session import ModelSession
from service.phantom import abdomen_hu

BATCH, SIDE = 2, 512
"""Slices of one run, and their rows and columns: what a CT has."""

ROUNDS = 3
"""Of each file, in turn, of which the fastest counts: others use this machine too."""


def slices_per_second(files: Mapping[str, Path]) -> dict[str, float]:
    """By the files' names, as the service would run them on the CPU: a batch on each lane.

    Another measure than that of `training.evaluation.speed`, which gives one session all cores,
    hands it slices one batch after the other, and takes the median.

    Opening them is a check too: the service's own, of contract, signature and self-test. Raises
    `service.errors.InvalidModel`.
    """
    sessions = {name: ModelSession.open(path, "cpu") for name, path in files.items()}
    rounds = [{name: _rate(session) for name, session in sessions.items()} for _ in range(ROUNDS)]
    return {name: round(max(rates[name] for rates in rounds), 1) for name in sessions}


def _rate(session: ModelSession) -> float:
    """Of one run on every lane at once."""
    hu = np.ascontiguousarray(abdomen_hu(1, BATCH, SIDE)[..., None])
    with ThreadPoolExecutor(session.lanes) as pool:
        started = time.perf_counter()
        for run in [pool.submit(session.run, hu) for _ in range(session.lanes)]:
            run.result()
        return BATCH * session.lanes / (time.perf_counter() - started)


def cpu_name() -> str:
    """As the kernel tells it; elsewhere than on Linux the kind of machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
