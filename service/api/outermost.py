"""The outermost layer: an id for every request, and an answer to every defect.

A defect is answered here and not by the framework, which would log its message; a message may hold
a value of a file, and that may be a patient's.
"""

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import tracing
from service.access.caller import Caller
from service.api.problems import respond
from service.errors import InternalError, OutOfMemory, ServiceError
from service.logs import place_of

HEADER = "X-Request-ID"

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",  # results are of patients
}
"""Of every answer that does not say otherwise, as the page does: nothing in it is run or framed."""

CLIENT_LEFT = 499
"""How a request without an answer is counted: its client closed the connection."""

UNTRACED = ("/health/", "/metrics")
"""What asks every few seconds, and of nobody's work: no trace, and no line where all is well."""

_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")

_log = structlog.get_logger(__name__)


def _known(error: Exception) -> ServiceError:
    if isinstance(error, MemoryError):
        return OutOfMemory("Expected memory for the volume, found too little.")
    return InternalError("Please report the request's id.")


@dataclass
class _Exchange:
    """One request and its answer, as far as they got."""

    status: int = CLIENT_LEFT
    request_bytes: int = 0
    response_bytes: int = 0
    started_at: float = field(default_factory=time.perf_counter)

    def counted(self, receive: Receive) -> Receive:
        """Receives the same, and counts its bytes."""

        async def receive_counted() -> Message:
            message = await receive()
            self.request_bytes += len(message.get("body", b""))
            return message

        return receive_counted


class Outermost:
    """Gives each request an id, an answer whatever happens, a line in the log, and its metrics."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _PLAIN.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        exchange = _Exchange()

        async def send_with_id(message: Message) -> None:
            exchange.response_bytes += len(message.get("body", b""))
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[HEADER] = request_id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                hsts_s = scope["app"].state.resources.settings.hsts_s
                if hsts_s and scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = f"max-age={hsts_s}"
            await send(message)

        with (
            structlog.contextvars.bound_contextvars(request_id=request_id),
            scope["app"].state.resources.metrics.requests_in_flight.track_inprogress(),
            _traced(scope, request_id) as span,
        ):
            try:
                await self._app(scope, exchange.counted(receive), send_with_id)
            except ClientDisconnect:
                pass  # there is nobody to answer
            except Exception as error:
                _log.error("request failed", place=place_of(error))
                if exchange.status == CLIENT_LEFT:
                    answer = respond(_known(error), HTTPConnection(scope))
                    await answer(scope, receive, send_with_id)
            finally:
                _count(scope, exchange, span)


@contextmanager
def _traced(scope: Scope, request_id: str) -> Iterator[tracing.Span | None]:
    """The request's span, None for one that is not traced."""
    if scope["path"].startswith(UNTRACED):
        yield None
        return
    caller = Headers(scope=scope).get("traceparent")
    with tracing.request(scope["method"], request_id, caller) as span:
        yield span


def _count(scope: Scope, exchange: _Exchange, span: tracing.Span | None) -> None:
    route = getattr(scope.get("route"), "path", "unknown")
    method = scope["method"] if route != "unknown" else "unknown"
    seconds = time.perf_counter() - exchange.started_at
    metrics = scope["app"].state.resources.metrics
    metrics.requests.labels(method, route, exchange.status).inc()
    metrics.request_seconds.labels(route).observe(seconds)
    metrics.request_bytes.labels(route).inc(exchange.request_bytes)
    metrics.response_bytes.labels(route).inc(exchange.response_bytes)
    if span is not None:
        tracing.answered(span, method, route, exchange.status)
    if route.startswith(UNTRACED) and exchange.status == HTTPStatus.OK:
        return  # every few seconds, for years: the lines that matter would be rotated away
    caller: Caller | None = scope["state"].get("caller")
    _log.info(
        "request",
        method=method,
        route=route,
        status=exchange.status,
        seconds=round(seconds, 4),
        key=caller and caller.key,
    )
