"""A store that several processes share says whose it is, and whether it is there at all."""

from pathlib import Path

import pytest

from service.errors import ForeignStore, Unavailable
from service.store import Store


def shared(folder: Path) -> Store:
    return Store.open(folder.as_uri(), folder / "unused", folder.parent, min_free_bytes=0)


def test_a_store_belongs_to_one_database(tmp_path: Path) -> None:
    """The first to mark it has it, in every process; another database is refused."""
    shared(tmp_path / "share").mark("one")
    shared(tmp_path / "share").mark("one")
    with pytest.raises(ForeignStore):
        shared(tmp_path / "share").mark("another")


def test_a_share_that_is_not_mounted(tmp_path: Path) -> None:
    """What is missing there was not deleted: whoever looks for it waits until it is back."""
    share, unmounted = tmp_path / "share", tmp_path / "unmounted"
    store = shared(share)
    store.mark("one")
    store.put("a/b", b"content")
    store.check_mark()
    share.rename(unmounted)
    share.mkdir()
    assert store.get("a/b") is None
    with pytest.raises(Unavailable):
        store.check_mark()
    share.rmdir()
    unmounted.rename(share)
    store.check_mark()
    assert store.get("a/b") == b"content"


def test_a_folder_of_one_process_needs_no_mark(tmp_path: Path) -> None:
    """It has the folder to itself."""
    store = Store.open(None, tmp_path / "own", tmp_path, min_free_bytes=0)
    store.mark("one")
    store.mark("another")
    store.check_mark()
    assert store.keys("") == []
