"""`python -m service listen` as a process: how it ends, and what a `kill -9` costs."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from dicom_files import series
from highdicom import Volume
from listen.harness import association, kept
from pydicom import Dataset

from benchmarks.listen import (
    Listener,
    Recorder,
    Sender,
    send_through_a_kill,
    series_of,
    store,
    wait,
)
from service.phantom_files import PHANTOM_NAME

# pynetdicom's client forgets to close a socket whose connection was refused.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
def slices(clean_volume: Volume) -> list[Dataset]:
    return series(clean_volume)


def ended(**settings: object) -> subprocess.CompletedProcess[str]:
    """The command where it does not begin to listen."""
    environment = {f"LTS_{name.upper()}": str(value) for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "service", "listen"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def callers(folder: Path) -> Path:
    path = folder / "pacs.toml"
    path.write_text("[callers.SCANNER]\n")
    return path


def test_nobody_may_send(tmp_path: Path) -> None:
    """Without callers there is nobody to listen to, which the command says."""
    done = ended(data_dir=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "Expected callers in LTS_PACS_FILE, found none: nobody may send.\n"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A mistake in the file of callers ends the command in words."""
    callers(tmp_path).write_text("[callers.SCANNER]\ndestination = 'nowhere'\n")
    done = ended(data_dir=tmp_path, pacs_file=tmp_path / "pacs.toml")
    assert done.returncode == 1
    assert "callers.SCANNER" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """The command says so and ends."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ended(data_dir=tmp_path, pacs_file=callers(tmp_path), listen_port=port)
    assert done.returncode == 1
    assert "LTS_LISTEN_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_listener(tmp_path: Path) -> None:
    """One folder has one listener; a service beside it has a lock of its own."""
    folder = tmp_path / "data"
    (folder / "received").mkdir(parents=True)
    with (folder / "received" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = ended(data_dir=folder, pacs_file=callers(tmp_path))
    assert done.returncode == 1
    assert "another process" in done.stderr


def test_end_in_good_order(tmp_path: Path, slices: list[Dataset]) -> None:
    """SIGTERM ends it within seconds, whoever is connected, with everything acknowledged kept."""
    listener = Listener(tmp_path, "http://127.0.0.1:9", {"listen_quiet_s": 60})
    with (
        listener.running() as process,
        association(listener.port, *slices) as made,
        socket.create_connection(("127.0.0.1", listener.port)),  # one that never says anything
    ):
        assert [store(made, dataset) for dataset in slices[:5]] == [0] * 5
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert time.monotonic() - started < 8
        assert store(made, slices[5]) is None
    assert len(kept(tmp_path / "data")) == 5


def test_killed_and_started_again(tmp_path: Path, slices: list[Dataset]) -> None:
    """Every instance acknowledged over four associations is posted, each once; the log is clean."""
    recorder = Recorder(tmp_path)
    with recorder.serving() as address:
        listener = Listener(tmp_path, address, {"listen_quiet_s": 2})
        shares = [series_of(slices[0], 60) for _ in range(4)]
        senders = [Sender(listener.port, share) for share in shares]
        send_through_a_kill(listener, senders, recorder, 20)
    acknowledged = {uid for sender in senders for uid in sender.acknowledged}
    assert len(acknowledged) == 240
    assert recorder.uids().keys() == acknowledged
    assert recorder.uids().total() == 240
    log = listener.log.read_text()
    assert all(json.loads(line)["logger"].startswith("service.") for line in log.splitlines())
    for word in (PHANTOM_NAME, "Petra", "PHANTOM-1", slices[0].StudyInstanceUID, *acknowledged):
        assert word not in log


def test_killed_while_it_posts(tmp_path: Path, slices: list[Dataset]) -> None:
    """A series whose acceptance was not heard is posted again under the same key."""
    recorder = Recorder(tmp_path)
    with recorder.serving() as address:
        listener = Listener(tmp_path, address, {"listen_quiet_s": 0.3})
        recorder.silent = True
        sender = Sender(listener.port, slices[:3])
        with listener.running():
            sender.send()
            assert wait(lambda: recorder.posted, 10)
        recorder.silent = False
        with listener.running():
            assert wait(lambda: not kept(tmp_path / "data"), 10)
    assert len(recorder.posted) > 1
    assert len({posted.headers["Idempotency-Key"] for posted in recorder.posted}) == 1
    assert len({posted.body.read_bytes() for posted in recorder.posted}) == 1
