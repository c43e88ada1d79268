"""Instances to series on disk: when one is whole, what comes late, and what a restart finds."""

import io
import os
import threading
import time
from pathlib import Path

import pytest
from listen.harness import events

from service.listen import received
from service.listen.instance import Instance
from service.listen.received import Kept, Problem, Received, Series

HOUR_S = 3600


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "received"


def instance(number: int, content: bytes = b"content", **changes: str) -> Instance:
    uids = {"caller": "SCANNER", "study_uid": "1.2", "series_uid": "1.2.3"} | changes
    return Instance(**uids, sop_instance_uid=f"1.2.3.{number}", file=(b"head", content))


def only_whole(found: Received) -> Series:
    """The one series that is whole when nothing more comes."""
    (series,) = found.close_quiet(0)
    return series


def test_every_instance_begins_the_quiet_period_anew(folder: Path) -> None:
    """A series is whole when nothing came for so long, whatever may have been meant to follow."""
    found = Received(folder, 0)
    found.add(instance(1))
    time.sleep(0.2)
    found.add(instance(2))
    assert found.close_quiet(0.15) == []
    time.sleep(0.2)
    (series,) = found.close_quiet(0.15)
    assert len(series.files) == 2


def test_a_slow_disk_ends_no_series(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A series is not whole while one of its instances is written."""
    found = Received(folder, 0)
    found.add(instance(1))
    began, go, real = threading.Event(), threading.Event(), received.write

    def slow(path: Path, parts: tuple[bytes, ...]) -> None:
        began.set()
        assert go.wait(10)
        real(path, parts)

    monkeypatch.setattr(received, "write", slow)
    thread = threading.Thread(target=found.add, args=(instance(2),))
    thread.start()
    assert began.wait(10)
    assert found.close_quiet(0) == []
    go.set()
    thread.join(10)
    assert len(only_whole(found).files) == 2


@pytest.mark.parametrize("other", ["caller", "study_uid", "series_uid"])
def test_series_do_not_mix(folder: Path, other: str) -> None:
    """Another series is another folder, and so is the same one from another caller."""
    found = Received(folder, 0)
    found.add(instance(1))
    found.add(instance(1, **{other: "9"}))
    first, second = found.close_quiet(0)
    assert first.key != second.key
    assert len(first.files) == len(second.files) == 1


def test_late_while_it_waits(folder: Path, logged: io.StringIO) -> None:
    """What comes while its series waits joins it, and the whole is sent under another key."""
    found = Received(folder, 0)
    found.add(instance(1))
    before = only_whole(found)
    series = found.take()
    assert series is before
    found.put_back(series)
    assert found.add(instance(2)) is Kept.NEW
    assert found.take() is None
    after = only_whole(found)
    assert len(after.files) == 2
    assert after.key != before.key
    assert events(logged, "more of a series that was whole")[0]["code"] == "late_instances"


def test_repeats_do_not_open_a_series_again(folder: Path) -> None:
    """An instance that waits in a series already is answered, and the series stays as it is."""
    found = Received(folder, 0)
    found.add(instance(1))
    before = only_whole(found)
    assert found.add(instance(1)) is Kept.REPEATED
    assert found.add(instance(1, b"other")) is Kept.DIFFERS
    assert found.close_quiet(0) == []
    assert found.take() is before
    assert found.add(instance(1)) is Kept.REPEATED  # also while it is being sent
    assert found.close_quiet(0) == []


@pytest.mark.parametrize("sent", [False, True])
def test_late_when_it_is_sent(folder: Path, sent: bool, logged: io.StringIO) -> None:
    """What comes while a series is being sent, or afterwards, is a part of its own."""
    found = Received(folder, 0)
    found.add(instance(1))
    before = only_whole(found)
    assert found.take() is before
    if sent:
        found.remove(before)
    assert found.add(instance(2)) is Kept.NEW
    after = only_whole(found)
    assert after.key != before.key
    assert len(after.files) == 1
    assert before.folder.exists() is not sent
    assert events(logged, "more of a series that was whole")[0]["code"] == "late_instances"


def test_restart(folder: Path) -> None:
    """What was open is open, what was whole waits under its key, and nothing half is there."""
    found = Received(folder, 0)
    found.add(instance(1))
    whole = only_whole(found)
    found.add(instance(2, series_uid="9"))
    (growing,) = (folder / "open").iterdir()
    (growing / "half.1.part").write_bytes(b"half")
    unfinished = folder / "open" / "abc-def"
    unfinished.mkdir()  # a series whose first instance was about to come
    (folder / "gone" / "abc-def").mkdir()

    again = Received(folder, 0)
    assert [path.name for path in (folder / "open").iterdir()] == [growing.name]
    assert not list(folder.rglob("*.part"))
    assert not list((folder / "gone").iterdir())
    taken = again.take()
    assert taken == whole
    assert len(taken.files) == taken.instances == 1
    assert again.close_quiet(60) == []  # its quiet period starts anew
    assert again.add(instance(3, series_uid="9")) is Kept.NEW
    assert len(only_whole(again).files) == 2


def test_a_damaged_folder_is_left_alone(folder: Path, logged: io.StringIO) -> None:
    """Instances whose sender cannot be told any more are not deleted, and the log says so."""
    found = Received(folder, 0)
    found.add(instance(1))
    series = only_whole(found)
    (series.folder / "origin.json").write_bytes(b"{")
    assert Received(folder, 0).take() is None
    assert len(series.files) == 1
    assert events(logged, "series without its origin")[0]["code"] == "damaged_folder"


def test_longest_wait_first(folder: Path) -> None:
    """Series are sent in the order in which they became whole, after a restart too."""
    found = Received(folder, 0)
    for number in range(3):
        found.add(instance(1, series_uid=f"9.{number}"))
        os.utime(only_whole(found).folder, (number, number))
    again = Received(folder, 0)
    for number in range(3):
        series = again.take()
        assert series is not None
        assert series.origin.series_uid == f"9.{number}"


def test_series_that_are_not_due(folder: Path) -> None:
    """One that is to be tried later is passed over."""
    found = Received(folder, 0)
    found.add(instance(1))
    only_whole(found).due = time.monotonic() + 0.2
    assert found.take() is None
    time.sleep(0.25)
    assert found.take() is not None


def test_refused(folder: Path) -> None:
    """A series that is refused is kept with the reason, for as many hours as the settings say."""
    found = Received(folder, 0)
    found.add(instance(1))
    series = only_whole(found)
    assert found.take() is series
    found.refuse(series, Problem(status=422, code="no_ct_series", title="No CT."))
    (refused,) = (folder / "refused").iterdir()
    problem = Problem.model_validate_json((refused / "problem.json").read_bytes())
    assert (problem.status, problem.code, problem.title) == (422, "no_ct_series", "No CT.")
    found.forget_refused(HOUR_S)
    assert refused.exists()
    two_hours_ago = time.time() - 2 * HOUR_S
    os.utime(refused, (two_hours_ago, two_hours_ago))
    found.forget_refused(HOUR_S)
    assert not refused.exists()
    assert not list((folder / "gone").iterdir())


def test_folders_are_private(folder: Path) -> None:
    """Nobody else on the machine reads what was received."""
    found = Received(folder, 0)
    found.add(instance(1))
    modes = {path.stat().st_mode & 0o077 for path in (folder, *folder.rglob("*"))}
    assert modes == {0}
