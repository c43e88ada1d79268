"""Traces of a real process, as a collector gets them; and none where no collector is named."""

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import PATIENT, ROOT
from dicom_files import series, zip_of
from forked_service import check_log
from http_helpers import ZIP
from observability.collector import Collector, about, collecting

from benchmarks.load import free_port, service_process
from service.phantom import Phantom
from service.tracing import ATTRIBUTES

URL = "/v1/segmentations"
STAGES = {"wait", "inspect", "read", "label", "clean_up", "measure", "trace"}
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""The example of W3C Trace Context."""

SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}


@dataclass(frozen=True)
class Traced:
    """A service, its collector and its log."""

    address: str
    collector: Collector
    log: Path

    def post(self, path: str, data: bytes, **headers: str) -> tuple[dict, str]:
        """The answer, and the id of its request."""
        request = urllib.request.Request(self.address + path, data, {**ZIP, **headers})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read()), answer.headers["X-Request-ID"]

    def lines(self, **fields: str) -> list[dict]:
        """Those of the log that hold these."""
        logged = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in logged if fields.items() <= line.items()]


@pytest.fixture(scope="module")
def traced(quick_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    log = tmp_path_factory.mktemp("traced") / "service.log"
    with collecting() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **SOON}
        with service_process(
            environment=environment, log=log, model=quick_model, device="cpu"
        ) as service:
            yield Traced(service.address, collector, log)
        check_log(log)


@pytest.fixture(scope="module")
def archive() -> bytes:
    return zip_of(series(Phantom.draw(7).sample(6, 96, seed=1)[0]))


def test_a_request_is_a_part_of_its_callers_trace(traced: Traced, archive: bytes) -> None:
    """One span for it, named by its route, and below it one for each stage."""
    _, request_id = traced.post("/v1/segment", archive, traceparent=CALLER)
    whole = traced.collector.one(lambda span: about(span).get("lts.request_id") == request_id)
    assert whole.name == "POST /v1/segment"
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == tuple(CALLER.split("-")[1:3])
    assert about(whole) == {
        "http.request.method": "POST",
        "http.route": "/v1/segment",
        "http.response.status_code": 200,
        "lts.request_id": request_id,
    }
    parts = [span for span in traced.collector.spans if span.parent_span_id == whole.span_id]
    assert {span.name for span in parts} == STAGES | {"encode"}
    assert all(whole.start_time_unix_nano <= span.start_time_unix_nano for span in parts)


def test_batches_are_events_of_the_label_stage(traced: Traced, archive: bytes) -> None:
    """Each says how many of its slices were this request's; together they are all."""
    _, request_id = traced.post("/v1/segment", archive)
    whole = traced.collector.one(lambda span: about(span).get("lts.request_id") == request_id)
    label = traced.collector.one(
        lambda span: span.name == "label" and span.parent_span_id == whole.span_id
    )
    batches = [about(event) for event in label.events]
    assert {event.name for event in label.events} == {"batch"}
    assert sum(int(batch["lts.slices"]) for batch in batches) == 6


def test_a_job_links_to_the_request_that_accepted_it(traced: Traced, archive: bytes) -> None:
    """It has a trace of its own, from its turn to its results in the store."""
    document, request_id = traced.post(URL, archive)
    accepted = traced.collector.one(lambda span: about(span).get("lts.request_id") == request_id)
    job = traced.collector.one(lambda span: about(span).get("lts.job_id") == document["id"])
    (link,) = job.links
    assert (link.trace_id, link.span_id) == (accepted.trace_id, accepted.span_id)
    assert job.trace_id != accepted.trace_id
    assert about(job)["lts.attempt"] == 1
    parts = [span.name for span in traced.collector.spans if span.parent_span_id == job.span_id]
    assert set(parts) == STAGES - {"inspect"} | {"publish"}
    checked = traced.collector.one(
        lambda span: span.name == "inspect" and span.parent_span_id == accepted.span_id
    )
    assert checked.end_time_unix_nano <= job.start_time_unix_nano


