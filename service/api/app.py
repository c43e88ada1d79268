"""The application: routes, error handling, and the lifespan that opens the model."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio.to_thread
from fastapi import FastAPI

from service.api import health, models, openapi, problems, segment
from service.api.admission import Admission
from service.api.outermost import Outermost
from service.api.resources import Resources
from service.errors import InvalidModel
from service.inference.segment import Segmenter
from service.inference.session import ModelSession
from service.settings import Settings

OpenModel = Callable[[Settings], Segmenter]

_log = logging.getLogger(__name__)


def open_session(settings: Settings) -> Segmenter:
    """The model of the settings, on their device. Raises `StartupError`."""
    return ModelSession.open(settings.model, settings.device, settings.threads)


def create_app(settings: Settings, open_model: OpenModel = open_session) -> FastAPI:
    """The service as an ASGI application; tests hand in a fake for `open_model`."""
    app = FastAPI(
        title=openapi.TITLE,
        lifespan=partial(_lifespan, settings, open_model),
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.add_middleware(Outermost)
    problems.install(app)
    app.include_router(segment.router)
    app.include_router(models.router)
    app.include_router(health.router)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]  # FastAPI's own way
    return app


@asynccontextmanager
async def _lifespan(settings: Settings, open_model: OpenModel, app: FastAPI) -> AsyncIterator[None]:
    """Open the model in a thread. A bad model leaves the service live and never ready."""
    held = Resources(settings, Admission(settings.max_running, settings.max_waiting))
    app.state.resources = held
    try:
        held.model = await anyio.to_thread.run_sync(open_model, settings)
        _log.info(
            "ready: model %s %s on %s",
            held.model.contract.name,
            held.model.contract.version,
            held.model.provider,
        )
    except InvalidModel as error:
        held.failure = error
        _log.error("not ready: %s %s", error.title, error)
    yield
