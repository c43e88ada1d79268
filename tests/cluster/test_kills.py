"""Processes that are killed, or frozen: what was accepted is finished once, by those that live."""

import io
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException

import pytest
from cluster.harness import (
    DEAD_S,
    LOST_IN_THE_PROXY,
    SOON,
    URL,
    WORKING,
    Cluster,
    Expected,
    Process,
    at_work,
    ended,
    get,
    post,
    until,
)
from http_helpers import PNG, ZIP, slice_png
from jobs.killed_places import ACCEPT_PLACES
from PIL import Image

from service.jobs.worker import MAX_ATTEMPTS

pytestmark = [pytest.mark.postgres, pytest.mark.fault, LOST_IN_THE_PROXY]


def png_of(rows: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, rows), 60).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Process:
    return cluster.start("serve", "--no-worker")


@pytest.fixture(scope="module")
def worker(cluster: Cluster) -> Process:
    """One that nobody kills."""
    return cluster.start("worker", held=True)


def test_a_poisoned_input_is_given_up(cluster: Cluster, api: Process, worker: Process) -> None:
    """What ends its process each time fails after five; what waited beside it succeeds."""
    worker.hold()
    poison = 80
    posted = [post(api, slice_png(level), PNG | SOON) for level in (100, 110)]
    bad = post(api, png_of(poison), PNG | SOON)
    posted += [post(api, slice_png(level), PNG | SOON) for level in (120, 130, 140)]
    kills = 0
    process = cluster.start("worker", POISON_ROWS=poison)
    spare = cluster.begin("worker", held=True, POISON_ROWS=poison)
    try:
        while get(api, bad)["status"] in WORKING:
            if process.process.is_alive():
                time.sleep(0.05)
                continue
            assert process.wait() == -signal.SIGKILL
            kills += 1
            assert kills <= MAX_ATTEMPTS
            process = spare
            process.wait_ready()
            process.release()
            spare = cluster.begin("worker", held=True, POISON_ROWS=poison)
        assert kills == MAX_ATTEMPTS
        job = get(api, bad)
        assert (job["status"], job["error"]["code"]) == ("failed", "abandoned")
        for job_id in posted:
            assert ended(api, job_id)["status"] == "succeeded"
        assert process.process.is_alive()
    finally:
        process.kill()
        spare.kill()
    assert cluster.kept(bad) == {}


def test_api_killed_while_it_accepts(
    cluster: Cluster, api: Process, worker: Process, study: bytes, expected: Expected
) -> None:
    """Half a job vanishes; a repeat to another API makes one, or finds what was accepted."""
    worker.release()
    dying = {place: cluster.begin("serve", "--no-worker", KILL_AT=place) for place in ACCEPT_PLACES}

    def send(place: str) -> None:
        """The client is not told."""
        dying[place].wait_ready()
        with pytest.raises((OSError, HTTPException)):
            dying[place].ask("POST", URL, study, ZIP | SOON | {"Idempotency-Key": key_of(place)})
        dying[place].wait_killed()

    def key_of(place: str) -> str:
        return place.replace(" ", "-")

    with ThreadPoolExecutor(len(dying)) as pool:
        list(pool.map(send, dying))
        left = cluster.rows("select id from lts_jobs where status = 'receiving'")
        assert len(left) == 2
        again = dict(
            zip(
                dying,
                pool.map(
                    lambda place: post(api, study, SOON | {"Idempotency-Key": key_of(place)}), dying
                ),
                strict=True,
            )
        )
    for place, job_id in again.items():
        job = ended(api, job_id)
        assert job["status"] == "succeeded", place
        assert cluster.result(job_id) == expected.files(job), place
    folders = cluster.folders()
    assert folders == {
        folder for (folder,) in cluster.rows("select folder from lts_jobs where result is not null")
    }
    assert cluster.rows("select id from lts_jobs where status = 'receiving'") == []


def test_half_a_job_of_a_dead_api_outlives_no_outage(
    cluster: Cluster, api: Process, worker: Process, study: bytes
) -> None:
    """It vanishes also where the bucket could not be reached when the API was found dead."""
    dying = cluster.start("serve", "--no-worker", KILL_AT="before it is accepted")
    with suppress(OSError, HTTPException):
        dying.ask("POST", URL, study, ZIP | SOON)
    dying.wait_killed()
    waiting = "select id from lts_jobs where status in ('receiving', 'dropped')"
    executors = "select id from lts_executors where id = %s"
    ((_, dead),) = cluster.rows("select id, executor from lts_jobs where status = 'receiving'")
    with cluster.bucket.unreachable():
        time.sleep(DEAD_S + 3)
    assert cluster.rows(waiting) or not cluster.rows(executors, dead)
    until(lambda: not cluster.rows(waiting), within_s=15)
    folders = cluster.folders()
    assert folders <= {folder for (folder,) in cluster.rows("select folder from lts_jobs")}


def test_a_frozen_worker(
    cluster: Cluster, api: Process, worker: Process, study: bytes, expected: Expected
) -> None:
    """Its job is taken over and ends once; thawed, it disturbs nobody and works on new jobs."""
    worker.hold()
    frozen = cluster.start("worker")
    with frozen.slow(2), worker.slow(2.5):
        job_id = post(api, study)
        at_work(api, job_id)
        frozen.freeze()
        before = cluster.row(job_id)["executor"]
        worker.release()
        until(lambda: cluster.row(job_id)["executor"] not in (before, None))
        frozen.thaw()
        until(lambda: frozen.metric("lts_jobs_in_work") == 0)
        assert get(api, job_id)["status"] in WORKING
        job = ended(api, job_id)
    assert job["status"] == "succeeded", job
    assert cluster.result(job_id) == expected.files(job)
    assert cluster.row(job_id)["claims"] == 2
    until(lambda: frozen.metric("lts_jobs_in_work") == 0)
    with worker.held():
        assert ended(api, post(api, slice_png(), PNG | SOON), within_s=30)["status"] == "succeeded"
    frozen.hold()
    victim = cluster.start("worker")
    with worker.held(), victim.slow(2):
        job_id = post(api, study)
        at_work(api, job_id)
        victim.kill()
        frozen.release()
        job = ended(api, job_id, within_s=30)
    assert job["status"] == "succeeded", job
    assert cluster.result(job_id) == expected.files(job)
    assert frozen.end() == 0


def test_frozen_while_it_writes_a_result(
    cluster: Cluster, api: Process, worker: Process, study: bytes, expected: Expected
) -> None:
    """Two processes write the result; one counts, and nothing of the other is left."""
    worker.hold()
    frozen = cluster.start("worker")
    with frozen.slow(1, "slow-put"):
        job_id = post(api, study)
        until(lambda: any("/mask.dcm" in name for name in cluster.kept(job_id)))
        frozen.freeze()
        worker.release()
        job = ended(api, job_id)
        frozen.thaw()
    assert job["status"] == "succeeded"
    until(lambda: frozen.metric("lts_jobs_in_work") == 0)
    until(lambda: cluster.result(job_id) == expected.files(job), within_s=10)
    assert get(api, job_id) == job
    assert frozen.end() == 0
