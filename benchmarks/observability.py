"""What it costs to be watched, in CPU time of the service: counting, traces, and reading metrics.

CPU time and not seconds on the clock, so that a busy machine hardly matters.
"""

import io
import re
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from observability.collector import collecting
from PIL import Image
from threshold_model import write_threshold_model

from benchmarks.load import service_process
from service.metrics import Metrics

ROUNDS = 5


def main(
    requests: Annotated[int, typer.Option(help="of each kind in a round")] = 300,
    counted: Annotated[int, typer.Option(help="requests that are only counted")] = 20_000,
) -> None:
    """Print a table for docs/observability.md."""
    with tempfile.TemporaryDirectory() as folder, collecting() as collector:
        model = write_threshold_model(Path(folder) / "model.onnx")
        plain = _cpu_ms(requests, model, {})
        traced = _cpu_ms(requests, model, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    print("| CPU time | Traces off | On |\n| --- | --- | --- |")
    for path, off in plain.items():
        print(f"| `{path}` | {off:.2f} ms | {traced[path]:.2f} ms |")
    print(f"\nTo count one request: {_counting_us(counted):.0f} us")


def _cpu_ms(requests: int, model: Path, environment: Mapping[str, str]) -> dict[str, float]:
    """Of one request of each kind: the median over rounds of their mean."""
    image = _image()
    with service_process(environment=environment, model=model, device="cpu") as service:
        kinds = {"/v1/segment": image, "/v1/models": None, "/metrics": None}
        for path, body in kinds.items():
            _ask(service.address + path, body)
        return {
            path: median(_round(service.address, path, body, requests) for _ in range(ROUNDS))
            for path, body in kinds.items()
        }


def _round(address: str, path: str, body: bytes | None, requests: int) -> float:
    before = _cpu_s(address)
    for _ in range(requests):
        _ask(address + path, body)
    return (_cpu_s(address) - before) / requests * 1000


def _cpu_s(address: str) -> float:
    text = _ask(f"{address}/metrics", None).decode()
    found = re.search(r"^process_cpu_seconds_total (\S+)", text, re.MULTILINE)
    if found is None:
        raise ValueError("expected the CPU time of the service among its metrics")
    return float(found[1])


def _ask(url: str, body: bytes | None) -> bytes:
    headers = {} if body is None else {"Content-Type": "image/png"}
    request = urllib.request.Request(url, body, headers)  # noqa: S310  # ours, on loopback
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return bytes(answer.read())


def _image() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((64, 64), 60, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _counting_us(times: int) -> float:
    """All that one stateless request of one slice adds to the metrics."""
    metrics = Metrics()
    stages = dict.fromkeys(("inspect", "read", "label", "clean_up", "measure", "trace"), 0.01)
    started = time.process_time()
    for _ in range(times):
        with metrics.requests_in_flight.track_inprogress():
            metrics.waited_for_turn("small", 0.001)
            metrics.observe_batch(1, 2, 0.01)
            metrics.observe_stages(stages)
        metrics.requests.labels("POST", "/v1/segment", 200).inc()
        metrics.request_seconds.labels("/v1/segment").observe(0.02)
        metrics.request_bytes.labels("/v1/segment").inc(1000)
        metrics.response_bytes.labels("/v1/segment").inc(1000)
    return (time.process_time() - started) / times * 1e6


if __name__ == "__main__":
    typer.run(main)
