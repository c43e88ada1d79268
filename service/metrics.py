"""What is counted and timed, for Prometheus; labels hold codes and routes, never a file's text."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector

from service import __version__

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_JOB_SECONDS = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14_400, 86_400)
_SLICES = (1, 2, 4, 8, 16, 32, 64)
_QUARTERS = (0.25, 0.5, 0.75, 1)


PACS_OPERATIONS = ("fetch", "deliver")
PACS_OUTCOMES = (
    "ok", "origin_unreachable", "origin_refused", "origin_incomplete", "origin_invalid",
)  # fmt: skip
PACS_STATUSES = ("stored", "already_stored", "refused", "failed")
"""What is counted of a PACS node."""


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # nobody asks when they began
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._set_up_requests()
        self._set_up_work()
        self._set_up_jobs()
        build = self._gauge("lts_build_info", "The version of the service", ["version"])
        build.labels(__version__).set(1)

    def _set_up_requests(self) -> None:
        self.requests = self._counter(
            "lts_requests_total", "Answered requests", ["method", "route", "status"]
        )
        self.request_seconds = self._histogram(
            "lts_request_seconds", "Time to answer, upload included", _SECONDS, ["route"]
        )
        self.requests_in_flight = self._gauge("lts_requests_in_flight", "Requests not answered yet")
        self.request_bytes = self._counter(
            "lts_request_bytes_total", "Bytes of requests' bodies", ["route"]
        )
        self.response_bytes = self._counter(
            "lts_response_bytes_total", "Bytes of answers' bodies", ["route"]
        )
        self.problems = self._counter(
            "lts_problems_total", "Problem documents sent, by their code", ["code"]
        )

    def _set_up_work(self) -> None:
        self._wait_seconds = self._histogram(
            "lts_turn_wait_seconds", "Wait for a turn to hold a volume", _SECONDS, ["lane"]
        )
        self._batch_slices = self._histogram("lts_batch_slices", "Slices in one inference", _SLICES)
        self._batch_fill = self._histogram(
            "lts_batch_fill_ratio", "Slices in one inference over the largest batch", _QUARTERS
        )
        self._inference_seconds = self._histogram(
            "lts_inference_seconds", "Time of one inference", _SECONDS
        )
        self._stage_seconds = self._histogram(
            "lts_stage_seconds", "Time of each stage of the pipeline", _SECONDS, ["stage"]
        )
        self._model = self._gauge(
            "lts_model_info", "The model that is loaded",
            ["name", "version", "sha256", "provider", "device"],
        )  # fmt: skip
        self._start_failure = self._gauge(
            "lts_start_failure_info", "Why the service cannot start until a user mends it", ["code"]
        )

    def _set_up_jobs(self) -> None:
        self._jobs = self._counter(
            "lts_jobs_total", "Durable segmentations that ended", ["status", "code"]
        )
        self._job_seconds = self._histogram(
            "lts_job_seconds", "Time of a durable segmentation from acceptance to end",
            _JOB_SECONDS, ["status"],
        )  # fmt: skip
        self._unfinished = self._gauge(
            "lts_unfinished_jobs", "Durable segmentations that have not ended, in all processes",
            ["status", "lane"],
        )  # fmt: skip
        self._oldest_since: float | None = None
        self.watch(
            "lts_oldest_waiting_job_seconds",
            "Age of the oldest durable segmentation that nobody works on, in all processes",
            lambda: 0 if self._oldest_since is None else time.time() - self._oldest_since,
        )
        self.recovered_jobs = self._counter(
            "lts_recovered_jobs_total", "Durable segmentations handed on from processes that died"
        )
        self.pacs_attempts = self._counter(
            "lts_pacs_attempts_total", "Attempts to fetch from a PACS node, or to deliver to it",
            ["node", "operation", "outcome"],
        )  # fmt: skip
        self.pacs_objects = self._counter(
            "lts_pacs_objects_total", "Objects sent to a PACS node, by what it said in the end",
            ["node", "status"],
        )  # fmt: skip
        self.database_up = self._gauge("lts_database_up", "1 where the database of jobs answers")
        self.store_up = self._gauge("lts_store_up", "1 where the store of results answers")
        for not_looked_at in (self.database_up, self.store_up):
            not_looked_at.set(math.nan)

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """A gauge that asks for its value whenever it is read."""
        self._gauge(name, description).set_function(value)

    def watch_by(
        self, name: str, description: str, label: str, values: Mapping[str, Callable[[], float]]
    ) -> None:
        """The same for each value of a label."""
        gauge = self._gauge(name, description, [label])
        for named, value in values.items():
            gauge.labels(named).set_function(value)

    def collect(self, collector: Collector) -> None:
        """Add what another collector tells."""
        self._registry.register(collector)

    def know_nodes(self, names: Iterable[str]) -> None:
        """Begin to count for these PACS nodes: a rate needs a series before its first event."""
        for name in names:
            for status in PACS_STATUSES:
                self.pacs_objects.labels(name, status)
            for operation in PACS_OPERATIONS:
                for outcome in PACS_OUTCOMES:
                    self.pacs_attempts.labels(name, operation, outcome)

    def model_is(self, name: str, version: str, sha256: str, provider: str, device: str) -> None:
        """Name the model that is loaded."""
        self._model.labels(name, version, sha256, provider, device).set(1)

    def cannot_start(self, code: str) -> None:
        """The service lives, and is never ready."""
        self._start_failure.labels(code).set(1)

    def waited_for_turn(self, lane: str, seconds: float) -> None:
        """One wait for a turn to hold a volume, large or small."""
        self._wait_seconds.labels(lane).observe(seconds)

    def observe_batch(self, slices: int, largest: int, seconds: float) -> None:
        """One inference that ran, and how many slices it could have had."""
        self._batch_slices.observe(slices)
        self._batch_fill.observe(slices / largest)
        self._inference_seconds.observe(seconds)

    def job_ended(self, status: str, code: str | None, seconds: float) -> None:
        """A durable segmentation ended so long after its acceptance; `code` says why it failed."""
        self._jobs.labels(status, code or "").inc()
        self._job_seconds.labels(status).observe(seconds)

    def unfinished_are(self, counts: Mapping[tuple[str, str], int], oldest_ms: int | None) -> None:
        """How many durable segmentations have not ended, by status and lane, and since when the
        oldest of those waits that nobody works on (milliseconds since 1970).
        """
        self._oldest_since = None if oldest_ms is None else oldest_ms / 1000
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

    def _counter(self, name: str, description: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, description, labels, registry=self._registry)

    def _gauge(self, name: str, description: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, description, labels, registry=self._registry)

    def _histogram(
        self,
        name: str,
        description: str,
        buckets: Sequence[float],
        labels: Sequence[str] = (),
    ) -> Histogram:
        return Histogram(name, description, labels, buckets=buckets, registry=self._registry)
