"""Processes that end, asked or killed: in time, and what they worked on is finished by others."""

import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import pytest
from cluster.harness import (
    LOST_IN_THE_PROXY,
    SOON,
    URL,
    Cluster,
    Expected,
    Process,
    Watching,
    at_work,
    ended,
    get,
    post,
    until,
)
from http_helpers import ZIP

pytestmark = [pytest.mark.postgres, LOST_IN_THE_PROXY]

LONG_DEAD_S = 120
"""Longer than a test: nothing waits for a process to be taken for dead."""


PLACES = (
    "inference",
    "between two results",
    "before the result counts",
    "after the result counts",
    "after the outcome",
)


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Process:
    return cluster.start("serve", "--no-worker", LTS_DEAD_S=LONG_DEAD_S)


@pytest.fixture(scope="module")
def heir(cluster: Cluster) -> Process:
    """Takes what the others hand back."""
    return cluster.start("worker", held=True, LTS_DEAD_S=LONG_DEAD_S)


def test_short_grace(
    cluster: Cluster, api: Process, heir: Process, study: bytes, expected: Expected
) -> None:
    """What runs is handed back at once and is no attempt; another worker finishes it."""
    ending = cluster.start("worker", LTS_GRACE_S=1, LTS_DEAD_S=LONG_DEAD_S)
    with heir.held(), ending.slow(3):
        jobs = [post(api, study) for _ in range(3)]
        until(lambda: get(api, jobs[0])["progress"]["stage"] == "label")
        asked = time.monotonic()
        assert ending.end(within_s=15) == 0
        took_s = time.monotonic() - asked
    assert took_s < 8
    for job_id in jobs:
        row = cluster.row(job_id)
        assert (row["status"], row["executor"], row["attempts"]) == ("queued", None, 0)
    heir.release()
    for job_id in jobs:
        job = ended(api, job_id)
        assert job["status"] == "succeeded"
        assert cluster.result(job_id) == expected.files(job)


def test_long_grace(cluster: Cluster, api: Process, heir: Process, study: bytes) -> None:
    """What runs is finished, nothing new is taken, and the process says that it is ending."""
    ending = cluster.start("worker", LTS_GRACE_S=60, LTS_DEAD_S=LONG_DEAD_S)
    with heir.held(), ending.slow(1.5):
        first = post(api, study)
        at_work(api, first)
        ending.terminate()
        until(lambda: ending.ask("GET", "/health/ready").status == 503)
        ready = ending.ask("GET", "/health/ready")
        assert ready.json()["code"] == "shutting_down"
        assert ending.ask("GET", "/health/live").status == 200
        second = post(api, study)
        assert ended(api, first)["status"] == "succeeded"
        assert ending.wait(30) == 0
        row = cluster.row(second)
        assert (row["status"], row["claims"]) == ("queued", 0)
    heir.release()
    assert ended(api, second)["status"] == "succeeded"


def test_api_that_ends(cluster: Cluster, api: Process, heir: Process, study: bytes) -> None:
    """Who waits is told where to look, events end, and the job goes on elsewhere."""
    ending = cluster.start("serve", "--no-worker", LTS_GRACE_S=10, LTS_DEAD_S=LONG_DEAD_S)
    with heir.held(), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ending.ask, "POST", URL, study, ZIP | {"Prefer": "wait=50"})
        (job_id,) = until(lambda: cluster.rows("select id from lts_jobs where status = 'queued'"))[
            0
        ]
        watching = Watching(ending.port, job_id)
        until(lambda: watching.events)
        asked = time.monotonic()
        assert ending.end(within_s=30) == 0
        assert time.monotonic() - asked < 10
        answer = waiting.result()
        assert (answer.status, answer.headers["location"]) == (202, f"{URL}/{job_id}")
        assert {event.name for event in watching.wait()} == {"progress"}
    heir.release()
    assert ended(api, job_id)["status"] == "succeeded"


@pytest.mark.fault
def test_workers_killed_at_every_place(
    cluster: Cluster, api: Process, heir: Process, study: bytes, expected: Expected
) -> None:
    """Another worker finishes each job within a minute, to the bytes of an undisturbed run."""
    dying = {
        place: cluster.begin("worker", held=True, KILL_AT=place, LTS_DEAD_S=LONG_DEAD_S)
        for place in PLACES
    }
    jobs = {}
    with heir.held():
        for place, process in dying.items():
            process.wait_ready()
            jobs[place] = post(api, study)
            process.release()
            process.wait_killed()
            done = place == "after the outcome"
            row = cluster.row(jobs[place])
            assert row["status"] == ("succeeded" if done else "running")
            assert row["attempts"] == 1
    killed = time.monotonic()
    buries = cluster.start("serve", "--no-worker", LTS_DEAD_S=3)
    for place, job_id in jobs.items():
        job = ended(api, job_id)
        assert job["status"] == "succeeded", (place, job)
        assert cluster.result(job_id) == expected.files(job), place
        assert cluster.row(job_id)["claims"] == (1 if place == "after the outcome" else 2)
    assert time.monotonic() - killed < 60
    buries.kill()


@pytest.mark.fault
@pytest.mark.parametrize("lost", ["database", "bucket"])
def test_end_while_something_is_away(
    cluster: Cluster, api: Process, heir: Process, study: bytes, lost: str
) -> None:
    """A process ends in order and in time also where it cannot write down that it does."""
    ending = cluster.start("worker", LTS_GRACE_S=2, LTS_DEAD_S=3)
    with heir.held(), ending.slow(2):
        job_id = post(api, study)
        at_work(api, job_id)
        if lost == "database":
            cluster.database.stop()
            try:
                assert ending.end(within_s=40) == 0
            finally:
                cluster.database.start_again()
        else:
            with cluster.bucket.unreachable():
                assert ending.end(within_s=40) == 0
    heir.release()
    bury = cluster.start("serve", "--no-worker", LTS_DEAD_S=3)  # finds the dead sooner
    assert ended(bury, job_id)["status"] == "succeeded"
    bury.kill()


def test_an_ending_process_refuses(cluster: Cluster, heir: Process, study: bytes) -> None:
    """While it ends, new work is refused with 503, or there is no connection."""
    ending = cluster.start("serve", LTS_GRACE_S=20, LTS_DEAD_S=LONG_DEAD_S)
    with heir.held(), ending.slow(1.2):
        job_id = post(ending, study)
        at_work(ending, job_id)
        ending.terminate()
        until(lambda: ending.ask("GET", "/health/ready").status == 503)
        answer = ending.ask("POST", URL, study, ZIP | SOON)
        assert (answer.status, answer.json()["code"]) == (503, "shutting_down")
        assert get(ending, job_id)["status"] in ("running", "succeeded")
        assert ending.wait(30) == 0
    with pytest.raises((OSError, HTTPException)):
        ending.ask("GET", "/health/live")
    assert cluster.row(job_id)["status"] == "succeeded"
