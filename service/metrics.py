"""What is counted and timed, for Prometheus; labels hold codes and routes, never a file's text."""

from collections.abc import Callable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_SLICES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.requests = Counter(
            "lts_requests_total", "Answered requests", ["method", "route", "status"],
            registry=registry,
        )  # fmt: skip
        self.request_seconds = Histogram(
            "lts_request_seconds", "Time to answer, upload included", ["route"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.problems = Counter(
            "lts_problems_total", "Problem documents sent, by their code", ["code"],
            registry=registry,
        )  # fmt: skip
        self.batch_slices = Histogram(
            "lts_batch_slices", "Slices in one inference", buckets=_SLICES, registry=registry
        )
        self.jobs = Counter(
            "lts_jobs_total", "Durable segmentations that ended", ["status"], registry=registry
        )
        self._unfinished = Gauge(
            "lts_unfinished_jobs", "Durable segmentations that have not ended, in all processes",
            ["status", "lane"], registry=registry,
        )  # fmt: skip
        self._stage_seconds = Histogram(
            "lts_stage_seconds", "Time of each stage of the pipeline", ["stage"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._model = Gauge(
            "lts_model_info", "The model that is loaded",
            ["name", "version", "sha256", "provider"], registry=registry,
        )  # fmt: skip

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """A gauge that asks for its value whenever it is read."""
        Gauge(name, description, registry=self._registry).set_function(value)

    def model_is(self, name: str, version: str, sha256: str, provider: str) -> None:
        """Name the model that is loaded."""
        self._model.labels(name, version, sha256, provider).set(1)

    def unfinished_are(self, counts: Mapping[tuple[str, str], int]) -> None:
        """How many durable segmentations have not ended, by status and lane."""
        self._unfinished.clear()
        for (status, lane), count in counts.items():
            self._unfinished.labels(status, lane).set(count)

    def observe_stages(self, timings_s: Mapping[str, float]) -> None:
        """The seconds of each stage of one run."""
        for stage, seconds in timings_s.items():
            self._stage_seconds.labels(stage).observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
