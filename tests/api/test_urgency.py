"""Whose turn it is, until when, and for how long: priorities, deadlines, bounds, retention."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from dicom_files import series, zip_of
from fakes import FakeSegmenter, by_threshold
from fastapi.testclient import TestClient
from highdicom import Volume
from http_helpers import PNG, ZIP, problem, running, slice_png
from PIL import Image

from service.jobs import housekeeping, jobs
from service.jobs.housekeeping import Housekeeping

URL = "/v1/segmentations"
SOON = {"Prefer": "respond-async"}
WAIT_S = 30


class Gate:
    """A model that labels once it is let through, and notes how bright each volume is."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.model = FakeSegmenter(self._label)
        self.order: list[int] = []

    def _label(self, hu: np.ndarray) -> np.ndarray:
        self.entered.set()
        assert self.open.wait(WAIT_S)
        self.order.append(int(hu.max()))
        return by_threshold(hu)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open.set()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats and sweeps by the clock come at once."""
    monkeypatch.setattr(housekeeping, "BEAT_S", 0.05)
    monkeypatch.setattr(housekeeping, "SWEEP_S", 0.05)


@pytest.fixture
def all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Single images take the places of volumes."""
    monkeypatch.setattr(jobs, "SMALL_BYTES", 0)


def until(client: TestClient, address: str, accept: Callable[[dict], bool]) -> dict:
    deadline = time.monotonic() + WAIT_S
    while not accept(answer := client.get(address).json()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.01)
    return answer


def post(client: TestClient, level: int = 100, **parameters: object) -> str:
    """The address of an image's job."""
    answer = client.post(URL, content=slice_png(level), headers=PNG | SOON, params=parameters)
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def has_ended(answer: dict) -> bool:
    return answer["status"] not in ("queued", "running")


def test_urgent_jobs_come_first(tmp_path: Path, gate: Gate, all_large: None) -> None:
    """`stat` goes before `routine` that came earlier, each in the order of arrival."""
    with running(tmp_path, gate.model, max_running=1) as client:
        first = post(client, 70)
        assert gate.entered.wait(WAIT_S)
        waiting = [
            post(client, level, priority=priority)
            for level, priority in (
                (100, "routine"), (110, "stat"), (120, "routine"), (130, "stat"),
            )
        ]  # fmt: skip
        shown = [client.get(address).json()["priority"] for address in waiting]
        assert shown == ["routine", "stat", "routine", "stat"]
        assert client.get(first).json()["priority"] == "routine"
        gate.open.set()
        ended = [until(client, address, has_ended) for address in waiting]
    assert {job["status"] for job in ended} == {"succeeded"}
    finished = sorted(ended, key=lambda job: job["finished_at"])
    assert [ended.index(job) for job in finished] == [1, 3, 0, 2]
    by_level = sorted(set(gate.order))
    assert gate.order == [by_level[index] for index in (0, 2, 4, 1, 3)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("priority", "urgent"), ("deadline_s", "0"), ("deadline_s", "-1"), ("deadline_s", "nan")],
)
def test_bad_urgency(tmp_path: Path, name: str, value: str) -> None:
    """Another word than `stat` or `routine`, or a deadline that is none, is refused."""
    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        answer = client.post(URL, content=slice_png(), headers=PNG, params={name: value})
        problem(answer, 400, "invalid_parameter")


def test_deadline_of_a_running_job(tmp_path: Path, gate: Gate) -> None:
    """It fails in time with that reason, also for a POST that waits, and holds nobody up."""
    with running(tmp_path, gate.model) as client:
        began = time.monotonic()
        answer = client.post(URL, content=slice_png(), headers=PNG, params={"deadline_s": 1})
        assert 0.9 < time.monotonic() - began < 10
        assert "within 1 s" in problem(answer, 503, "deadline_exceeded")["detail"]
        job = client.get(answer.headers["location"]).json()
        assert (job["status"], job["error"]["code"]) == ("failed", "deadline_exceeded")
        created, deadline = map(datetime.fromisoformat, (job["created_at"], job["deadline_at"]))
        assert deadline - created == timedelta(seconds=1)
        gate.open.set()
        assert client.post(URL, content=slice_png(), headers=PNG).status_code == 201
        assert until(client, answer.headers["location"], lambda _: True)["status"] == "failed"


