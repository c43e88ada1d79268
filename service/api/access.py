"""The gate before all routes: who may not ask is refused before a body is read.

Whatever is not named here needs a key once there is one, so that a new route is never open by
mistake: `read` for GET, `write` for anything else.
"""

from typing import Annotated

import anyio.to_thread
import structlog
from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.caller import Caller
from service.access.caller import Scope as KeyScope
from service.access.gate import brings_token
from service.api.problems import respond
from service.api.resources import Resources, resources
from service.errors import Forbidden, ServiceError
from service.jobs.jobs import Jobs

OPEN = ("/", "/openapi.json")
OPEN_BELOW = ("/health/", "/ui/")
"""Of no patient: the page, the API's description, and whether the service is well."""

METRICS = "/metrics"

READING = ("GET", "HEAD", "OPTIONS")


class Access:
    """Leaves the request's `Caller` in its state, or answers with a problem."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        service: Resources = scope["app"].state.resources
        if scope["path"] == METRICS and service.settings.open_metrics:
            await self._app(scope, receive, send)
            return
        try:
            caller = await admit(scope, service)
        except ServiceError as error:
            await respond(error, HTTPConnection(scope))(scope, receive, send)
            return
        scope["state"]["caller"] = caller
        with structlog.contextvars.bound_contextvars(key=caller.key):
            await self._app(scope, receive, send)


async def admit(scope: Scope, service: Resources) -> Caller:
    """Who calls, and may do that. Raises what `Gate.admit` does, and `Forbidden`."""
    gate = service.ready_gate()
    headers, address = dict(Headers(scope=scope)), (scope.get("client") or ("unknown", 0))[0]
    is_slow = brings_token(headers)
    caller = await anyio.to_thread.run_sync(
        gate.admit,
        headers,
        address,
        scope["path"] == METRICS,  # which tell that the database is away
        limiter=service.admitting_tokens if is_slow else service.admitting,
    )
    needed: KeyScope = "read" if scope["method"] in READING else "write"
    if not caller.may(needed):
        raise Forbidden(f"Expected a key with the scope {needed}, found one without it.")
    return caller


def is_open(path: str) -> bool:
    """Whether nobody is asked who calls."""
    return path in OPEN or path.startswith(OPEN_BELOW)


def take_rate(request: Request, service: Resources) -> None:
    """Count one request for work of this caller. Raises `TooManyRequests`.

    Where nobody is asked who calls, an address is a caller, by the word of a proxy on the way.
    """
    caller: Caller = request.state.caller
    address = request.client.host if request.client is not None else "unknown"
    service.rates.take(caller.owner or address, caller.rate_per_minute)


async def _visible(request: Request, service: Annotated[Resources, Depends(resources)]) -> Jobs:
    return service.ready_jobs().seen_by(request.state.caller)


Visible = Annotated[Jobs, Depends(_visible)]
"""The durable segmentations that the request's caller may see."""
