"""Clients that are slow, leave, lie about their body, or ask for nonsense; others go on."""

import io
import json
import re
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from dicom_files import series, zip_of
from fakes import FakeSegmenter, by_threshold
from fastapi import FastAPI
from fastapi.testclient import TestClient
from http_helpers import PNG, WAIT_S, head, listening, problem, read_all, running, slice_png

from benchmarks.load import running_service
from service.api.app import create_app
from service.phantom import Phantom
from service.settings import Settings

pytestmark = pytest.mark.alone  # slow by the second: another test must not be in the way


def app(folder: Path, model: FakeSegmenter | None = None, **settings: object) -> FastAPI:
    return create_app(
        Settings(data_dir=folder, **settings), lambda _: model or FakeSegmenter(by_threshold)
    )


def post(port: int, path: str = "/v1/segment") -> dict:
    """A good client's answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", slice_png(), PNG)
    with urllib.request.urlopen(request, timeout=WAIT_S) as response:
        return json.loads(response.read())


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=WAIT_S) as response:
        found = re.search(rf"^{re.escape(name)} (\S+)$", response.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def until_metric(port: int, name: str, value: float) -> None:
    deadline = time.monotonic() + WAIT_S
    while metric(port, name) != value:
        assert time.monotonic() < deadline, name
        time.sleep(0.02)


@pytest.mark.parametrize("path", ["/v1/segment", "/v1/segmentations"])
def test_slow_body(tmp_path: Path, path: str) -> None:
    """A body that drips ends with 408, and holds no place meanwhile."""
    settings = {"upload_grace_s": 0.5, "max_running": 1, "max_waiting": 0}
    with listening(app(tmp_path, **settings)) as port:
        post(port)  # a first request is slow, and the slow bodies must not find its place taken
        with ExitStack() as opened:
            slow = [
                opened.enter_context(socket.create_connection(("127.0.0.1", port)))
                for _ in range(3)
            ]
            for connection in slow:
                connection.sendall(head(port, 10_000, path) + b"\x89PNG")
            metric(port, "lts_admitted_requests")  # read after the three heads before it
            assert post(port)["findings"]["liver"]["area_px"] == 1600
            for connection in slow:
                answer = read_all(connection)
                assert answer.startswith(b"HTTP/1.1 408")
                assert b"upload_timeout" in answer
        assert post(port)["findings"]["liver"]["area_px"] == 1600


def test_client_that_leaves_during_its_upload(tmp_path: Path) -> None:
    """Nobody is answered, nothing is kept, the next client is served."""
    with listening(app(tmp_path)) as port:
        for path in ("/v1/segment", "/v1/segmentations"):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(head(port, 10_000_000, path) + bytes(3_000_000))
        gone = 'lts_requests_total{method="POST",route="%s",status="499"}'
        until_metric(port, gone % "/v1/segment", 1)
        until_metric(port, gone % "/v1/segmentations", 1)
        assert post(port)["findings"]["liver"]["area_px"] == 1600
        files = [path.name for path in tmp_path.rglob("*") if path.is_file()]
        assert all(name.startswith(("jobs.sqlite", "steps.sqlite")) for name in files)


def test_client_that_leaves_while_it_waits(tmp_path: Path) -> None:
    """Its work stops at the next batch, and its place is free."""
    entered, go_on = threading.Event(), threading.Event()

    def slow(hu: np.ndarray) -> np.ndarray:
        entered.set()
        assert go_on.wait(WAIT_S)
        return by_threshold(hu)

    model = FakeSegmenter(slow)
    with listening(app(tmp_path, model, batch_slices=1, max_waiting=0, max_running=1)) as port:
        part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        stack = (part + slice_png() + b"\r\n") * 9
        form = stack + b"--x--\r\n"
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(
                b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n"
                b"Content-Length: %d\r\n\r\n" % len(form) + form
            )
            assert entered.wait(WAIT_S)
        until_metric(port, "lts_admitted_requests", 0)
        go_on.set()
        assert post(port)["findings"]["liver"]["area_px"] == 1600
    assert sum(len(batch) for batch in model.handed) == 2  # one of nine, and the good client's


@pytest.mark.parametrize("declared", ["5", "-1", "x", "1, 2", "99999999999999999999"])
def test_content_length_that_lies(tmp_path: Path, declared: str) -> None:
    """Too short, negative, no number, two, beyond any limit: 4xx or no answer, and life goes on."""
    with listening(app(tmp_path)) as port:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head(port, declared) + slice_png())
            connection.shutdown(socket.SHUT_WR)
            answer = read_all(connection)
        assert re.match(rb"HTTP/1.1 4\d\d |$", answer)
        assert post(port)["findings"]["liver"]["area_px"] == 1600


def test_content_length_beyond_the_body(tmp_path: Path) -> None:
    """A body that ends before its declared length is not taken for whole."""
    with listening(app(tmp_path)) as port:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head(port, len(slice_png()) + 1) + slice_png())
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection) == b""
        assert post(port)["findings"]["liver"]["area_px"] == 1600


def test_too_many_uploads_at_once(tmp_path: Path) -> None:
    """Bodies that arrive at once are bounded: one more is 503, until one of them has ended."""
    with listening(app(tmp_path, max_uploads=1)) as port:
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(head(port, 10_000) + b"\x89PNG")
            time.sleep(0.2)
            with pytest.raises(urllib.error.HTTPError) as refused:
                post(port)
            assert refused.value.code == 503
            refused.value.close()
        until_metric(port, 'lts_requests_total{method="POST",route="/v1/segment",status="499"}', 1)
        assert post(port)["findings"]["liver"]["area_px"] == 1600


@pytest.mark.parametrize("path", ["/v1/segment", "/v1/segmentations"])
def test_deadline(tmp_path: Path, path: str) -> None:
    """A stateless answer has a deadline; a durable one takes its time."""
    with running(tmp_path, FakeSegmenter(by_threshold), deadline_s=1e-6) as client:
        response = client.post(path, content=slice_png(), headers=PNG)
        if path == "/v1/segment":
            problem(response, 503, "deadline_exceeded")
            assert int(response.headers["retry-after"]) > 0
        else:
            assert response.status_code == 201


def test_full_disk(tmp_path: Path) -> None:
    """Without free room nothing durable is accepted and the service is not ready; 507 says so."""
    with running(tmp_path, FakeSegmenter(by_threshold), min_free_bytes=2**62) as client:
        problem(client.get("/health/ready"), 507, "storage_full")
        problem(client.post("/v1/segmentations", content=slice_png(), headers=PNG), 507,
                "storage_full")  # fmt: skip
        assert client.post("/v1/segment", content=slice_png(), headers=PNG).status_code == 200


PARAMETERS = ("series_instance_uid", "resample", "pixel_spacing_mm", "window_lower_hu",
              "window_upper_hu", "drop_liver_fragments", "drop_distant_tumor",
              "drop_small_lesions", "drop_unlikely_lesions", "include")  # fmt: skip


def test_every_parameter_is_tried(tmp_path: Path) -> None:
    """The list below is the API's."""
    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        operation = client.get("/openapi.json").json()["paths"]["/v1/segment"]["post"]
        assert {item["name"] for item in operation["parameters"]} == set(PARAMETERS)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    with running(tmp_path_factory.mktemp("data"), FakeSegmenter(by_threshold)) as running_client:
        yield running_client


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("value", ["x y", "1e999", "nan", "[]", "-", "\x00", "9" * 5000, "ä", "2"])
def test_wrong_types(client: TestClient, name: str, value: str) -> None:
    """In the query and in the form, of both POSTs: 400, or a value that is allowed."""
    for path in ("/v1/segment", "/v1/segmentations"):
        for where in ({"params": {name: value}}, {"data": {name: value}}):
            response = client.post(path, files={"files": ("a", slice_png())}, **where)
            allowed = value == "2" and name in ("series_instance_uid", "pixel_spacing_mm")
            if allowed:
                assert response.status_code in (200, 201)
            else:
                assert response.status_code == 400, (path, where, response.text)
                assert response.json()["code"] == "invalid_parameter"


