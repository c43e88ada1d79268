"""The application: routes, error handling, and the lifespan that opens the model and the jobs."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial

import anyio.to_thread
import structlog
from fastapi import FastAPI

from service.api import (
    description,
    health,
    metrics,
    models,
    problems,
    segment,
    segmentation_parts,
    segmentations,
    segmentations_of_series,
)
from service.api.outermost import Outermost
from service.api.resources import Resources
from service.errors import InvalidModel
from service.inference.batching import Batcher, Model
from service.inference.session import ModelSession
from service.jobs.jobs import Jobs
from service.settings import Settings

OpenModel = Callable[[Settings], Model]

_log = structlog.get_logger(__name__)


def open_session(settings: Settings) -> Model:
    """The model of the settings, on their device. Raises `StartupError`."""
    return ModelSession.open(settings.model, settings.device, settings.threads)


def create_app(settings: Settings, open_model: OpenModel = open_session) -> FastAPI:
    """The service as an ASGI application; tests hand in a fake for `open_model`."""
    app = FastAPI(
        title=description.TITLE,
        lifespan=partial(_lifespan, settings, open_model),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_url="/openapi.json",
    )
    app.add_middleware(Outermost)
    problems.install(app)
    for routes in (
        segment,
        segmentations_of_series,  # before the routes whose {id} its last part would match
        segmentations,
        segmentation_parts,
        models,
        health,
        metrics,
    ):
        app.include_router(routes.router)
    app.openapi = cache(partial(description.document, app))  # type: ignore[method-assign]  # FastAPI's own way
    return app


@asynccontextmanager
async def _lifespan(settings: Settings, open_model: OpenModel, app: FastAPI) -> AsyncIterator[None]:
    """Open the model and the jobs in a thread. A bad model leaves the service live, never ready."""
    held = Resources.of(settings)
    app.state.resources = held
    held.metrics.watch(
        "lts_admitted_requests", "Requests with a place", lambda: held.admission.admitted
    )
    held.metrics.watch(
        "lts_unfinished_jobs",
        "Jobs queued or running",
        lambda: 0 if held.jobs is None else held.jobs.unfinished,
    )
    held.metrics.watch(
        "lts_ready", "1 where the model is ready", lambda: int(held.jobs is not None)
    )
    try:
        await anyio.to_thread.run_sync(_open, held, open_model)
    except InvalidModel as error:
        held.failure = error
        _log.error("not ready", code=error.code)
    yield
    await anyio.to_thread.run_sync(_close, held)


def _open(held: Resources, open_model: OpenModel) -> None:
    settings, metrics = held.settings, held.metrics
    opened = open_model(settings)
    held.model = Batcher(opened, settings.batch_slices, metrics.batch_slices.observe)
    held.jobs = Jobs(settings, held.store, held.model, held.admission, metrics, held.pacs)
    contract = opened.contract
    metrics.model_is(contract.name, contract.version, opened.sha256, opened.provider)
    _log.info("ready", model=contract.name, version=contract.version, provider=opened.provider)


def _close(held: Resources) -> None:
    """Jobs first: they are told to stop, and then find a batcher that answers nobody."""
    if held.jobs is not None:
        held.jobs.close()
    if held.model is not None:
        held.model.close()
