"""Instances to series: when one is whole, what comes late, and what a restart finds."""

import io
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from dicom_files import series
from highdicom import Volume
from listen.harness import events, kept, listening, names, nothing_happens, send, whole
from pydicom import Dataset

from benchmarks.listen import Recorder, wait
from service.errors import StorageFull
from service.listen import received
from service.listen.instance import Instance
from service.listen.received import Kept, Problem, Received


@pytest.fixture
def slices(clean_volume: Volume) -> list[Dataset]:
    return series(clean_volume)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "received"


def instance(number: int, content: bytes = b"content", series_uid: str = "1.2.3") -> Instance:
    return Instance("SCANNER", "1.2", series_uid, f"1.2.3.{number}", (b"head", content))


def test_a_series_is_posted_once(tmp_path: Path, slices: list[Dataset]) -> None:
    """After the quiet period all instances of a series are in one POST, and nothing is left."""
    recorder = Recorder(tmp_path)
    with recorder.serving() as address, listening(tmp_path / "data", address) as port:
        for dataset in slices:  # each over an association of its own
            assert send(port, dataset) == [0]
        assert wait(lambda: recorder.posted, 10)
        assert nothing_happens(lambda: len(recorder.posted) > 1)
        assert wait(lambda: not whole(tmp_path / "data"), 5)
    assert sorted(recorder.posted[0].uids) == sorted(it.SOPInstanceUID for it in slices)
    assert kept(tmp_path / "data") == []


def test_series_do_not_mix(tmp_path: Path, slices: list[Dataset]) -> None:
    """Two series at the same time are two POSTs, and so is one series from two callers."""
    ...


def test_a_series_that_stops_half_way(folder: Path) -> None:
    """What came is whole after the quiet period, which every instance begins anew."""
    found = Received(folder, 0)
    found.add(instance(1))
    time.sleep(0.2)
    found.add(instance(2))
    assert found.close_quiet(0.15) == []
    time.sleep(0.2)
    (closed,) = found.close_quiet(0.15)
    assert len(closed.files) == 2


def test_no_series_is_whole_while_an_instance_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a disk takes, the instance belongs to its series."""
    found = Received(folder, 0)
    found.add(instance(1))
    began, go, real = threading.Event(), threading.Event(), received.write

    def slow(*arguments: object) -> None:
        began.set()
        assert go.wait(10)
        real(*arguments)

    monkeypatch.setattr(received, "write", slow)
    thread = threading.Thread(target=found.add, args=(instance(2),))
    thread.start()
    assert began.wait(10)
    assert found.close_quiet(0) == []
    go.set()
    thread.join(10)
    assert len(found.close_quiet(0)[0].files) == 2
