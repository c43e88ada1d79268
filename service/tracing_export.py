"""Where spans go: by OTLP over HTTP to the collector that OpenTelemetry's own variables name."""

import uuid
from collections.abc import Sequence

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from service import __version__

_log = structlog.get_logger(__name__)


def provider() -> TracerProvider:
    """Exports in a thread of its own; a collector that is slow or away loses spans, no request."""
    own = Resource({
        "service.name": "liver-tumor-segmentation",
        "service.version": __version__,
        "service.instance.id": uuid.uuid4().hex,
    })  # fmt: skip
    made = TracerProvider(resource=own.merge(OTELResourceDetector().detect()))
    made.add_span_processor(BatchSpanProcessor(_Told(OTLPSpanExporter())))
    return made


class _Told(SpanExporter):
    """Says in the log when the collector begins to fail, and when it takes spans again.

    The exporter's own log is not heard: it holds addresses.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._works = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # the libraries below have many
            result = SpanExportResult.FAILURE
        works = result is SpanExportResult.SUCCESS
        if works != self._works:
            self._works = works
            _log.warning("traces go out again" if works else "traces are lost", code="collector")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
