"""Every metric counts what its name says, and docs/observability.md has each of them."""

import re
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import get_args
from unittest.mock import patch

import numpy as np
import pytest
from conftest import ROOT
from dicom_files import series, zip_of
from fakes import FakeSegmenter, by_threshold
from fastapi.testclient import TestClient
from highdicom import Volume
from http_helpers import PNG, ZIP, running, slice_png
from observability.exposed import (
    DEVICE,
    families,
    listen_metrics,
    nvidia,
    samples_of,
    text_of,
    value,
)
from pacs.servers import running as archive_of
from pacs.servers import unused_port

from benchmarks.load import free_port
from service import __version__, logs
from service.admission import SMALL_BYTES, Admission
from service.device_memory import DeviceMemory
from service.errors import Cancelled, OriginError, OutOfMemory
from service.inference.batching import Batcher
from service.inference.work import Work
from service.jobs.live import DELIVER, FETCH
from service.jobs.records import JobRow, now_ms
from service.jobs.registry import Registry
from service.metrics import PACS_OUTCOMES, PACS_STATUSES, Metrics
from service.pacs.receipts import Status
from service.pacs.retry import OK
from service.settings import Settings
from service.stopping import StopSignal
from service.store import MARK, Store

DOCUMENT = (ROOT / "docs" / "observability.md").read_text()
URL = "/v1/segmentations"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def told(client: TestClient) -> str:
    return client.get("/metrics").text


def test_every_metric_is_documented(client: TestClient, tmp_path: Path) -> None:
    """A row for each, with its type and labels, and no row for what there is not."""
    service = client.app.state.resources.metrics
    expected = families(service, listen_metrics(tmp_path))
    rows = re.findall(r"^\| `(lts_\w+)` \| (\w+) \|([^|]*)\|", DOCUMENT, re.MULTILINE)
    found = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert found == expected


def test_names_are_as_prometheus_has_them(client: TestClient, tmp_path: Path) -> None:
    """Counters end in _total, times are in seconds, sizes in bytes."""
    service = client.app.state.resources.metrics
    for name, (kind, _) in families(service, listen_metrics(tmp_path)).items():
        assert re.fullmatch(r"lts(_[a-z]+)+", name)
        assert (kind == "counter") == name.endswith("_total")
        assert not re.search(r"_(ms|kb|mb|percent)\b", name)


def test_every_field_of_the_log_is_documented() -> None:
    """A row names each, and none that is dropped."""
    table = DOCUMENT.split("## Log")[1]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == logs.FIELDS


def test_requests_by_route_and_bytes(client: TestClient) -> None:
    """A route is its template; a body counts as it came, an answer as it went."""
    picture = slice_png()
    answer = client.post("/v1/segment", content=picture, headers=PNG)
    client.get(f"{URL}/{'0' * 32}")
    client.get(f"{URL}/../../etc/passwd/secret")
    text = told(client)
    named = {"method": "POST", "route": "/v1/segment", "status": "200"}
    assert value(text, "lts_requests_total", **named) == 1
    assert value(text, "lts_requests_total", route=f"{URL}/{{id}}", status="404") == 1
    assert value(text, "lts_request_bytes_total", route="/v1/segment") == len(picture)
    assert value(text, "lts_response_bytes_total", route="/v1/segment") == len(answer.content)
    assert value(text, "lts_requests_in_flight") == 1  # this one
    assert "passwd" not in text


def test_what_happens_below_a_request(client: TestClient) -> None:
    """Its turn, and each stage."""
    client.post("/v1/segment", content=slice_png(), headers=PNG)
    text = told(client)
    assert value(text, "lts_turn_wait_seconds_count", lane="small") == 1
    for stage in ("inspect", "read", "label", "clean_up", "measure", "trace"):
        assert value(text, "lts_stage_seconds_count", stage=stage) == 1, stage


