"""A service that is asked for far more than it can do refuses the rest, and is well afterwards."""

from dataclasses import replace

import pytest

from benchmarks.overload import Load, Outcome, Seen, State, judged, kinds, overloaded

DONE, ACCEPTED = Outcome(False, 200, 1.0), Outcome(True, 202, 0.1)
REFUSED = Outcome(False, 503, 0.01, "5")
IDLE = State(resident_mb=500, lone_s=0.2)

GOOD = Seen(
    capacity=10,
    sent=100,
    outcomes=[DONE, ACCEPTED] * 250 + [REFUSED] * 5500,
    load_s=60,
    drained_s=8,
    job_s=[5.0] * 250,
    lost_jobs=0,
    health_s=[0.01] * 1000,
    before=IDLE,
    after=IDLE,
    peak_mb=700,
    left={"lts_jobs_in_work": 0},
)


def failures(seen: Seen) -> list[str]:
    return [one.what for one in judged(seen, times=10) if not one.holds]


def test_a_good_run_is_good() -> None:
    """Nothing is found in a run in which all went well."""
    assert failures(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"sent": 70}, "sent, times that, for 10"),
        ({"outcomes": [DONE, ACCEPTED, REFUSED] * 250 + [replace(DONE, status=500)]}, "neither"),
        ({"outcomes": [DONE, ACCEPTED, REFUSED] * 250 + [replace(DONE, status=0)]}, "neither"),
        ({"outcomes": [DONE, ACCEPTED, REFUSED] * 250 + [replace(REFUSED, retry_after=None)]},
         "neither"),
        ({"outcomes": [replace(DONE, seconds=99), ACCEPTED, REFUSED] * 250}, "stateless"),
        ({"outcomes": [DONE, ACCEPTED, replace(REFUSED, seconds=9)] * 250}, "refusal"),
        ({"outcomes": [DONE, ACCEPTED, REFUSED] * 50}, "done"),
        ({"job_s": [999.0] * 250}, "jobs, acceptance to end"),
        ({"lost_jobs": 1}, "jobs lost"),
        ({"health_s": [0.01, 1.5]}, "/health/live"),
        ({"peak_mb": 1500}, "memory"),
        ({"after": replace(IDLE, resident_mb=900)}, "memory"),
        ({"after": replace(IDLE, lone_s=0.5)}, "lone image"),
        ({"left": {"lts_jobs_in_work": 1}}, "left in work"),
    ],
)  # fmt: skip
def test_each_fault_is_found(changes, what: str) -> None:
    """What is not as it must be is named, and nothing else."""
    found = failures(replace(GOOD, **changes))
    assert len(found) == 1
    assert found[0].startswith(what)


def test_a_load_that_is_all_accepted_proves_nothing() -> None:
    """Without a refusal, it was no overload."""
    assert "accepted, refused" in failures(replace(GOOD, outcomes=[DONE, ACCEPTED] * 250))


@pytest.mark.alone
def test_ten_times_the_load_is_refused_in_order() -> None:
    """Ten times what the service takes, for a few seconds: all demands of the benchmark hold."""
    load = Load(kinds(128, 2, 64), seconds=6, capacity_s=4, times=10, clients=128)
    seen = overloaded(load)
    wrong = [one for one in judged(seen, load.times) if not one.holds]
    assert not wrong, wrong
