"""The database or the bucket goes away for a while: nothing fails, and nothing ends twice."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster.harness import (
    LOST_IN_THE_PROXY,
    SOON,
    URL,
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

from reliability.parts.postgres import Postgres
from reliability.parts.s3 import Loss
from reliability.process import Answer

pytestmark = [pytest.mark.postgres, pytest.mark.fault, LOST_IN_THE_PROXY]


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Process:
    return cluster.start("serve", "--no-worker")


@pytest.fixture(scope="module")
def worker(cluster: Cluster, api: Process) -> Process:
    return cluster.start("worker")


def is_answered(answer: Answer) -> bool:
    """Whether it is what was asked for; else it must say when to come again."""
    if answer.status in (200, 201, 202):
        return True
    assert answer.status == 503, answer
    assert answer.json()["code"] == "unavailable", answer
    assert int(answer.headers["retry-after"]) > 0
    return False


class Clients:
    """Others, who ask all the time; leaving the block fails for any wrong answer."""

    def __init__(self, api: Process, *asked: str) -> None:
        self._api, self._asked = api, asked
        self._stop = threading.Event()
        self.posted: list[str] = []
        self.answered: Counter[bool] = Counter()

    def __enter__(self) -> "Clients":
        self._pool = ThreadPoolExecutor(2)
        self._running = [self._pool.submit(self._ask), self._pool.submit(self._post)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown()
        for running in self._running:
            running.result()

    def _ask(self) -> None:
        while not self._stop.wait(0.05):
            for path in self._asked:
                self.answered[is_answered(self._api.ask("GET", path))] += 1

    def _post(self) -> None:
        """One that repeats what was not answered."""
        number = 0
        while not self._stop.wait(0.5):
            headers = PNG | SOON | {"Idempotency-Key": f"client-{id(self)}-{number}"}
            answer = self._api.ask("POST", URL, slice_png(), headers)
            if is_answered(answer):
                number += 1
                self.posted.append(answer.json()["id"])


@pytest.mark.parametrize(
    ("lose", "away_s"),
    [(Postgres.restart, 0), (Postgres.kill, 3)],
    ids=["restart", "kill"],
)
def test_database_lost_while_jobs_run(
    cluster: Cluster,
    api: Process,
    worker: Process,
    study: bytes,
    expected: Expected,
    lose: Callable[[Postgres], None],
    away_s: float,
) -> None:
    """Each job ends once, rightly; a POST that waits is answered, others succeed or are 503."""
    before = worker.metric("lts_jobs_total")
    with worker.slow(0.7), ThreadPoolExecutor(1) as pool:
        jobs = [post(api, study) for _ in range(2)]
        waiting = pool.submit(api.ask, "POST", URL, study, ZIP | {"Prefer": "wait=50"})
        at_work(api, jobs[0])
        with Clients(api, URL, f"{URL}/{jobs[0]}", "/v1/models", "/metrics") as others:
            until(lambda: others.answered[True])
            lose(cluster.database)
            time.sleep(away_s)
            cluster.database.start_again()
            until(lambda: is_answered(api.ask("GET", URL)))
            for job_id in jobs:
                until(lambda job_id=job_id: is_answered(api.ask("GET", f"{URL}/{job_id}")))
        answer = waiting.result()
        assert answer.status == 201, answer
        jobs.append(answer.json()["id"])
    for job_id in jobs:
        job = ended(api, job_id)
        assert job["status"] == "succeeded", job
        assert cluster.result(job_id) == expected.files(job)
    for job_id in others.posted:
        assert ended(api, job_id)["status"] == "succeeded"
    if away_s:
        assert others.answered[False]
    until(lambda: worker.metric("lts_jobs_in_work") == 0)
    ended_now = worker.metric("lts_jobs_total") - before
    assert ended_now <= 3 + len(others.posted)
    assert cluster.rows("select count(*) from lts_jobs where status = 'receiving'") == [(0,)]


@pytest.mark.parametrize(("how", "away_s"), [("refuses", 4), ("hangs", 4), ("loses answers", 3)])
def test_bucket_lost_while_jobs_run(
    cluster: Cluster,
    api: Process,
    worker: Process,
    study: bytes,
    expected: Expected,
    how: Loss,
    away_s: float,
) -> None:
    """No job fails; requests that need the bucket are 503 or wait; then all goes on."""
    done = ended(api, post(api, study))
    before = cluster.folders()
    with worker.slow(0.4):
        jobs = [post(api, study) for _ in range(2)]
        at_work(api, jobs[0])
        with cluster.bucket.unreachable(how=how), ThreadPoolExecutor(2) as pool:
            began = time.monotonic()
            asked = [
                pool.submit(api.ask, "GET", f"{URL}/{done['id']}/mask.dcm"),
                pool.submit(api.ask, "POST", URL, study, ZIP | SOON),
            ]
            if how == "refuses":
                assert not any(is_answered(one.result()) for one in asked)
            assert get(api, jobs[0])["status"] != "failed"
            assert api.ask("GET", "/health/live").status == 200
            time.sleep(max(0.0, began + away_s - time.monotonic()))
        for one in asked:
            if is_answered(one.result()) and one.result().status == 202:
                jobs.append(one.result().json()["id"])
    for job_id in jobs:
        job = ended(api, job_id)
        assert job["status"] == "succeeded", job
        assert cluster.result(job_id) == expected.files(job)
    assert api.ask("GET", f"{URL}/{done['id']}/mask.dcm").status == 200
    # Of a POST that was refused nothing is left, unless it is done when nobody waits for it.
    until(lambda: not cluster.rows("select id from lts_jobs where status = 'receiving'"))
    known = {folder for (folder,) in cluster.rows("select folder from lts_jobs")}
    until(lambda: how == "hangs" or cluster.folders() - before <= known, within_s=10)


def test_delete_while_the_bucket_is_away(
    cluster: Cluster, api: Process, worker: Process, study: bytes
) -> None:
    """It is 503 and can be repeated: then nothing is left."""
    done = ended(api, post(api, study))
    with cluster.bucket.unreachable():
        assert not is_answered(api.ask("DELETE", f"{URL}/{done['id']}"))
    assert get(api, done["id"])["status"] == "succeeded"
    assert api.ask("DELETE", f"{URL}/{done['id']}").status == 204
    assert cluster.kept(done["id"]) == {}


def test_cancel_while_the_bucket_is_away(
    cluster: Cluster, api: Process, worker: Process, study: bytes
) -> None:
    """It is cancelled at once, and its input deleted once that can be."""
    with worker.held():
        job_id = post(api, study)
        with cluster.bucket.unreachable():
            answer = api.ask("POST", f"{URL}/{job_id}/cancel")
            assert (answer.status, answer.json()["status"]) == (200, "cancelled")
        until(lambda: cluster.kept(job_id) == {})
    cluster.wait_tidy(job_id)


def test_job_of_a_process_that_nobody_knows(
    cluster: Cluster, api: Process, worker: Process, study: bytes, expected: Expected
) -> None:
    """One that took it and was never heard of: another does the work."""
    with worker.held():
        job_id = post(api, study)
        held = "update lts_jobs set status = 'running', executor = 'nobody' where id = %s"
        cluster.rows(f"{held} returning id", job_id)
    job = ended(api, job_id)
    assert job["status"] == "succeeded", job
    assert cluster.result(job_id) == expected.files(job)


def test_database_that_is_read_only_for_a_while(
    cluster: Cluster, api: Process, worker: Process, study: bytes, expected: Expected
) -> None:
    """As while another server takes over: what writes is 503, and all goes on afterwards."""
    with worker.slow(0.4):
        job_id = post(api, study)
        at_work(api, job_id)
        with cluster.database.read_only():
            assert not is_answered(api.ask("POST", URL, study, ZIP | SOON))
            assert get(api, job_id)["status"] in ("queued", "running")
            assert api.ask("GET", "/health/live").status == 200
    job = ended(api, job_id)
    assert job["status"] == "succeeded", job
    assert cluster.result(job_id) == expected.files(job)


def test_what_is_not_ours_stays(cluster: Cluster, api: Process, study: bytes) -> None:
    """A process that starts deletes folders of no job, and nothing else that is in the bucket."""
    job = ended(api, post(api, study))
    orphan = f"{'0' * 32}-{'0' * 8}/input"
    for key in (orphan, "archive/ct-4711", "note"):
        cluster.put(key, b"kept by somebody")
    newcomer = cluster.start("serve", "--no-worker")
    known = {folder for (folder,) in cluster.rows("select folder from lts_jobs")}
    until(lambda: cluster.folders() - known == {"archive", "note"}, within_s=20)
    assert cluster.kept(job["id"])
    assert newcomer.end() == 0


def test_a_process_that_starts_waits_for_the_database(
    cluster: Cluster, api: Process, worker: Process, study: bytes
) -> None:
    """It is not ready, and then it is, without a start of its own."""
    cluster.database.stop()
    starting = cluster.begin("serve", "--no-worker")
    time.sleep(6)
    assert starting.process.is_alive()
    cluster.database.start_again()
    starting.wait_ready()
    assert json.loads(starting.ask("GET", URL).body)["items"]
    assert starting.end() == 0


def test_a_bucket_of_another_service(cluster: Cluster, api: Process) -> None:
    """Another database is never ready on it: it would delete what it does not know."""
    with Postgres.start() as other:
        stranger = cluster.begin("serve", "--no-worker", LTS_DATABASE_URL=other.url)
        until(lambda: (said := stranger.health()) and "foreign_store" in said.json()["detail"])
        assert stranger.health().status == 503
        assert stranger.end() == 0


def test_a_process_that_waits_for_the_database_can_be_ended(cluster: Cluster, api: Process) -> None:
    """SIGTERM does not wait for it."""
    starting = cluster.begin("serve", "--no-worker", LTS_DATABASE_URL="postgresql://127.0.0.1:1/no")
    until(lambda: starting.log.exists() and "waiting for the database" in starting.log.read_text())
    starting.terminate()
    starting.wait(within_s=20)
