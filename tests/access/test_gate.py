"""The gate: who calls, and how often one may guess."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.access import keys, rates
from service.access.caller import ANYONE
from service.access.gate import Gate
from service.errors import ForeignHost, ForeignOrigin, TooManyRequests, Unauthorized
from service.settings import Settings

HOST = {"host": "127.0.0.1:8000"}
HERE = "192.0.2.1"


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(rates, "time", made)
    return made


@pytest.fixture
def gate(tmp_path: Path, clock: Clock) -> Iterator[Gate]:
    opened = Gate.open(Settings(data_dir=tmp_path, failed_keys_per_minute=3))
    yield opened
    opened.close()


@pytest.fixture
def key(gate: Gate) -> str:
    return gate.keys.create("one", ["read"])


def refused(gate: Gate, key: str, address: str) -> type[Exception] | None:
    try:
        gate.admit({"x-api-key": key}, address)
    except (Unauthorized, TooManyRequests) as error:
        return type(error)
    return None


def test_nobody_is_asked_before_the_first_key(gate: Gate) -> None:
    """Then only where the request comes from counts."""
    assert gate.admit(HOST, HERE) is ANYONE
    assert gate.admit({**HOST, "origin": "http://127.0.0.1:8000"}, HERE) is ANYONE
    with pytest.raises(ForeignHost):
        gate.admit({"host": "evil.example"}, HERE)
    with pytest.raises(ForeignHost):
        gate.admit({}, HERE)
    with pytest.raises(ForeignOrigin):
        gate.admit({**HOST, "origin": "http://evil.example"}, HERE)


@pytest.mark.parametrize(
    "headers",
    [{"x-api-key": "{}"}, {"authorization": "Bearer {}"}, {"authorization": "bearer   {}"}],
)
def test_a_key_is_sent_either_way(gate: Gate, key: str, headers: dict[str, str]) -> None:
    """Then the name by which the service is called no longer counts."""
    sent = {name: value.format(key) for name, value in headers.items()}
    assert gate.admit({"host": "any.example", **sent}, HERE).owner == f"key:{key.split('_')[1]}"


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"x-api-key": ""}, {"authorization": "{}"}, {"authorization": "Basic {}"},
        {"authorization": "Bearer"}, {"authorization": "Bearer "}, {"cookie": "key={}"},
        {"x-api-key": "wrong", "authorization": "Bearer {}"},
    ],
)  # fmt: skip
def test_anything_else_is_no_key(gate: Gate, key: str, headers: dict[str, str]) -> None:
    with pytest.raises(Unauthorized):
        gate.admit({name: value.format(key) for name, value in headers.items()}, HERE)


def test_guessing_is_slowed_down(gate: Gate, key: str, clock: Clock) -> None:
    """After so many wrong keys an address waits, and a right one is not looked at meanwhile."""
    for _ in range(3):
        assert refused(gate, "lts_wrong", HERE) is Unauthorized
    assert refused(gate, "lts_wrong", HERE) is TooManyRequests
    assert refused(gate, key, HERE) is TooManyRequests
    assert refused(gate, key, "192.0.2.2") is None
    clock.now += 21
    assert refused(gate, key, HERE) is None


def test_who_was_let_in_is_not_held_up(gate: Gate, key: str) -> None:
    """Others behind the same address may guess as they like."""
    assert refused(gate, key, HERE) is None
    for _ in range(10):
        refused(gate, "lts_wrong", HERE)
    assert refused(gate, key, HERE) is None


def test_a_key_that_was_revoked_is_a_guess(
    gate: Gate, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes on sending it is held up in the end."""
    assert refused(gate, key, HERE) is None
    gate.keys.revoke(key.split("_")[1])
    monkeypatch.setattr(keys, "FRESH_S", 0)
    for _ in range(10):
        assert refused(gate, key, HERE) is not None


def test_a_network_of_addresses_is_one(gate: Gate, key: str) -> None:
    """A host may have all of an IPv6 /64."""
    for number in range(3):
        assert refused(gate, "lts_wrong", f"2001:db8::{number}") is Unauthorized
    assert refused(gate, "lts_wrong", "2001:db8::ffff") is TooManyRequests
    assert refused(gate, "lts_wrong", "2001:db8:0:1::1") is Unauthorized