def test_deadline_of_a_job_that_waits(
    tmp_path: Path, gate: Gate, all_large: None, fast: None
) -> None:
    """It fails although nobody has begun it, a POST that waits is told, and nothing is kept."""
    with running(tmp_path, gate.model, max_running=1) as client, ThreadPoolExecutor(1) as pool:
        first = post(client, 70)
        assert gate.entered.wait(WAIT_S)
        queued = post(client, 110, deadline_s=1)
        waiting = pool.submit(
            client.post, URL, content=slice_png(120), headers=PNG, params={"deadline_s": 1.2}
        )
        problem(waiting.result(WAIT_S), 503, "deadline_exceeded")
        job = until(client, queued, has_ended)
        assert (job["status"], job["error"]["code"]) == ("failed", "deadline_exceeded")
        assert client.get(first).json()["status"] == "running"
        kept = tmp_path / "segmentations"
        assert not [path for path in kept.rglob(f"{job['id']}-*/*") if path.is_file()]
        gate.open.set()
        assert until(client, first, has_ended)["status"] == "succeeded"
        assert len(gate.order) == 1


def test_retention(tmp_path: Path, fast: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result vanishes when it said that it would, whatever its status; unfinished ones stay."""
    gate = Gate()
    hour_s = 3600
    with running(tmp_path, gate.model, retention_h=2 / hour_s) as client:
        cancelled = post(client, 90)
        stays = post(client, 80)
        assert client.post(f"{cancelled}/cancel").json()["status"] == "cancelled"
        assert client.get(stays).json()["expires_at"] is None
        gate.open.set()
        done = until(client, stays, has_ended)
        finished, expires = map(datetime.fromisoformat, (done["finished_at"], done["expires_at"]))
        assert expires - finished == timedelta(seconds=2)
        until(client, URL, lambda answer: answer["items"] == [])
        assert datetime.now(expires.tzinfo) >= expires
        for address in (cancelled, stays):
            problem(client.get(address), 404, "not_found")
        deadline = time.monotonic() + WAIT_S
        while any(path.is_file() for path in (tmp_path / "segmentations").rglob("*")):
            assert time.monotonic() < deadline


def test_retention_of_many(tmp_path: Path, fast: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one page of them is deleted in one go."""
    monkeypatch.setattr(housekeeping, "_PAGE", 2)
    sweeps: list[int] = []
    sweep = Housekeeping._delete_expired

    def counted(keeper: Housekeeping) -> None:
        before = len(keeper._registry.folders())
        sweep(keeper)
        sweeps.append(before - len(keeper._registry.folders()))

    with running(tmp_path, FakeSegmenter(by_threshold), retention_h=0) as client:
        for _ in range(5):
            assert client.post(URL, content=slice_png(), headers=PNG).status_code == 201
    monkeypatch.setattr(Housekeeping, "_delete_expired", counted)
    with running(tmp_path, FakeSegmenter(by_threshold), retention_h=1e-6) as client:
        until(client, URL, lambda answer: answer["items"] == [])
    assert max(sweeps) == 5


def test_kept_until_deleted(tmp_path: Path, fast: None) -> None:
    """With a retention of 0 nothing vanishes, and no time is named."""
    with running(tmp_path, FakeSegmenter(by_threshold), retention_h=0) as client:
        done = client.post(URL, content=slice_png(), headers=PNG).json()
        assert done["expires_at"] is None
        time.sleep(0.3)
        assert client.get(done["links"]["self"]).json() == done


def test_list_by_status(tmp_path: Path, gate: Gate) -> None:
    """Of one status or several, in pages whose `next` asks for the same."""
    with running(tmp_path, gate.model, max_running=1) as client:
        gate.open.set()
        done = [post(client, level) for level in (70, 71, 72)]
        for address in done:
            until(client, address, has_ended)
        gate.open.clear()
        gate.entered.clear()
        live = [post(client, 80)]
        assert gate.entered.wait(WAIT_S)
        cancelled = [post(client, level) for level in (90, 91)]
        for address in cancelled:
            client.post(f"{address}/cancel")

        def listed(*statuses: str) -> list[str]:
            """All addresses, two a page."""
            found, address = [], f"{URL}?limit=2" + "".join(f"&status={one}" for one in statuses)
            while address is not None:
                page = client.get(address).json()
                assert len(page["items"]) <= 2
                found += [item["links"]["self"] for item in page["items"]]
                address = page["next"]
            return found

        assert listed("succeeded") == done[::-1]
        assert listed("cancelled") == cancelled[::-1]
        assert listed("succeeded", "cancelled") == cancelled[::-1] + done[::-1]
        assert listed("queued", "running") == live
        assert listed("failed") == []
        assert listed() == cancelled[::-1] + live + done[::-1]
        problem(client.get(URL, params={"status": "ended"}), 400, "invalid_parameter")
        gate.open.set()


def test_bound_of_bytes(tmp_path: Path, gate: Gate) -> None:
    """Above `max_jobs_bytes` of unfinished inputs 503, unless it is the only one."""
    size = len(slice_png(100))
    with running(tmp_path, gate.model, max_jobs_bytes=2 * size + 10) as client:
        accepted = [post(client, 100) for _ in range(2)]
        refused = client.post(URL, content=slice_png(100), headers=PNG | SOON)
        assert "bytes" in problem(refused, 503, "busy")["detail"]
        assert int(refused.headers["retry-after"]) > 0
        gate.open.set()
        for address in accepted:
            until(client, address, has_ended)
        big = np.random.default_rng(1).integers(0, 255, (64, 64), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(big).save(buffer, "PNG")
        assert len(buffer.getvalue()) > 2 * size + 10
        assert client.post(URL, content=buffer.getvalue(), headers=PNG).status_code == 201


@pytest.mark.parametrize("where", ["model", "measure", "accept"])
def test_out_of_memory(
    tmp_path: Path, clean_volume: Volume, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume too large for memory fails by itself with 507; the next one succeeds."""
    study = zip_of(series(clean_volume))

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        with monkeypatch.context() as patched:
            match where:
                case "model":
                    patched.setattr(FakeSegmenter, "run", fail)
                case "measure":
                    patched.setattr("service.pipeline.measure", fail)
                case "accept":
                    patched.setattr(jobs, "check_files", fail)
            answer = client.post(URL, content=study, headers=ZIP)
            problem(answer, 507, "out_of_memory")
            if where != "accept":
                job = client.get(answer.headers["location"]).json()
                assert (job["status"], job["error"]["code"]) == ("failed", "out_of_memory")
        assert client.post(URL, content=study, headers=ZIP).status_code == 201


def test_key_of_a_deleted_job_brings_the_new_body(tmp_path: Path, gate: Gate) -> None:
    """However many were accepted and never begun, a job works on its own input."""
    with running(tmp_path, gate.model, max_jobs=64, max_running=1) as client:
        others = [post(client, level) for level in range(100, 108)]  # all places for small ones
        headers = PNG | SOON | {"Idempotency-Key": "again"}
        first = client.post(URL, content=slice_png(100), headers=headers).headers["location"]
        for address in [*(post(client, level) for level in range(110, 130)), first]:
            assert client.delete(address).status_code == 204
        answer = client.post(URL, content=slice_png(189), headers=headers)
        gate.open.set()
        for address in others:
            until(client, address, has_ended)
        done = until(client, answer.headers["location"], has_ended)
        assert done["findings"]["liver"]["voxels"] == 40 * 40
