"""Who strikes in `make fault` does so within bounds, and the truth that it is held to is one."""

import random
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from reliability.fault.chaos import SEVERAL, Chaos, works_for
from reliability.fault.cluster import Node
from reliability.fault.phantoms import SIZE, SLICES, _check_truth, truth
from reliability.process import Wrong
from service.jobs.worker import MAX_ATTEMPTS
from service.phantom import Phantom


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A process that does nothing, in the place of a worker."""
    made = Node("worker 1", ["worker"], tmp_path / "data", 1, {})
    made.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield made
    made.kill()


def chaos_over(node: Node, attempts: int) -> Chaos:
    """Chaos over one worker, which holds a job that was tried so often."""
    row = SimpleNamespace(id="a", executor=f"h-o-s-t-{node.pid}-abc", attempts=attempts)
    registry = SimpleNamespace(newest=lambda *_: [row])
    made = Chaos(SimpleNamespace(nodes=(node,)), registry, random.Random(1), SEVERAL)
    made._ready.add(node.name)
    return made


def test_a_worker_is_killed_and_what_it_held_is_noted(node: Node) -> None:
    """Of the jobs in the registry those that this process works on."""
    chaos = chaos_over(node, 1)
    assert chaos._strike_node("kill -9 of a worker", "worker")
    assert node.process.poll() == -signal.SIGKILL
    assert [strike.held for strike in chaos.strikes] == [{"a"}]
    assert not chaos._strike_node("kill -9 of a worker", "worker")  # it is down


def test_nobody_is_made_to_give_up_a_job(node: Node) -> None:
    """A worker is left alone whose job was tried almost as often as it may be."""
    chaos = chaos_over(node, MAX_ATTEMPTS - 1)
    assert not chaos._strike_node("kill -9 of a worker", "worker")
    assert node.process.poll() is None
    assert (chaos.put_off, chaos.strikes) == (1, [])


def test_a_process_that_ends_by_itself_is_seen(node: Node) -> None:
    """Nobody struck it."""
    node.process.kill()
    node.process.wait()
    with pytest.raises(Wrong, match="worker 1 ended by itself with -9"):
        chaos_over(node, 1)._tick()


def test_an_end_with_an_error_is_seen(node: Node) -> None:
    """After SIGTERM a process must end with 0."""
    chaos = chaos_over(node, 1)
    chaos._ready.add(node.name)
    assert chaos._strike_node("SIGTERM of a worker", "worker")
    node.process.wait()
    with pytest.raises(Wrong, match="ended with -15"):
        chaos._tick()


def test_whose_job_it_is() -> None:
    """An executor is named by host, process and start; a host's name may hold hyphens."""
    assert works_for(SimpleNamespace(executor="a-17-b-18-ffffff"), 18)
    assert not works_for(SimpleNamespace(executor="a-17-b-18-ffffff"), 17)
    assert not works_for(SimpleNamespace(executor=None), 18)


def test_the_truth_is_the_phantoms(tmp_path: Path) -> None:
    """Every format's labels are the phantom's; those of another phantom are not."""
    known = truth(tmp_path)
    assert len(known.studies) == len(known.results) == 14
    other = Phantom.draw(99)
    labels = np.asarray(other.sample(SLICES, SIZE, noise_hu=0)[1].array)
    for name, result in known.results.items():
        with pytest.raises(Wrong, match="other labels"):
            _check_truth(name, result, other, labels)
