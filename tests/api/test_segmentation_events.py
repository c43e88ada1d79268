"""`/v1/segmentations/{id}/events`: how far a segmentation is, as server-sent events."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from dicom_files import series, zip_of
from fakes import FakeSegmenter, by_threshold
from fastapi.testclient import TestClient
from highdicom import Volume
from http_helpers import PNG, ZIP, listening, problem, slice_png

from service.access import keys as keys_module
from service.api import segmentation_events
from service.api.app import create_app
from service.settings import Settings

URL = "/v1/segmentations"
SOON = {"Prefer": "respond-async"}
WAIT_S = 30


class Steps:
    """A model that labels a batch each time that it is told to."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.entered = threading.Event()
        self.model = FakeSegmenter(self._label)

    def _label(self, hu: np.ndarray) -> np.ndarray:
        self.entered.set()
        assert self.go.acquire(timeout=WAIT_S)
        return by_threshold(hu)

    def finish(self) -> None:
        self.go.release(1000)


class Watching(threading.Thread):
    """A client of the events of one job, over a real connection."""

    def __init__(self, port: int, address: str, key: str = "") -> None:
        super().__init__(daemon=True)
        self._port, self._address = port, address
        self._headers = {"X-API-Key": key} if key else {}
        self.events: list[tuple[str, dict]] = []
        self.lines: list[str] = []
        self.media_type = ""
        self.start()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)
        connection.request("GET", f"{self._address}/events", headers=self._headers)
        response = connection.getresponse()
        self.media_type = response.headers["content-type"]
        name = ""
        while line := response.readline().decode():
            self.lines.append(line.rstrip("\n"))
            key, _, value = self.lines[-1].partition(": ")
            if key == "event":
                name = value
            elif key == "data":
                self.events.append((name, json.loads(value)))
        connection.close()

    def wait_for(self, slices: int) -> None:
        deadline = time.monotonic() + WAIT_S
        while not any(data["progress"]["slices_done"] == slices for _, data in self.events):
            assert time.monotonic() < deadline, self.events
            time.sleep(0.01)

    def wait(self) -> list[tuple[str, dict]]:
        self.join(WAIT_S)
        assert not self.is_alive()
        return self.events


@pytest.fixture
def steps() -> Iterator[Steps]:
    made = Steps()
    yield made
    made.finish()


@pytest.fixture
def service(tmp_path: Path, steps: Steps) -> Iterator[tuple[TestClient, int]]:
    """A service behind a real server, since the test client reads an answer whole."""
    settings = Settings(data_dir=tmp_path, batch_slices=16, max_watchers=2)
    app = create_app(settings, lambda _: steps.model)
    with listening(app) as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        client.timeout, client.app = WAIT_S, app
        yield client, port
        steps.finish()


@pytest.fixture(scope="module")
def study(clean_volume: Volume) -> bytes:
    return zip_of(series(clean_volume))


def post(client: TestClient, content: bytes, headers: dict = ZIP) -> str:
    answer = client.post(URL, content=content, headers=headers | SOON)
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def test_progress_and_end(service: tuple[TestClient, int], steps: Steps, study: bytes) -> None:
    """Each change of the slices that are done is told, then the end, and the stream is closed."""
    client, port = service
    address = post(client, study)
    watching = Watching(port, address)
    for done in (0, 16, 32):
        watching.wait_for(done)
        steps.go.release()
    *before, (name, data) = watching.wait()
    assert watching.media_type.startswith("text/event-stream")
    assert watching.lines[0].startswith("retry: ")
    assert {event for event, _ in before} == {"progress"}
    assert all(one["status"] in ("queued", "running") for _, one in before)
    fractions = [one["progress"]["fraction"] for _, one in before]
    assert fractions == sorted(fractions)
    assert [one["progress"]["slices_total"] for _, one in before][-1] == 36
    assert [one for _, one in before] != []
    assert len({json.dumps(one) for _, one in before}) == len(before)  # nothing is told twice
    assert (name, data["status"], data["error"]) == ("end", "succeeded", None)
    assert data["progress"] == {
        "stage": "done", "fraction": 1.0, "slices_done": 36, "slices_total": 36,
    }  # fmt: skip


