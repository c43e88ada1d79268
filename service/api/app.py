"""The application: routes, error handling, and the lifespan that opens the model and the jobs."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import Literal

import anyio.to_thread
import structlog
from fastapi import FastAPI

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
from service.api.outermost import Outermost
from service.api.resources import Resources
from service.errors import ForeignStore, InvalidModel, Unavailable
from service.inference.batching import Batcher, Model
from service.inference.session import ModelSession
from service.inference.work import Loaded
from service.jobs.jobs import Jobs
from service.settings import Settings

OpenModel = Callable[[Settings], Model]

Role = Literal["all", "api", "worker"]
"""What a process does: both take requests and work on them, or one of these."""

DATABASE_S = 60
"""How long a process waits at its start for a database, or a shared store, that does not answer."""

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
    settings: Settings, open_model: OpenModel = open_session, role: Role = "all"
) -> FastAPI:
    """The service as an ASGI application; tests hand in a fake for `open_model`.

    A worker answers no more than its health and its metrics.
    """
    app = FastAPI(
        title=description.TITLE,
        lifespan=partial(_lifespan, settings, open_model, role),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_url="/openapi.json",
    )
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
    settings: Settings, open_model: OpenModel, role: Role, app: FastAPI
) -> AsyncIterator[None]:
    """Open the model and the jobs in a thread.

    What only a user can mend leaves the service live, never ready.
    """
    held = Resources.of(settings)
    app.state.resources = held
    _watch(held)
    try:
        await anyio.to_thread.run_sync(_open, held, open_model, role)
    except (InvalidModel, ForeignStore) as error:
        held.failure = error
        _log.error("not ready", code=error.code)
    yield
    await anyio.to_thread.run_sync(_close, held)


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


def _open(held: Resources, open_model: OpenModel, role: Role) -> None:
    settings, metrics = held.settings, held.metrics
    if role == "api":
        described: Loaded = ModelSession.describe(settings.model)
    else:
        opened = open_model(settings)
        held.model = Batcher(opened, settings.batch_slices, metrics.batch_slices.observe)
        described = opened
    held.jobs = _open_jobs(held, described)
    held.described = described
    contract = described.contract
    metrics.model_is(contract.name, contract.version, described.sha256, described.provider)
    _log.info(
        "ready",
        role=role,
        model=contract.name,
        version=contract.version,
        provider=described.provider,
    )


def _open_jobs(held: Resources, described: Loaded) -> Jobs:
    """The jobs, once database and store answer. Raises `Unavailable` where it does not for long, or
    where the service is to end.
    """
    deadline = time.monotonic() + DATABASE_S
    while True:
        try:
            return Jobs(
                held.settings, held.store, described, held.model, held.admission, held.metrics,
                held.pacs,
            )  # fmt: skip
        except Unavailable as error:
            if time.monotonic() >= deadline or held.drain_began is not None:
                raise
            _log.warning("waiting for the database or the store", code=error.code)
            time.sleep(1)


def _close(held: Resources) -> None:
    """Jobs first: they are told to stop, and then find a batcher that answers nobody."""
    if held.jobs is not None:
        held.jobs.close()
    if held.model is not None:
        held.model.close()
