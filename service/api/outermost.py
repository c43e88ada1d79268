"""The outermost layer: an id for every request, and an answer to every defect.

A defect is answered here and not by the framework, which would log its message; a message may hold
a value of a file, and that may be a patient's.
"""

import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import respond
from service.errors import InternalError, OutOfMemory, ServiceError
from service.logs import place_of

HEADER = "X-Request-ID"

CLIENT_LEFT = 499
"""How a request without an answer is counted: its client closed the connection."""

_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")

_log = structlog.get_logger(__name__)


def _known(error: Exception) -> ServiceError:
    if isinstance(error, MemoryError):
        return OutOfMemory("Expected memory for the volume, found too little.")
    return InternalError("Please report the request's id.")


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
        started_at, status = time.perf_counter(), CLIENT_LEFT

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[HEADER] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")  # results are of patients
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except ClientDisconnect:
                pass  # there is nobody to answer
            except Exception as error:
                _log.error("request failed", place=place_of(error))
                if status == CLIENT_LEFT:
                    answer = respond(_known(error), HTTPConnection(scope))
                    await answer(scope, receive, send_with_id)
            finally:
                self._count(scope, status, time.perf_counter() - started_at)

    @staticmethod
    def _count(scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        method = scope["method"] if route != "unknown" else "unknown"
        metrics = scope["app"].state.resources.metrics
        metrics.requests.labels(method, route, status).inc()
        metrics.request_seconds.labels(route).observe(seconds)
        _log.info("request", method=method, route=route, status=status, seconds=round(seconds, 4))