def test_a_request_that_is_refused(traced: Traced) -> None:
    """Its span has the status; the reason is a problem document's, and no error of ours."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        traced.post("/v1/segment", b"no image")
    request_id = refused.value.headers["X-Request-ID"]
    whole = traced.collector.one(lambda span: about(span).get("lts.request_id") == request_id)
    assert about(whole)["http.response.status_code"] == refused.value.code
    inspect = traced.collector.one(
        lambda span: span.name == "inspect" and span.parent_span_id == whole.span_id
    )
    assert about(inspect)["error.type"] == json.loads(refused.value.read())["code"]


def test_the_log_names_the_trace(traced: Traced, archive: bytes) -> None:
    """Beside the request's id, and in the lines of a job."""
    document, request_id = traced.post(URL, archive, traceparent=CALLER)
    traced.collector.one(lambda span: about(span).get("lts.request_id") == request_id)
    (line,) = traced.lines(event="request", request_id=request_id)
    assert line["trace_id"] == CALLER.split("-")[1]
    job = traced.collector.one(lambda span: about(span).get("lts.job_id") == document["id"])
    (ended,) = traced.lines(event="job ended", job_id=document["id"])
    assert ended["trace_id"] == job.trace_id.hex()


def test_nothing_of_a_patient_is_traced(traced: Traced, archive: bytes) -> None:
    """No word of the phantom's patient, no UID, and no attribute that is not on the list."""
    document, request_id = traced.post("/v1/segment", archive)
    traced.collector.one(lambda span: about(span).get("lts.request_id") == request_id)
    exported = b"".join(traced.collector.bodies)
    uid = document["source"]["series_instance_uid"]
    assert not any(word.encode() in exported for word in (*PATIENT, uid))
    spans = traced.collector.spans
    said = {name for span in spans for item in (span, *span.events) for name in about(item)}
    assert said <= ATTRIBUTES
    assert {event.name for span in spans for event in span.events} == {"batch"}
    assert not any(span.status.message for span in spans)


def test_health_and_metrics_are_not_traced(traced: Traced, archive: bytes) -> None:
    """They ask all the time."""
    for path in ("/health/live", "/health/ready", "/metrics"):
        urllib.request.urlopen(traced.address + path, timeout=10).close()
    _, request_id = traced.post("/v1/segment", archive)
    traced.collector.one(lambda span: about(span).get("lts.request_id") == request_id)
    names = {span.name for span in traced.collector.spans}
    assert not any("health" in name or "metrics" in name for name in names)


def test_a_collector_that_is_away(quick_model: Path, tmp_path: Path, archive: bytes) -> None:
    """Requests are answered, the log says so once, and the end of the service does not wait."""
    log = tmp_path / "service.log"
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", **SOON}
    environment["OTEL_EXPORTER_OTLP_TIMEOUT"] = "1"
    with service_process(
        environment=environment, log=log, model=quick_model, device="cpu"
    ) as service:
        nowhere = Traced(service.address, Collector(0), log)
        for _ in range(3):
            assert nowhere.post("/v1/segment", archive)[0]["findings"]
        deadline = time.monotonic() + 20
        while not nowhere.lines(event="traces are lost"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        began = time.monotonic()
    assert time.monotonic() - began < 8
    assert len(nowhere.lines(event="traces are lost")) == 1


def test_off_where_no_collector_is_named() -> None:
    """The packages that export are not even imported."""
    script = (
        "import sys; from service import tracing; tracing.start({'OTEL_SERVICE_NAME': 'x'});"
        "import service.api.app, service.__main__;"
        "print('opentelemetry.sdk' in sys.modules, tracing.traceparent())"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "None"]


def test_only_two_modules_know_opentelemetry() -> None:
    """So that every attribute passes the list."""
    known = {
        path.name
        for path in (ROOT / "service").rglob("*.py")
        if re.search(r"^\s*(from|import) opentelemetry", path.read_text(), re.MULTILINE)
    }
    assert known == {"tracing.py", "tracing_export.py"}
