"""Traces by OpenTelemetry, where its standard variables name a collector; else no span is made.

A span holds its name, its times, and attributes of the list below. An exception is told by a code,
or by its class: what it says may hold a file's text, and that may be a patient's. Nothing else
imports OpenTelemetry.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.errors import ServiceError

Span = trace.Span

Attributes = Mapping[str, str | int | float]

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

ATTRIBUTES = frozenset({
    "http.request.method", "http.route", "http.response.status_code", "error.type",
    "lts.request_id", "lts.job_id", "lts.attempt", "lts.lane",
    "lts.slices", "lts.batch_slices", "lts.seconds",
})  # fmt: skip
"""All that a span or an event may hold; each is a number, a code, or a text of ours."""

_W3C = TraceContextTextMapPropagator()
_HEADER = "traceparent"

_FLUSH_S = 2.0
"""For the last spans when the process ends; a collector that does not answer gets none."""


@dataclass
class _Tracing:
    """Of this process. Not OpenTelemetry's own global one, to which libraries add what they see:
    raw paths, and exceptions with their messages.
    """

    tracer: trace.Tracer = field(default_factory=trace.NoOpTracer)
    shutdown: Callable[[], None] | None = None


_here = _Tracing()


def start(environment: Mapping[str, str]) -> None:
    """Export from now on, if a collector is named; called once, at the entry point."""
    if any(environment.get(name) for name in ENDPOINTS):
        from service import tracing_export  # lazily: 40 ms, and 4 MB

        provider = tracing_export.provider()
        _here.tracer, _here.shutdown = provider.get_tracer("service"), provider.shutdown


def stop() -> None:
    """Export what is left, within seconds."""
    if _here.shutdown is not None:
        thread = threading.Thread(target=_here.shutdown, daemon=True)
        thread.start()
        thread.join(_FLUSH_S)


@contextmanager
def request(method: str, request_id: str, traceparent: str | None) -> Iterator[Span]:
    """One request, as a part of its caller's trace where it names one (W3C Trace Context)."""
    about = {"http.request.method": method, "lts.request_id": request_id}
    with _span(method, about, SpanKind.SERVER, _context(traceparent)) as made, _logged(made):
        yield made


def answered(span: Span, method: str, route: str, status: int) -> None:
    """Say what became of a request."""
    span.update_name(f"{method} {route}")
    span.set_attributes(_listed({"http.route": route, "http.response.status_code": status}))
    if status >= 500:
        span.set_status(Status(StatusCode.ERROR))


@contextmanager
def job(job_id: str, attempt: int, accepted_by: str | None) -> Iterator[Span]:
    """One attempt at a durable segmentation: a trace of its own, which links to the request's.

    `accepted_by` is the `traceparent` of that, None where it was not traced.
    """
    accepted = trace.get_current_span(_context(accepted_by)).get_span_context()
    links = [Link(accepted)] if accepted.is_valid else []
    about: Attributes = {"lts.job_id": job_id, "lts.attempt": attempt}
    with _span("job", about, SpanKind.CONSUMER, Context(), links) as made, _logged(made):
        yield made


@contextmanager
def span(name: str, attributes: Attributes = {}) -> Iterator[Span]:  # noqa: B006  # not changed
    """A part of the request or job that this thread works on; none where it works on neither."""
    if not current().get_span_context().is_valid:
        yield trace.INVALID_SPAN
        return
    with _span(name, attributes) as made:
        yield made


def current() -> Span:
    """What this thread works on, for another thread to say more of it."""
    return trace.get_current_span()


def note(span: Span, name: str, attributes: Attributes) -> None:
    """Something that happened in the course of a span; from any thread."""
    if span.is_recording():
        span.add_event(name, _listed(attributes))


def failed(span: Span, code: str) -> None:
    """Say that the work of a span failed, by a code."""
    span.set_attributes(_listed({"error.type": code}))
    span.set_status(Status(StatusCode.ERROR))


def traceparent() -> str | None:
    """What names the current span to another process, None where nothing is traced."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get(_HEADER)


@contextmanager
def _span(
    name: str,
    attributes: Attributes,
    kind: SpanKind = SpanKind.INTERNAL,
    context: Context | None = None,
    links: list[Link] | None = None,
) -> Iterator[Span]:
    with _here.tracer.start_as_current_span(
        name,
        context,
        kind,
        _listed(attributes),
        links,
        record_exception=False,
        set_status_on_exception=False,
    ) as made:
        try:
            yield made
        except BaseException as error:
            failed(made, error.code if isinstance(error, ServiceError) else type(error).__name__)
            raise


@contextmanager
def _logged(span: Span) -> Iterator[None]:
    """The trace's id in every line of the log meanwhile."""
    context = span.get_span_context()
    if not context.is_valid:
        yield
        return
    with structlog.contextvars.bound_contextvars(trace_id=trace.format_trace_id(context.trace_id)):
        yield


def _context(traceparent: str | None) -> Context:
    """That of another process; a root where there is none, or nothing is exported here."""
    if traceparent is None or _here.shutdown is None:
        return Context()
    return _W3C.extract({_HEADER: traceparent}, Context())


def _listed(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if name in ATTRIBUTES}
