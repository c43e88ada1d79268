"""Cases are unpacked once, whoever else does so or was stopped."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from service.phantom import Phantom
from training.data import open_dataset


def test_prepared_files_are_made_once_and_follow_their_source(pair: Path, tmp_path: Path) -> None:
    """A second look reads nothing anew; another source is another case."""
    prepared = tmp_path / "prepared"
    first = open_dataset(pair, prepared)
    made = {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}
    assert open_dataset(pair, prepared).sha256 == first.sha256
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*")} == made
    image = nibabel.load(pair / "volume-0.nii")
    changed = np.asarray(image.dataobj).copy()  # type: ignore[attr-defined]
    changed[0, 0, 0] += 1
    nibabel.save(nibabel.Nifti1Image(changed, image.affine), pair / "volume-0.nii")  # type: ignore[attr-defined]
    assert open_dataset(pair, prepared).sha256 != first.sha256


def test_slices_leave_no_file_open(pair: Path, tmp_path: Path) -> None:
    """A data set may have more cases than a process may have files."""
    (case,) = open_dataset(pair, tmp_path / "prepared").cases
    assert case.hu().shape == case.labels().shape
    opened = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert not [path for path in opened if path.startswith(str(tmp_path))]
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_half_prepared_files_are_made_anew(pair: Path, tmp_path: Path) -> None:
    """A preparation that was killed leaves no case behind."""
    prepared = tmp_path / "prepared"
    first = open_dataset(pair, prepared)
    (next(prepared.iterdir()) / "case.json").unlink()
    (next(prepared.iterdir()) / "hu.npy").write_bytes(b"half")
    again = open_dataset(pair, prepared)
    assert np.array_equal(again.cases[0].hu(), first.cases[0].hu())


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "hu.npy").write_bytes((folder / "hu.npy").read_bytes()[:5000]),
        lambda folder: (folder / "labels.npy").unlink(),
        lambda folder: (folder / "case.json").write_text(""),
        lambda folder: np.save(folder / "hu.npy", np.zeros((2, 64, 64), np.int16)),
    ],
)
def test_damaged_prepared_files_are_made_anew(
    pair: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """Cut off, gone, or of another case: found before a run begins."""
    prepared = tmp_path / "prepared"
    first = open_dataset(pair, prepared)
    hu, labels = first.cases[0].hu(), first.cases[0].labels()
    damage(next(prepared.iterdir()))
    again = open_dataset(pair, prepared)
    assert np.array_equal(again.cases[0].hu(), hu)
    assert np.array_equal(again.cases[0].labels(), labels)
    assert again.sha256 == first.sha256


def in_the_middle(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Lets it happen once, when the arrays of a case are written and its note is not."""
    dumps = json.dumps

    def interrupted(note: object) -> str:
        monkeypatch.undo()
        happens()
        return dumps(note)

    monkeypatch.setattr("training.data.nifti.json.dumps", interrupted)


def test_two_may_prepare_the_same_pair(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second takes what the first one made, and leaves nothing of its own."""
    prepared = tmp_path / "prepared"
    first: list[int] = []

    def another_one() -> None:
        open_dataset(pair, prepared)
        first.extend(path.stat().st_ino for path in prepared.glob("*/hu.npy"))

    in_the_middle(monkeypatch, another_one)
    case = open_dataset(pair, prepared).cases[0]
    assert np.array_equal(case.labels(), np.asarray(Phantom.draw(0).sample(8, 64, 0)[1].array))
    assert [path.stat().st_ino for path in prepared.glob("*/hu.npy")] == first
    assert len(list(prepared.iterdir())) == 1


def test_what_a_killed_process_left_is_harmless(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its half-made folder is no case, and the next one makes the case beside it."""
    prepared, killed = tmp_path / "prepared", tmp_path / "killed"
    in_the_middle(monkeypatch, lambda: shutil.copytree(prepared, killed))
    whole = open_dataset(pair, prepared)
    assert list(killed.rglob("hu.npy"))
    assert not list(killed.rglob("case.json"))
    assert open_dataset(pair, killed).sha256 == whole.sha256
    assert len(list(killed.rglob("case.json"))) == 1


def test_a_stopped_preparation_leaves_nothing(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the disk is full, which its half-made files would keep full."""

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    in_the_middle(monkeypatch, full)
    with pytest.raises(OSError, match="No space left"):
        open_dataset(pair, tmp_path / "prepared")
    assert list((tmp_path / "prepared").iterdir()) == []