def test_end_of_what_has_ended(service: tuple[TestClient, int], steps: Steps) -> None:
    """Whoever comes late hears of the end at once; of a failure with its reason."""
    client, port = service
    address = post(client, slice_png(), PNG)
    assert steps.entered.wait(WAIT_S)
    client.post(f"{address}/cancel")
    ((name, data),) = Watching(port, address).wait()
    assert (name, data["status"]) == ("end", "cancelled")
    assert data["error"]["code"] == "cancelled"


def test_a_revoked_key_sees_no_more(
    service: tuple[TestClient, int], steps: Steps, study: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that it has opened is closed; one of a key that goes on is not."""
    monkeypatch.setattr(segmentation_events, "ADMIT_AGAIN_S", 0.1)
    monkeypatch.setattr(keys_module, "FRESH_S", 0)
    client, port = service
    keys = client.app.state.resources.ready_gate().keys
    owner, gone = keys.create("owner", ["read", "write"]), keys.create("gone", ["admin"])
    address = post(client, study, ZIP | {"X-API-Key": owner})
    kept, over = Watching(port, address, owner), Watching(port, address, gone)
    for watching in (kept, over):
        watching.wait_for(0)
    keys.revoke(gone.split("_")[1])
    assert [name for name, _ in over.wait()] == ["progress"] * len(over.events)
    steps.finish()
    assert kept.wait()[-1][0] == "end"


def test_unknown_ids_have_no_events(service: tuple[TestClient, int]) -> None:
    """404 with a problem document, for an id that was never given."""
    client, _ = service
    for unknown in ("0" * 32, "x", "..%2f.."):
        problem(client.get(f"{URL}/{unknown}/events"), 404, "not_found")


def test_events_of_a_deleted_job(service: tuple[TestClient, int], steps: Steps) -> None:
    """The stream ends when the job is deleted."""
    client, port = service
    address = post(client, slice_png(), PNG)
    watching = Watching(port, address)
    watching.wait_for(0)
    assert client.delete(address).status_code == 204
    events = watching.wait()
    assert events[0][0] == "progress"
    assert all(data["status"] in ("queued", "running", "cancelled") for _, data in events)


def test_events_end_with_the_service(service: tuple[TestClient, int], steps: Steps) -> None:
    """A service that ends leaves no stream open, and opens none; the client comes again."""
    client, port = service
    address = post(client, slice_png(), PNG)
    watching = Watching(port, address)
    watching.wait_for(0)
    began = time.monotonic()
    client.app.state.resources.drain()
    assert {name for name, _ in watching.wait()} == {"progress"}
    assert time.monotonic() - began < 5
    problem(client.get(f"{address}/events"), 503, "shutting_down")


def test_too_many_watchers(service: tuple[TestClient, int], steps: Steps) -> None:
    """Above `max_watchers` streams 503 with Retry-After; then there is room again."""
    client, port = service
    address = post(client, slice_png(), PNG)
    watching = [Watching(port, address) for _ in range(2)]
    for one in watching:
        one.wait_for(0)
    refused = client.get(f"{address}/events")
    problem(refused, 503, "busy")
    assert int(refused.headers["retry-after"]) > 0
    steps.finish()
    for one in watching:
        assert one.wait()[-1][0] == "end"
    deadline = time.monotonic() + WAIT_S
    while client.get(f"{address}/events").status_code == 503:
        assert time.monotonic() < deadline


def test_a_watcher_who_leaves_makes_room(service: tuple[TestClient, int], steps: Steps) -> None:
    """A stream whose client is gone counts no longer."""
    client, _ = service
    address = post(client, slice_png(), PNG)
    for _ in range(6):
        deadline = time.monotonic() + WAIT_S
        while True:
            with client.stream("GET", f"{address}/events") as answer:
                if answer.status_code == 200:
                    assert next(answer.iter_lines()).startswith("retry: ")
                    break
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_silence_is_broken(
    service: tuple[TestClient, int], steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing happens comments keep the connection open."""
    monkeypatch.setattr(segmentation_events, "KEEP_ALIVE_S", 0.1)
    monkeypatch.setattr(segmentation_events, "LOOK_S", 0.02)
    client, port = service
    watching = Watching(port, post(client, slice_png(), PNG))
    deadline = time.monotonic() + WAIT_S
    while sum(line.startswith(":") for line in watching.lines) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(watching.events) < 4
    steps.finish()
    assert watching.wait()[-1][0] == "end"
