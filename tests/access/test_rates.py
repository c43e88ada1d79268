"""How often a caller may ask for work."""

from pathlib import Path

import pytest
from access.clock import Clock
from fakes import FakeSegmenter, by_threshold
from http_helpers import PNG, problem, running, slice_png

from service.access import rates
from service.access.rates import Rates
from service.errors import TooManyRequests

URL = "/v1/segmentations"


def allowed(counting: Rates, caller: str = "one") -> int:
    """How many requests of this caller are taken at once, out of a hundred."""
    taken = 0
    for _ in range(100):
        try:
            counting.take(caller)
        except TooManyRequests:
            continue
        taken += 1
    return taken


def test_a_minute_s_requests_at_once(clock: Clock) -> None:
    """As many as a minute allows are taken at once, then as many as time has passed for."""
    counting = Rates(6)
    assert allowed(counting) == 6
    clock.now += 9.9
    assert allowed(counting) == 0
    clock.now += 0.2
    assert allowed(counting) == 1
    clock.now += 30
    assert allowed(counting) == 3
    clock.now += 3600
    assert allowed(counting) == 6


def test_callers_do_not_count_for_each_other(clock: Clock) -> None:
    """Each caller has a rate of its own; who was refused is not punished for that."""
    counting = Rates(2)
    assert allowed(counting, "one") == 2
    assert allowed(counting, "two") == 2
    clock.now += 30.1
    assert allowed(counting, "one") == 1


def test_who_waits_as_told_is_taken(clock: Clock) -> None:
    """`Retry-After` is long enough, and not a moment longer."""
    counting = Rates(3)
    assert allowed(counting) == 3
    clock.now += 4
    with pytest.raises(TooManyRequests) as refused:
        counting.take("one")
    wait_s = refused.value.retry_after_s
    assert wait_s == pytest.approx(60 / 3 - 4)
    clock.now += wait_s - 0.01
    assert allowed(counting) == 0
    clock.now += 0.02
    assert allowed(counting) == 1


def test_any_number_by_default(clock: Clock) -> None:
    """0 means that nobody counts."""
    assert allowed(Rates(0)) == 100


def test_memory_of_callers_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller who was not seen for longest is forgotten."""
    monkeypatch.setattr(rates, "_CALLERS", 3)
    counting = Rates(1)
    assert [allowed(counting, name) for name in "abcd"] == [1, 1, 1, 1]
    assert [allowed(counting, name) for name in "dcb"] == [0, 0, 0]
    assert allowed(counting, "a") == 1


def test_too_many_requests(tmp_path: Path) -> None:
    """429 with Retry-After for what asks for work; looking is free, and nothing is kept of it."""
    with running(tmp_path, FakeSegmenter(by_threshold), rate_per_minute=2) as client:
        for path in (URL, "/v1/segment"):
            assert client.post(path, content=slice_png(), headers=PNG).status_code in (200, 201)
        for path in (URL, "/v1/segment"):
            refused = client.post(path, content=slice_png(), headers=PNG)
            problem(refused, 429, "too_many_requests")
            assert int(refused.headers["retry-after"]) > 0
        for path in (URL, "/health/ready", "/metrics", "/v1/models"):
            assert client.get(path).status_code == 200
        assert len(client.get(URL).json()["items"]) == 1
        assert 'lts_problems_total{code="too_many_requests"} 2' in client.get("/metrics").text