def test_jobs_by_outcome(client: TestClient) -> None:
    """With the code of a failure, the time from acceptance, and the stages of a job alone."""
    client.post(URL, content=slice_png(), headers=PNG)
    with patch("service.pipeline.measure", side_effect=OutOfMemory("found too little")):
        assert client.post(URL, content=slice_png(), headers=PNG).status_code == 507
    text = told(client)
    assert value(text, "lts_jobs_total", status="succeeded", code="") == 1
    assert value(text, "lts_jobs_total", status="failed", code="out_of_memory") == 1
    assert value(text, "lts_job_seconds_count", status="succeeded") == 1
    assert 0 < value(text, "lts_job_seconds_sum", status="succeeded") < 30
    assert value(text, "lts_stage_seconds_count", stage="publish") == 1


def test_what_a_process_is(client: TestClient) -> None:
    """Ready, at work, and of which version and model."""
    text = told(client)
    for gauge in ("lts_ready", "lts_takes_jobs", "lts_model_info"):
        assert value(text, gauge) == 1, gauge
    assert value(text, "lts_build_info", version=__version__) == 1
    model = {"name": "fake", "provider": "FakeExecutionProvider", "device": "fake"}
    assert value(text, "lts_model_info", **model) == 1
    assert value(text, "lts_data_free_bytes") > 0
    client.app.state.resources.drain()
    assert value(told(client), "lts_takes_jobs") == 0


def test_a_data_folder_that_is_gone(settings: Settings, threshold: FakeSegmenter) -> None:
    """Has no free bytes that anybody could tell; all the rest is told."""
    gone = patch("service.api.app.shutil.disk_usage", side_effect=OSError)
    with running(settings.data_dir, threshold) as client, gone:
        text = told(client)
    assert "lts_data_free_bytes NaN" in text
    assert value(text, "lts_ready") == 1


def batches(slices: int, most: int) -> list[tuple[int, int, float]]:
    """What is told of the batches of one request."""
    seen: list[tuple[int, int, float]] = []
    model = FakeSegmenter(by_threshold)
    batcher = Batcher(model, most, lambda *batch: seen.append(batch))
    try:
        batcher.label(work(slices))
    finally:
        batcher.close()
    return seen


def work(slices: int) -> Work:
    hu = np.zeros((slices, 8, 8, 1), np.int16)
    return Work(slices, (8, 8, 1), lambda batch: hu[batch], lambda *_: None)


def test_a_batch_is_told_with_its_size_and_seconds(metrics: Metrics) -> None:
    """Six slices in batches of up to four: a full one, and one half full."""
    told_of = batches(6, 4)
    assert sorted((slices, most) for slices, most, _ in told_of) == [(2, 4), (4, 4)]
    assert all(seconds > 0 for _, _, seconds in told_of)
    for batch in told_of:
        metrics.observe_batch(*batch)
    text = text_of(metrics)
    assert value(text, "lts_batch_slices_sum") == 6
    assert value(text, "lts_batch_fill_ratio_sum") == 1.5
    assert value(text, "lts_inference_seconds_count") == 2


def test_slices_that_wait() -> None:
    """Those of requests that no batch has taken, while a batch runs."""
    begun, go_on = threading.Event(), threading.Event()

    def rule(hu: object) -> object:
        begun.set()
        assert go_on.wait(10)
        return by_threshold(hu)

    batcher = Batcher(FakeSegmenter(rule), 4)
    asking = threading.Thread(target=batcher.label, args=(work(10),))
    asking.start()
    try:
        assert begun.wait(10)
        assert batcher.waiting_slices == 6
    finally:
        go_on.set()
        asking.join(10)
        batcher.close()
    assert batcher.waiting_slices == 0


def test_who_waits_for_a_turn() -> None:
    """The wait is told with its size once it is over, and is counted while it lasts."""
    waits: list[tuple[str, float]] = []
    admission = Admission(1, 8, lambda *wait: waits.append(wait))
    stop = StopSignal()
    with admission.turn(SMALL_BYTES + 1, StopSignal()):

        def wait() -> None:
            with pytest.raises(Cancelled), admission.turn(SMALL_BYTES + 1, stop):
                pass

        waiting = threading.Thread(target=wait)
        waiting.start()
        while not admission.waiting("large"):
            pass
        assert admission.waiting("small") == 0
        stop.stop(Cancelled("enough"))
        waiting.join(10)
    with admission.turn(1, StopSignal()):
        pass
    assert [size for size, _ in waits] == ["large", "small"]
    assert admission.waiting("large") == 0