def test_health_while_inference_runs_flat_out(phantom: Phantom) -> None:
    """The real process with the real model: 95 of 100 answers come within 100 ms."""
    # Three batches a request, over and over: more slices would only be waited for in the end.
    study = zip_of(series(phantom.sample(12, 256, seed=1)[0]))
    with running_service(device="cpu") as address:
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                request = urllib.request.Request(
                    f"{address}/v1/segment", study, {"Content-Type": "application/zip"}
                )
                urllib.request.urlopen(request, timeout=WAIT_S).close()

        clients = [threading.Thread(target=load) for _ in range(3)]
        for each in clients:
            each.start()
        time.sleep(0.5)
        seconds = []
        for _ in range(150):
            started = time.perf_counter()
            urllib.request.urlopen(f"{address}/health/ready", timeout=WAIT_S).close()
            seconds.append(time.perf_counter() - started)
            time.sleep(0.02)
        stop.set()
        for each in clients:
            each.join(WAIT_S)
    assert np.quantile(seconds, 0.95) < 0.1, sorted(seconds)[-20:]


@pytest.mark.parametrize("size", [100, 500_000])
def test_full_disk_while_a_body_arrives(
    client: TestClient, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that finds no room is 507, also where the disk says so only at the last byte."""

    def full(*_: object, **__: object) -> io.BufferedRandom:
        return Path("/dev/full").open(
            "r+b"
        )  # takes what fits its buffer, and fails when that is due

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", full)
    for path in ("/v1/segment", "/v1/segmentations"):
        response = client.post(path, content=bytes(size), headers=PNG)
        problem(response, 507, "storage_full")
