"""Trying again."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from service.errors import (
    Cancelled,
    DeadlineExceeded,
    OriginInvalid,
    OriginUnreachable,
    ServiceError,
)
from service.pacs import retry
from service.pacs.retry import TryAgain, retrying
from service.settings import Settings
from service.stopping import StopSignal


def failing(times: int, error: Exception) -> tuple[Callable[[], str], list[float]]:
    calls: list[float] = []

    def work() -> str:
        calls.append(time.monotonic())
        if len(calls) <= times:
            raise error
        return "done"

    return work, calls


def again(retry_after_s: float = 0) -> TryAgain:
    return TryAgain(OriginUnreachable("down"), retry_after_s=retry_after_s)


def settings(retry_s: float) -> Settings:
    return Settings(pacs_retry_s=retry_s)


def test_until_it_goes_well() -> None:
    """The pauses double from what is 0.02 s here, less up to a half."""
    work, calls = failing(4, again())
    assert retrying(work, StopSignal(), settings(10)) == "done"
    pauses = [after - before for before, after in pairwise(calls)]
    assert all(0.01 * 2**i <= pause for i, pause in enumerate(pauses))


def test_until_the_time_is_over() -> None:
    """The last try is at the end, and its error is raised."""
    work, calls = failing(1000, again())
    with pytest.raises(OriginUnreachable, match="down"):
        retrying(work, StopSignal(), settings(0.2))
    assert 0.2 <= calls[-1] - calls[0] < 2


def test_no_retries() -> None:
    work, calls = failing(1000, again())
    with pytest.raises(OriginUnreachable):
        retrying(work, StopSignal(), settings(0))
    assert len(calls) == 1


def test_the_time_counts_from_the_first_failure() -> None:
    """A long transfer takes none of it."""
    calls = []

    def work() -> None:
        calls.append(1)
        if len(calls) == 1:
            time.sleep(0.3)
        if len(calls) < 3:
            raise again()

    retrying(work, StopSignal(), settings(0.2))


def test_other_errors_are_not_tried_again() -> None:
    work, calls = failing(1, OriginInvalid("no"))
    with pytest.raises(OriginInvalid):
        retrying(work, StopSignal(), settings(10))
    assert len(calls) == 1


def test_retry_after_is_waited_for() -> None:
    work, calls = failing(1, again(retry_after_s=0.3))
    retrying(work, StopSignal(), settings(10))
    assert calls[1] - calls[0] >= 0.3


def test_retry_after_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what anybody may ask for, and by the time that is left."""
    assert again(retry_after_s=1e9).retry_after_s == 300
    work, calls = failing(1, again(retry_after_s=300))
    retrying(work, StopSignal(), settings(0.2))
    assert calls[1] - calls[0] < 2


def test_pauses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_LONGEST_PAUSE_S", 0.02)
    work, calls = failing(20, again())
    retrying(work, StopSignal(), settings(10))
    assert calls[-1] - calls[0] < 3


@pytest.mark.parametrize("reason", [Cancelled("enough"), None])
def test_stop_ends_a_pause(reason: ServiceError | None) -> None:
    """At once, by a reason or a deadline."""
    stop = StopSignal() if reason else StopSignal(deadline_s=0.1)
    if reason:
        threading.Timer(0.1, stop.stop, [reason]).start()
    work, calls = failing(1000, again(retry_after_s=30))
    with pytest.raises(Cancelled if reason else DeadlineExceeded):
        retrying(work, stop, settings(60))
    assert len(calls) == 1
    assert time.monotonic() - calls[0] < 5


def test_stop_comes_before_the_failure() -> None:
    """What fails because it was stopped was stopped."""
    stop = StopSignal()

    def work() -> None:
        stop.stop(Cancelled("enough"))
        raise again()

    with pytest.raises(Cancelled):
        retrying(work, stop, settings(0))