def job_row(**changes: object) -> JobRow:
    fields = {
        "id": "1" * 32, "folder": "1" * 32 + "-00000000", "created_ms": now_ms() - 60_000,
        "priority": 1, "lane": "small", "input_bytes": 1, "request": "{}", "status": "receiving",
        "executor": "dead",
    }  # fmt: skip
    return JobRow.model_validate(fields | changes)


def test_jobs_of_a_dead_process(tmp_path: Path) -> None:
    """How many wait again, and since when the oldest does."""
    registry = Registry(Settings(data_dir=tmp_path).registry_url)
    try:
        assert registry.oldest_waiting_ms() is None
        rows = [job_row(id=str(n) * 32, folder=f"{str(n) * 32}-00000000") for n in (1, 2)]
        for row in rows:
            assert registry.add(row, 9, 9, 9)
        for row in rows:
            registry.confirm(row)
        assert registry.oldest_waiting_ms() == min(row.created_ms for row in rows)
        assert len(registry.claim("dead", {"small": 2}, is_idle=True)) == 2
        assert registry.oldest_waiting_ms() is None
        assert registry.bury("dead").waiting == 2
        assert registry.bury("dead").waiting == 0
    finally:
        registry.close()


def test_the_age_of_the_oldest_waiting_job(metrics: Metrics) -> None:
    """It grows by itself, also while the database is away; without one it is 0."""
    metrics.unfinished_are({("queued", "large"): 2}, now_ms() - 60_000)
    text = text_of(metrics)
    assert value(text, "lts_unfinished_jobs", status="queued", lane="large") == 2
    assert 60 <= value(text, "lts_oldest_waiting_job_seconds") < 70
    metrics.unfinished_are({}, None)
    assert value(text_of(metrics), "lts_oldest_waiting_job_seconds") == 0


def test_jobs_taken_over_are_counted(tmp_path: Path, threshold: FakeSegmenter) -> None:
    """A start on the folder of a process that was killed hands its jobs on."""
    registry = Registry(Settings(data_dir=tmp_path).registry_url)
    row = job_row()
    registry.add(row, 9, 9, 9)
    registry.confirm(row)
    registry.claim("dead", {"small": 1}, is_idle=True)
    registry.close()
    with running(tmp_path, threshold) as client:
        assert value(told(client), "lts_recovered_jobs_total") == 1


def test_database_and_store_answer(client: TestClient) -> None:
    """Each is looked at by the clock."""
    _until(lambda: value(told(client), "lts_database_up") == 1)
    _until(lambda: value(told(client), "lts_store_up") == 1)


def test_nothing_is_down_that_nobody_has_looked_at(metrics: Metrics) -> None:
    """Neither 1 nor 0, or an alert would fire for a service that waits for a valid model."""
    text = text_of(metrics)
    assert "lts_database_up NaN" in text
    assert "lts_store_up NaN" in text


def _until(true: object) -> None:
    for _ in range(200):
        if true():
            return
        threading.Event().wait(0.05)
    raise AssertionError("not within 10 s")


def test_a_store_that_is_not_mounted(tmp_path: Path) -> None:
    """A shared folder without its mark is away."""
    shared, spool = tmp_path / "shared", tmp_path / "spool"
    spool.mkdir()
    store = Store.open(shared.as_uri(), tmp_path / "none", spool, 0)
    store.mark("service")
    assert store.is_reachable()
    (shared / MARK).unlink()
    assert not store.is_reachable()


