"""API keys: shown once, kept as hashes, valid until they expire or are revoked."""

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.access import keys as module
from service.access.keys import Key, Keys


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


@pytest.fixture
def keys(file: Path) -> Iterator[Keys]:
    opened = Keys(f"sqlite:///{file}")
    yield opened
    opened.close()


def found(keys: Keys, text: str) -> Key:
    key = keys.find(text)
    assert key is not None
    return key


def test_a_key_opens_what_its_scopes_say(keys: Keys) -> None:
    """Who has it is known by the key's id, and by its own rate."""
    text = keys.create("ward 3", ["read"], rate_per_minute=7)
    caller = found(keys, text).caller
    assert caller.owner == f"key:{keys.all()[0].id}"
    assert caller.rate_per_minute == 7
    assert caller.may("read")
    assert not caller.may("write")
    assert not caller.sees_all


def test_admin_holds_the_other_scopes(keys: Keys) -> None:
    caller = found(keys, keys.create("ops", ["admin"])).caller
    assert caller.may("read")
    assert caller.may("write")
    assert caller.sees_all


def test_the_secret_is_nowhere(keys: Keys, file: Path) -> None:
    """Neither the database's files nor what lists show hold a key or its secret."""
    text = keys.create("ward 3", ["read"])
    secret = text.rpartition("_")[2].encode()
    kept = b"".join(path.read_bytes() for path in file.parent.iterdir())
    assert keys.all()[0].id.encode() in kept
    assert secret[:20] not in kept
    assert secret.decode() not in repr(keys.all())


def test_keys_differ(keys: Keys) -> None:
    made = [keys.create("same name", ["read"]) for _ in range(20)]
    assert len({text.split("_")[1] for text in made}) == 20
    assert len({text.split("_", 2)[2] for text in made}) == 20


def test_other_texts_open_nothing(keys: Keys) -> None:
    """A key with one character changed, cut, or of another key's id is none."""
    one, other = keys.create("one", ["read"]), keys.create("other", ["read"])
    found(keys, one)
    swapped = f"{other[:17]}{one[17:]}"
    last = "A" if one[-1] != "A" else "B"
    for text in (one[:-1] + last, one[:-1], f"{one}A", one.upper(), f" {one}", "", swapped, "lts_"):
        assert keys.find(text) is None


def test_an_expired_key(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens until its time is over, whatever is remembered of it."""
    text = keys.create("guest", ["read"], lives_s=3600)
    found(keys, text)
    later = time.time() + 3601
    monkeypatch.setattr(module.time, "time", lambda: later)
    assert keys.find(text) is None


def test_a_revoked_key(keys: Keys, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that knew it forgets it within seconds; a second time is none."""
    text = keys.create("left the house", ["read"])
    elsewhere = Keys(f"sqlite:///{file}")
    key_id = found(elsewhere, text).id
    assert keys.revoke(key_id)
    assert not keys.revoke(key_id)
    assert not keys.revoke("0" * 12)
    monkeypatch.setattr(module, "FRESH_S", 0)
    assert elsewhere.find(text) is None
    elsewhere.close()


def test_a_key_that_is_replaced(keys: Keys) -> None:
    """Both are of one owner, with the same scopes and rate, and each is revoked by itself."""
    old = keys.create("pacs", ["write"], rate_per_minute=3)
    first = found(keys, old)
    new = keys.replace(first.id, lives_s=60)
    assert new is not None
    second = found(keys, new)
    assert second.caller == replace(first.caller, key=f"key:{second.id}")
    assert second.expires_ms is not None
    assert keys.revoke(first.id)
    third = keys.replace(second.id)
    assert third is not None
    assert found(keys, third).caller.owner == first.caller.owner
    assert keys.replace("0" * 12) is None
    fourth = keys.replace(second.id)
    assert fourth is not None
    lived = found(keys, fourth)
    assert lived.expires_ms is not None
    assert lived.expires_ms - lived.created_ms == 60_000


def test_once_there_was_a_key(keys: Keys, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first key on there are keys, also when the last one is revoked."""
    assert not keys.exist()
    elsewhere = Keys(f"sqlite:///{file}")
    elsewhere.create("first", ["read"])
    elsewhere.revoke(elsewhere.all()[0].id)
    assert not keys.exist()  # believed for a while
    monkeypatch.setattr(module, "FRESH_S", 0)
    assert keys.exist()
    elsewhere.close()


def test_a_row_of_no_scope_opens_nothing(keys: Keys, file: Path) -> None:
    """What the database says of scopes that this version does not know is no scope."""
    text = keys.create("odd", ["read", "write"])
    with sqlite3.connect(file) as database:
        database.execute("update lts_keys set scopes = 'reader writer administrator'")
    caller = found(keys, text).caller
    assert caller.scopes == frozenset()


def test_guesses_take_as_long(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown id, a wrong secret and no key at all are each compared once, in constant time."""
    text = keys.create("one", ["read"])
    compared: list[tuple[str, str]] = []

    def compare(given: str, expected: str) -> bool:
        compared.append((given, expected))
        return given == expected

    monkeypatch.setattr(module.hmac, "compare_digest", compare)
    wrong = text[:-1] + ("A" if text[-1] != "A" else "B")
    for guess in (text, wrong, f"lts_{'0' * 12}_{text[17:]}", "no key"):
        keys.find(guess)
    assert len(compared) == 4
    assert {len(value) for pair in compared for value in pair} == {64}
