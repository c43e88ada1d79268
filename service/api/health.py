"""Is the process alive, and can it take work."""

from typing import Annotated, Literal

import anyio.to_thread
from fastapi import APIRouter, Depends
from pydantic import BaseModel

from service.api.openapi import problems
from service.api.resources import Resources, resources
from service.errors import ModelNotReady, ShuttingDown, StorageFull

router = APIRouter(prefix="/health", tags=["health"])


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """The model is loaded and passed its self-test."""

    status: Literal["ready"] = "ready"
    model: str
    version: str
    provider: str
    device: str


class Started(BaseModel):
    """Model and jobs are open."""

    status: Literal["started"] = "started"


@router.get("/live", operation_id="health_live", summary="The process is alive")
async def live() -> Live:
    return Live()


@router.get(
    "/startup",
    operation_id="health_startup",
    summary="The service has started",
    responses=problems(ModelNotReady),
)
async def startup(service: Annotated[Resources, Depends(resources)]) -> Started:
    """Once the model passed its self-test and the jobs are open; from then on for as long as it
    lives.
    """
    service.ready_jobs()
    return Started()


@router.get(
    "/ready",
    operation_id="health_ready",
    summary="The service can take work",
    responses=problems(ModelNotReady, ShuttingDown, StorageFull),
)
async def ready(service: Annotated[Resources, Depends(resources)]) -> Ready:
    """Ready to take work: the model passed its self-test, and there is room to store results."""
    service.check_accepting()
    model = service.ready_description()
    service.ready_jobs()
    await anyio.to_thread.run_sync(service.store.check_space, limiter=service.looking)
    return Ready(
        model=model.contract.name,
        version=model.contract.version,
        provider=model.provider,
        device=model.device,
    )