def test_pacs_by_node_and_outcome(
    tmp_path: Path, threshold: FakeSegmenter, clean_volume: Volume
) -> None:
    """Each attempt, and each object that was sent in the end."""
    datasets = series(clean_volume)
    with archive_of(datasets) as archive:
        file = tmp_path / "pacs.toml"
        file.write_text(
            f'[nodes.archive]\nurl = "{archive.url}"\n'
            f'[nodes.down]\nae_title = "DOWN"\nhost = "127.0.0.1"\nport = {unused_port()}\n'
        )
        brief = {"pacs_file": file, "pacs_timeout_s": 2, "pacs_retry_s": 0.2}
        with running(tmp_path / "data", threshold, **brief) as client:
            asked = {
                "origin": "archive",
                "study_instance_uid": archive.study,
                "series_instance_uid": archive.series,
            }
            assert client.post(f"{URL}/dicomweb", json=asked).status_code == 201
            query = {"destination": "down", "objects": "seg"}
            client.post(URL, params=query, content=zip_of(datasets), headers=ZIP)
            text = told(client)
    count = "lts_pacs_attempts_total"
    assert value(text, count, node="archive", operation="fetch", outcome="ok") == 1
    assert value(text, count, node="archive", operation="deliver", outcome="ok") == 1
    assert value(text, count, node="down", outcome="origin_unreachable") > 1
    assert value(text, "lts_pacs_objects_total", node="archive", status="stored") == 3
    assert value(text, "lts_pacs_objects_total", node="down", status="failed") == 1
    for stage in ("fetch", "deliver"):
        assert value(text, "lts_stage_seconds_count", stage=stage) > 0


@pytest.mark.parametrize(
    ("visible", "device", "asked"),
    [
        ("", "cuda:0", 0),
        ("", "cuda:1", 1),
        ("3,5", "cuda:1", 5),
        ("GPU-8a7e, GPU-11", "cuda:0", "GPU-8a7e"),
    ],
)
def test_memory_of_the_device(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch, visible: str, device: str, asked: object
) -> None:
    """Of the one that ONNX Runtime runs on, which the driver counts otherwise."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with nvidia(used=3, total=8) as handles:
        metrics.collect(DeviceMemory(device))
        text = text_of(metrics)
    assert handles == [asked]
    assert value(text, "lts_device_memory_used_bytes", device=device) == 3
    assert value(text, "lts_device_memory_total_bytes", device=device) == 8


@pytest.mark.parametrize("device", ["cpu", "none", DEVICE])
def test_no_memory_of_a_device(metrics: Metrics, device: str) -> None:
    """On a CPU, and where the driver fails, there is no series and no error."""
    with nvidia(fails=True):
        metrics.collect(DeviceMemory(device))
        assert "lts_device_memory" not in text_of(metrics)


def test_no_library_of_a_device(metrics: Metrics) -> None:
    """It is in the set `gpu` only."""
    with patch.dict("sys.modules", pynvml=None):
        metrics.collect(DeviceMemory(DEVICE))
        assert "lts_device_memory" not in text_of(metrics)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[str]:
    """The address of a listener's metrics."""
    metrics, port = listen_metrics(tmp_path), free_port()
    metrics.associations.labels("accepted").inc()
    with metrics.served("127.0.0.1", port):
        yield f"http://127.0.0.1:{port}/metrics"


def test_metrics_of_listen(listener: str) -> None:
    """By HTTP, of a registry of its own."""
    with urllib.request.urlopen(listener, timeout=10) as answer:
        text = answer.read().decode()
    assert value(text, "lts_listen_associations_total", outcome="accepted") == 1
    assert value(text, "lts_listen_series") == 0
    assert value(text, "lts_listen_free_bytes") > 0
    assert "lts_requests_total" not in samples_of(text)


def test_pacs_nodes_are_counted_from_the_start() -> None:
    """A rate sees no first event of a series that was born with it."""
    assert get_args(Status) == PACS_STATUSES
    assert {kind.code for kind in OriginError.__subclasses__()} | {OK} == set(PACS_OUTCOMES)
    metrics = Metrics()
    metrics.know_nodes(["archive"])
    text = metrics.text().decode()
    assert 'lts_pacs_objects_total{node="archive",status="refused"} 0.0' in text
    for operation in (FETCH, DELIVER):
        wanted = f'node="archive",operation="{operation}",outcome="origin_unreachable"'
        assert f"lts_pacs_attempts_total{{{wanted}}} 0.0" in text
