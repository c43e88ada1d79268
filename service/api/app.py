"""The application: routes, error handling, and the lifespan that opens the model and the jobs."""

import asyncio
import math
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread
import structlog
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware

from service.access.gate import Gate
from service.api import (
    description,
    health,
    metrics,
    models,
    page,
    problems,
    segment,
    segmentation_events,
    segmentation_parts,
    segmentations,
    segmentations_of_series,
)
from service.api.access import Access
from service.api.outermost import Outermost
from service.api.resources import Resources
from service.database import once_reachable
from service.device_memory import DeviceMemory
from service.errors import ForeignStore, InvalidModel, ShuttingDown
from service.inference.batching import Batcher, Model
from service.inference.session import ModelSession
from service.inference.work import Loaded
from service.jobs.jobs import Jobs
from service.settings import Settings

OpenModel = Callable[[Settings], Model]

OnFailure = Callable[[BaseException], None]
"""Told in the event loop of what no user can mend while the process lives."""

Role = Literal["all", "api", "worker"]
"""What a process does: both take requests and work on them, or one of these."""

CROSS_ORIGIN: dict[str, Any] = {
    "allow_methods": ("GET", "POST", "DELETE"),
    "allow_headers": ("Authorization", "X-API-Key", "Content-Type", "Prefer", "Idempotency-Key",
                      "X-Request-ID"),
    "expose_headers": ("Location", "Retry-After", "Content-Disposition", "X-Request-ID"),
}  # fmt: skip
"""What pages of the origins in the settings may send and read."""

NO_TELEMETRY: TelemetryConfig = {
    "tracing": False, "operation_spans": False, "metrics": False, "logs": False,
    "auto_configure": False,
}  # fmt: skip
"""The framework's own would tell raw paths, and exceptions with their messages."""

_log = structlog.get_logger(__name__)


_ROUTES = (
    segment,
    segmentations_of_series,  # before the routes whose {id} its last part would match
    segmentations,
    segmentation_events,
    segmentation_parts,
    models,
    health,
    metrics,
)


def open_session(settings: Settings) -> Model:
    """The model of the settings, on their device. Raises `StartupError`."""
    return ModelSession.of(settings)


def create_app(
    settings: Settings,
    open_model: OpenModel = open_session,
    role: Role = "all",
    on_failure: OnFailure | None = None,
) -> FastAPI:
    """The service as an ASGI application; tests hand in a fake for `open_model`.

    A worker answers no more than its health and its metrics. With `on_failure` requests are
    answered while the model is loaded, and why it cannot start is handed to that; else the lifespan
    waits, and raises it.
    """
    app = FastAPI(
        title=description.TITLE,
        lifespan=partial(_lifespan, settings, open_model, role, on_failure),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_url="/openapi.json",
        telemetry=NO_TELEMETRY,
    )
    app.add_middleware(Access)
    if settings.allowed_origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.allowed_origins, **CROSS_ORIGIN)
    app.add_middleware(Outermost)
    problems.install(app)
    for routes in (health, metrics) if role == "worker" else _ROUTES:
        app.include_router(routes.router)
    if role != "worker":
        app.include_router(page.router(page.Page.read()))
    app.openapi = cache(partial(description.document, app))  # type: ignore[method-assign]  # FastAPI's own way
    return app


@asynccontextmanager
async def _lifespan(
    settings: Settings,
    open_model: OpenModel,
    role: Role,
    on_failure: OnFailure | None,
    app: FastAPI,
) -> AsyncIterator[None]:
    """Open the model and the jobs, and close them in the end."""
    held = Resources.of(settings)
    app.state.resources = held
    _watch(held)
    opening = asyncio.create_task(_opened(held, open_model, role))
    if on_failure is None:
        await opening
    else:
        opening.add_done_callback(partial(_hand_on, on_failure))
    yield
    await asyncio.wait([opening])
    await anyio.to_thread.run_sync(_close, held)


async def _opened(held: Resources, open_model: OpenModel, role: Role) -> None:
    """Open the model and the jobs in a thread.

    What only a user can mend leaves the service live, never ready.
    """
    try:
        await anyio.to_thread.run_sync(_open, held, open_model, role)
    except (InvalidModel, ForeignStore) as error:
        held.failure = error
        held.metrics.cannot_start(error.code)
        _log.error("not ready", code=error.code)
    except ShuttingDown:
        pass  # it was told to end before it was ready


def _hand_on(on_failure: OnFailure, opening: asyncio.Task[None]) -> None:
    error = None if opening.cancelled() else opening.exception()
    if error is not None:
        on_failure(error)


def _watch(held: Resources) -> None:
    """Gauges of what this process holds."""
    watch = held.metrics.watch
    watch("lts_admitted_requests", "Requests with a place", lambda: held.admission.admitted)
    watch(
        "lts_jobs_in_work",
        "Jobs that this process works on",
        lambda: 0 if held.jobs is None else held.jobs.in_work,
    )
    watch("lts_ready", "1 where the model is ready", lambda: int(held.jobs is not None))
    watch(
        "lts_takes_jobs",
        "1 where this process takes jobs that wait",
        lambda: int(held.jobs is not None and held.jobs.is_claiming),
    )
    watch("lts_uploads_arriving", "Bodies that arrive now", lambda: held.arriving.count)
    watch("lts_streams_watched", "Streams of events that are served", lambda: held.watching.count)
    held.metrics.watch_by(
        "lts_waiting_turns",
        "Pieces of work that wait for a turn to hold a volume",
        "lane",
        {
            "small": lambda: held.admission.waiting("small"),
            "large": lambda: held.admission.waiting("large"),
        },
    )
    watch(
        "lts_waiting_slices",
        "Slices that wait for inference",
        lambda: 0 if held.model is None else held.model.waiting_slices,
    )
    watch(
        "lts_data_free_bytes",
        "Free bytes of the data folder's disk",
        lambda: _free_bytes(held.settings.data_dir),
    )


def _free_bytes(folder: Path) -> float:
    try:
        return shutil.disk_usage(folder).free
    except OSError:  # a disk that is gone is no reason to tell nothing else
        return math.nan


def _open(held: Resources, open_model: OpenModel, role: Role) -> None:
    settings, metrics = held.settings, held.metrics
    held.gate = once_reachable(lambda: Gate.open(settings), held.is_draining)
    if role == "api":
        described: Loaded = ModelSession.describe(settings.model)
    else:
        opened = open_model(settings)
        held.model = Batcher(opened, settings.batch_slices, metrics.observe_batch)
        described = opened
    held.jobs = once_reachable(lambda: _open_jobs(held, described), held.is_draining)
    held.described = described
    contract = described.contract
    metrics.model_is(
        contract.name, contract.version, described.sha256, described.provider, described.device
    )
    metrics.collect(DeviceMemory(described.device))
    _log.info(
        "ready",
        role=role,
        model=contract.name,
        version=contract.version,
        provider=described.provider,
    )


def _open_jobs(held: Resources, described: Loaded) -> Jobs:
    return Jobs(
        held.settings, held.store, described, held.model, held.admission, held.metrics, held.pacs
    )


def _close(held: Resources) -> None:
    """Jobs first: they are told to stop, and then find a batcher that answers nobody."""
    if held.jobs is not None:
        held.jobs.close()
    if held.model is not None:
        held.model.close()
    if held.gate is not None:
        held.gate.close()
