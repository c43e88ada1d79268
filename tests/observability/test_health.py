"""What probes see while a service starts, lives, cannot start, and ends."""

import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes import FakeSegmenter, by_threshold
from fastapi.testclient import TestClient
from forked_service import check_log, forked
from http_helpers import PNG, problem, slice_png
from observability.exposed import value

from benchmarks.load import free_port
from service.__main__ import _failed_to_start
from service.api.app import create_app
from service.errors import InvalidModel, Unavailable
from service.phantom_files import PHANTOM_NAME
from service.settings import Settings

PROBES = ("live", "startup", "ready")
WAIT_S = 20


def statuses(client: TestClient) -> tuple[int, ...]:
    return tuple(client.get(f"/health/{probe}").status_code for probe in PROBES)


def until(client: TestClient, expected: tuple[int, ...]) -> None:
    deadline = time.monotonic() + WAIT_S
    while (found := statuses(client)) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)


@contextmanager
def loading(
    settings: Settings, failures: list[BaseException]
) -> Iterator[tuple[TestClient, threading.Event]]:
    """A service whose model is loaded once the event is set."""
    go_on = threading.Event()

    def open_model(_: Settings) -> FakeSegmenter:
        assert go_on.wait(WAIT_S)
        return FakeSegmenter(by_threshold)

    with TestClient(create_app(settings, open_model, on_failure=failures.append)) as client:
        try:
            yield client, go_on
        finally:
            go_on.set()


def test_live_while_the_model_loads(settings: Settings) -> None:
    """Then started and ready; meanwhile each request for work says that it is to come again."""
    failures: list[BaseException] = []
    with loading(settings, failures) as (client, go_on):
        assert statuses(client) == (200, 503, 503)
        problem(client.get("/health/startup"), 503, "model_not_ready")
        answer = client.get("/v1/models")
        problem(answer, 503, "model_not_ready")
        assert answer.headers["Retry-After"]
        go_on.set()
        until(client, (200, 200, 200))
        assert client.post("/v1/segment", content=slice_png(), headers=PNG).status_code == 200
    assert failures == []


def test_started_also_while_it_drains(client: TestClient) -> None:
    """A startup probe is over by then; a readiness probe takes it out of the rotation."""
    assert client.get("/health/startup").json() == {"status": "started"}
    client.app.state.resources.drain()
    until(client, (200, 200, 503))


def test_an_end_while_the_model_loads(settings: Settings) -> None:
    """Is no failure, and waits for what has begun."""
    failures: list[BaseException] = []
    with loading(settings, failures) as (client, go_on):
        client.app.state.resources.drain()
        go_on.set()
    assert failures == []


def test_never_started_with_an_invalid_model(settings: Settings) -> None:
    """Live all the same, so that somebody can mend it in place; a metric says why."""
    failures: list[BaseException] = []

    def fail(_: Settings) -> FakeSegmenter:
        raise InvalidModel("Expected a contract, found none.")

    with TestClient(create_app(settings, fail, on_failure=failures.append)) as client:
        deadline = time.monotonic() + WAIT_S
        while "invalid_model" not in client.get("/health/startup").json()["detail"]:
            assert time.monotonic() < deadline
        assert statuses(client) == (200, 503, 503)
        text = client.get("/metrics").text
    assert value(text, "lts_start_failure_info", code="invalid_model") == 1
    assert value(text, "lts_ready") == 0
    assert failures == []


@pytest.mark.parametrize("error", [ZeroDivisionError(), Unavailable("found none")])
def test_any_other_failure_is_handed_on(
    settings: Settings, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To whoever can end the process; without anybody to hand it to, the start itself fails."""
    monkeypatch.setattr("service.database.START_S", 0)
    failures: list[BaseException] = []

    def fail(_: Settings) -> FakeSegmenter:
        raise error

    with TestClient(create_app(settings, fail, on_failure=failures.append)) as client:
        assert client.get("/health/live").status_code == 200
        deadline = time.monotonic() + WAIT_S
        while not failures and time.monotonic() < deadline:
            time.sleep(0.01)
        assert failures == [error]
        assert statuses(client) == (200, 503, 503)
    with pytest.raises(type(error)), TestClient(create_app(settings, fail)):
        pass


def test_a_failure_that_nobody_foresaw(logged: io.StringIO) -> None:
    """Is told by its place and never by its message, which may be anything."""
    assert _failed_to_start(ValueError(PHANTOM_NAME)) == 1
    (line,) = map(json.loads, logged.getvalue().splitlines())
    assert line["event"] == "failed to start"
    assert line["place"].startswith("ValueError")
    assert PHANTOM_NAME not in logged.getvalue()


def test_a_failure_ends_the_process(tmp_path: Path) -> None:
    """With status 1, and in words: here CUDA that is not there."""
    log = tmp_path / "service.log"
    environment = {
        "LTS_PORT": free_port(), "LTS_DATA_DIR": tmp_path / "data", "LTS_DEVICE": "cuda",
    }  # fmt: skip
    process = forked(["serve"], environment, log)
    process.join(60)
    assert process.exitcode == 1
    said = log.read_text()
    assert "The configured device cannot be used." in said
    assert "Traceback" not in said
    check_log(log)
