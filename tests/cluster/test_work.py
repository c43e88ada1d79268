"""APIs and workers in processes of their own work together as one service would."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from cluster.harness import (
    SOON,
    URL,
    Cluster,
    Expected,
    Process,
    Watching,
    ask,
    at_work,
    ended,
    get,
    post,
    until,
)
from conftest import ROOT
from http_helpers import PNG, ZIP, slice_png

from reliability.parts.nginx import Nginx

pytestmark = pytest.mark.postgres

AT_ONCE_S = 1.5
"""Less than any look by the clock takes; a message was heard."""


@dataclass(frozen=True)
class Hospital:
    """Two APIs, and a worker."""

    apis: tuple[Process, Process]
    worker: Process

    @property
    def api(self) -> Process:
        return self.apis[0]


@pytest.fixture(scope="module")
def hospital(cluster: Cluster) -> Hospital:
    apis = cluster.begin("serve", "--no-worker"), cluster.begin("serve", "--no-worker")
    worker = cluster.begin("worker")
    for process in (*apis, worker):
        process.wait_ready()
    return Hospital(apis, worker)


@pytest.fixture(scope="module")
def balancer(has_nginx: None, hospital: Hospital) -> Iterator[Nginx]:
    with Nginx.start([api.address for api in hospital.apis]) as running:
        yield running


def test_parts_come_from_the_bucket(
    cluster: Cluster, hospital: Hospital, study: bytes, expected: Expected
) -> None:
    """What a worker made every API serves, byte for byte what one process alone had made."""
    job = ended(hospital.api, post(hospital.api, study))
    assert job["status"] == "succeeded", job
    files = expected.files(job)
    assert cluster.result(job["id"]) == files
    parts = {
        "mask.nii.gz": files["mask.nii.gz"],
        "mask.dcm": files["mask.dcm"],
        "report.dcm": files["report.dcm"],
        "rtstruct.dcm": files["rtstruct.dcm"],
        "report.fhir.json": files["report.fhir.json"],
        "preview.png": files["preview.png"],
        "overlays.zip": expected.overlays(job),
    }
    for api in hospital.apis:
        assert get(api, job["id"]) == job
        answers = {name: api.ask("GET", f"{URL}/{job['id']}/{name}") for name in parts}
        assert {answer.status for answer in answers.values()} == {200}
        assert {name: answer.body for name, answer in answers.items()} == parts
        contours = api.ask("GET", f"{URL}/{job['id']}/contours").json()
        assert contours["contours"]
        assert contours == ask(hospital.api.port, "GET", job["links"]["contours"]).json()
    assert hospital.api.ask("GET", job["links"]["image_nifti"]).status == 200
    assert hospital.worker.metric("lts_jobs_total") >= 1


def test_same_key_to_two_apis_at_once(cluster: Cluster, hospital: Hospital) -> None:
    """One job, which both answers name; another body with the key is refused by either."""
    with ThreadPoolExecutor(4) as pool:
        for round_ in range(5):
            headers = PNG | SOON | {"Idempotency-Key": f"twice-{round_}"}
            together = threading.Barrier(4)

            def send(api: Process, headers: dict = headers, together=together) -> str:
                together.wait()
                return post(api, slice_png(), headers)

            ids = set(pool.map(send, hospital.apis * 2))
            assert len(ids) == 1
            for api in hospital.apis:
                other = api.ask("POST", URL, slice_png(90), headers)
                assert (other.status, other.json()["code"]) == (409, "idempotency_conflict")
            job_id = ids.pop()
            assert ended(hospital.apis[1], job_id)["status"] == "succeeded"
            assert cluster.rows("select count(*) from lts_jobs where id = %s", job_id) == [(1,)]
            cluster.wait_tidy(job_id)
            runs = {path.partition("/")[0] for path in cluster.kept(job_id)}
            assert len(runs) == 1


def test_different_bodies_with_one_key_at_once(hospital: Hospital) -> None:
    """Of two that come at the same moment one is accepted and the other is refused."""
    headers = PNG | SOON | {"Idempotency-Key": "contested"}
    together = threading.Barrier(2)

    def send(api: Process, level: int) -> int:
        together.wait()
        return api.ask("POST", URL, slice_png(level), headers).status

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(send, hospital.apis, (100, 120))) == [202, 409]


def test_waiting_post_is_answered_through_nginx(hospital: Hospital, balancer: Nginx) -> None:
    """A POST over either API gets its 201 as soon as another process has finished."""

    def send() -> float:
        """Seconds from the end of the job to the end of the answer."""
        answer = ask(balancer.port, "POST", URL, slice_png(), PNG | {"Prefer": "wait=50"})
        assert (answer.status, answer.json()["status"]) == (201, "succeeded")
        return time.time() - seconds_of(answer.json()["finished_at"])

    late_s = []
    for _ in range(3):
        with hospital.worker.held(), ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(send)
            time.sleep(0.3)
            assert not waiting.done()
            hospital.worker.release()
            late_s.append(waiting.result())
    assert min(late_s) < AT_ONCE_S, late_s


def test_events_of_a_job_elsewhere(hospital: Hospital, study: bytes, balancer: Nginx) -> None:
    """Progress arrives while another process works, and the end at the end, through nginx, too."""
    with hospital.worker.slow(1):
        with hospital.worker.held():
            job_id = post(hospital.api, study)
            watching = [Watching(port, job_id) for port in (hospital.api.port, balancer.port)]
            until(lambda: all(one.events for one in watching))
        both = [one.wait() for one in watching]
        finished = time.time()
    for *before, last in both:
        assert {event.name for event in before} == {"progress"}
        assert before[0].data["status"] == "queued"
        done = [event.data["progress"]["slices_done"] for event in before]
        assert done == sorted(done)
        assert {1, 2, 3} <= set(done)
        assert (last.name, last.data["status"]) == ("end", "succeeded")
        assert last.data["progress"] == {
            "stage": "done", "fraction": 1.0, "slices_done": 4, "slices_total": 4,
        }  # fmt: skip
        arrived = {event.data["progress"]["slices_done"]: event.at for event in reversed(before)}
        assert last.at - arrived[1] > 1.5  # at the time, not all at the end
    assert finished - seconds_of(get(hospital.api, job_id)["finished_at"]) < AT_ONCE_S


def seconds_of(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def test_cancel_of_a_job_elsewhere(cluster: Cluster, hospital: Hospital, long_study: bytes) -> None:
    """The other process stops within a batch; the job is cancelled, and nothing is left of it."""
    with hospital.worker.slow(0.5):
        job_id = post(hospital.api, long_study)
        at_work(hospital.api, job_id)
        answer = hospital.apis[1].ask("POST", f"{URL}/{job_id}/cancel")
        cancelled = time.monotonic()
        assert (answer.status, answer.json()["status"]) == (200, "cancelled")
        until(lambda: hospital.worker.metric("lts_jobs_in_work") == 0)
        assert time.monotonic() - cancelled < 0.5 + AT_ONCE_S
    cluster.wait_tidy(job_id)
    assert cluster.kept(job_id) == {}
    job = get(hospital.api, job_id)
    assert (job["status"], job["error"]["code"]) == ("cancelled", "cancelled")
    assert job["progress"]["slices_done"] < 16


def test_delete_of_a_job_elsewhere(cluster: Cluster, hospital: Hospital, long_study: bytes) -> None:
    """A job in another process is stopped and gone, in the bucket and in all tables."""
    with hospital.worker.slow(0.5):
        job_id = post(hospital.api, long_study)
        at_work(hospital.api, job_id)
        assert hospital.apis[1].ask("DELETE", f"{URL}/{job_id}").status == 204
        until(lambda: hospital.worker.metric("lts_jobs_in_work") == 0)
    for api in hospital.apis:
        assert api.ask("GET", f"{URL}/{job_id}").status == 404
    assert cluster.kept(job_id) == {}
    assert cluster.rows("select * from dbos.workflow_status where workflow_uuid = %s", job_id) == []
    assert ended(hospital.api, post(hospital.api, slice_png(), PNG))["status"] == "succeeded"


def test_delete_while_a_result_is_written(
    cluster: Cluster, hospital: Hospital, study: bytes
) -> None:
    """What a process writes after a job was deleted that process deletes itself."""
    before = set(cluster.everything())
    with hospital.worker.slow(6.5, "slow-put"):
        job_id = post(hospital.api, study)
        until(lambda: get(hospital.api, job_id)["progress"]["stage"] == "publish")
        assert hospital.api.ask("DELETE", f"{URL}/{job_id}").status == 204
        assert hospital.worker.metric("lts_jobs_in_work") == 1
    until(lambda: hospital.worker.metric("lts_jobs_in_work") == 0)
    until(lambda: set(cluster.everything()) <= before, within_s=3)
    assert ended(hospital.api, post(hospital.api, slice_png(), PNG))["status"] == "succeeded"


def test_key_of_a_deleted_job_brings_the_new_body(
    cluster: Cluster, hospital: Hospital, tmp_path: Path
) -> None:
    """A process that once read the first body works on the second one all the same."""
    headers = PNG | SOON | {"Idempotency-Key": "used-again"}
    both = cluster.start("serve", held=True)
    try:
        first = ended(both, post(both, slice_png(), headers))
        assert hospital.api.ask("DELETE", f"{URL}/{first['id']}").status == 204
        with hospital.worker.held():
            again = post(hospital.api, slice_png(60), headers)
            assert again == first["id"]
            both.release()
            second = ended(hospital.api, again)
        plain = ended(hospital.api, post(hospital.api, slice_png(60), PNG))
        assert second["source"] == plain["source"]
        assert second["findings"] == plain["findings"]
        assert (
            both.ask("GET", f"{URL}/{again}/image.nii.gz").body
            == both.ask("GET", f"{URL}/{plain['id']}/image.nii.gz").body
        )
    finally:
        assert both.end() == 0


def test_a_worker_is_no_api(hospital: Hospital) -> None:
    """It answers its health and metrics and nothing else."""
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert hospital.worker.ask("GET", path).status == 200
    for method, path in (
        ("POST", URL), ("GET", URL), ("POST", "/v1/segment"), ("GET", "/v1/models"),
    ):  # fmt: skip
        answer = hospital.worker.ask(method, path, slice_png(), PNG)
        assert (answer.status, answer.json()["code"]) == (404, "not_found")


def test_stateless_answer_of_an_api(cluster: Cluster, hospital: Hospital, study: bytes) -> None:
    """An API without a model has a worker do it, and keeps nothing."""
    job = ended(hospital.api, post(hospital.api, study))
    before = cluster.rows("select id from lts_jobs order by id")
    answer = hospital.api.ask("POST", "/v1/segment", study, ZIP)
    assert answer.status == 200, answer
    for part in ("source", "model", "findings", "warnings", "postprocessing"):
        assert answer.json()[part] == job[part]
    until(lambda: cluster.rows("select id from lts_jobs order by id") == before)
    assert {path.partition("-")[0] for path in cluster.everything()} <= {id for (id,) in before}


@pytest.mark.parametrize(
    ("command", "given", "words"),
    [
        (("serve",), ("LTS_DATABASE_URL",), "found one of them"),
        (("worker",), ("LTS_STORE_URL",), "found one of them"),
        (("worker",), (), "where processes share the work"),
        (("serve", "--no-worker"), (), "where processes share the work"),
    ],
)
def test_half_a_cluster_is_refused(
    command: tuple[str, ...], given: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    """A process that would share only one of database and bucket ends at once, in words."""
    urls = {"LTS_DATABASE_URL": "postgresql://a:secret@127.0.0.1:1/x", "LTS_STORE_URL": "s3://b/c"}
    refused = subprocess.run(
        [sys.executable, "-m", "service", *command],
        env=os.environ | {name: urls[name] for name in given} | {"LTS_DATA_DIR": str(tmp_path)},
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert words in refused.stderr
    assert "LTS_DATABASE_URL and LTS_STORE_URL" in refused.stderr
    assert "secret" not in refused.stderr
    assert list(tmp_path.iterdir()) == []
