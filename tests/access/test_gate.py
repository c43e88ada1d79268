"""The gate: who calls, and how often one may guess."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from access.clock import Clock
from sqlalchemy import Connection

from service.access import keys
from service.access.caller import ANYONE
from service.access.gate import Gate
from service.database import Database
from service.errors import ForeignHost, ForeignOrigin, TooManyKeys, Unauthorized, Unavailable
from service.settings import Settings

HOST = {"host": "127.0.0.1:8000"}
HERE = "192.0.2.1"


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
    except (Unauthorized, TooManyKeys) as error:
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
    [
        {"x-api-key": "{}"},
        {"authorization": "Bearer {}"},
        {"authorization": "bearer   {}"},
        {"x-api-key": "", "authorization": "Bearer {}"},
    ],
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


def wrong(key: str) -> str:
    """Another secret for the same key."""
    return key[:-4] + ("AAAA" if key[-4:] != "AAAA" else "BBBB")


def test_guessing_is_slowed_down(gate: Gate, key: str, clock: Clock) -> None:
    """After so many guesses at a key an address waits, and the right one is not looked at then."""
    for _ in range(3):
        assert refused(gate, wrong(key), HERE) is Unauthorized
    assert refused(gate, wrong(key), HERE) is TooManyKeys
    assert refused(gate, key, HERE) is TooManyKeys
    assert refused(gate, key, "192.0.2.2") is None
    clock.now += 21
    assert refused(gate, key, HERE) is None


def test_one_s_wrong_key_is_not_another_s(gate: Gate, key: str) -> None:
    """A cron job with an old key keeps nobody else out behind the same proxy."""
    other = gate.keys.create("other", ["read"])
    for _ in range(10):
        refused(gate, wrong(key), HERE)
        refused(gate, "lts_of no form", HERE)
    assert refused(gate, other, HERE) is None


def test_who_was_let_in_is_not_held_up(gate: Gate, key: str) -> None:
    """Others behind the same address may guess as they like."""
    assert refused(gate, key, HERE) is None
    for _ in range(10):
        refused(gate, wrong(key), HERE)
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


def test_a_network_of_addresses_is_one(gate: Gate) -> None:
    """A host may have all of an IPv6 /64; an IPv4 address is one in either form."""
    gate.keys.create("one", ["read"])
    for number in range(3):
        assert refused(gate, "lts_wrong", f"2001:db8::{number}") is Unauthorized
    assert refused(gate, "lts_wrong", "2001:db8::ffff") is TooManyKeys
    assert refused(gate, "lts_wrong", "2001:db8:0:1::1") is Unauthorized
    for address in (HERE, f"::ffff:{HERE}", HERE):
        assert refused(gate, "lts_wrong", address) is Unauthorized
    assert refused(gate, "lts_wrong", f"::ffff:{HERE}") is TooManyKeys
    assert refused(gate, "lts_wrong", "::ffff:192.0.2.9") is Unauthorized


def test_a_database_without_keys_opens_nothing_beyond_loopback(tmp_path: Path) -> None:
    """Such as an old copy that was put back while the service ran."""
    opened = Gate.open(Settings(data_dir=tmp_path, bind="192.0.2.1"))
    with pytest.raises(Unauthorized):
        opened.admit(HOST, HERE)
    opened.close()
    told = Gate.open(Settings(data_dir=tmp_path, bind="192.0.2.1", allow_unauthenticated=True))
    assert told.admit(HOST, HERE) is ANYONE
    told.close()


@pytest.fixture
def away(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Takes the database away, and with it what was believed for a while."""

    @contextmanager
    def reading(_: Database) -> Iterator[Connection]:
        raise Unavailable("Expected the database to answer, found it unreachable.")
        yield

    def take() -> None:
        monkeypatch.setattr(keys, "FRESH_S", 0)
        monkeypatch.setattr(Database, "reading", reading)

    return take


def test_closed_while_the_database_is_away(gate: Gate, away: Callable[[], None]) -> None:
    """Also before the first key, which another process may have made meanwhile."""
    assert gate.admit(HOST, HERE) is ANYONE
    away()
    with pytest.raises(Unavailable):
        gate.admit(HOST, HERE)


def test_keys_while_the_database_is_away(gate: Gate, key: str, away: Callable[[], None]) -> None:
    """Nobody is let in by them; by memory, as for metrics, who was let in before."""
    unseen = gate.keys.create("unseen", ["read"])
    assert gate.admit({"x-api-key": key}, HERE).may("read")
    away()
    for sent in ({"x-api-key": key}, {"x-api-key": wrong(key)}, {"x-api-key": unseen}):
        with pytest.raises(Unavailable):
            gate.admit(sent, HERE)
    assert gate.admit({"x-api-key": key}, HERE, by_memory=True).may("read")
    with pytest.raises(Unauthorized):
        gate.admit({"x-api-key": wrong(key)}, HERE, by_memory=True)
    with pytest.raises(Unauthorized):
        gate.admit(HOST, HERE, by_memory=True)
    with pytest.raises(Unavailable):
        gate.admit({"x-api-key": unseen}, HERE, by_memory=True)
    assert gate.keys.exist(by_memory=True)


def test_metrics_while_the_database_is_away(gate: Gate, away: Callable[[], None]) -> None:
    """Without keys the place that a request comes from still counts, and nothing is believed."""
    gate.admit(HOST, HERE)
    away()
    assert gate.admit(HOST, HERE, by_memory=True) is ANYONE
    with pytest.raises(ForeignHost):
        gate.admit({"host": "evil.example"}, HERE, by_memory=True)
    with pytest.raises(Unavailable):
        gate.admit(HOST, HERE)
