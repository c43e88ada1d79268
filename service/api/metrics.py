"""`GET /metrics` for Prometheus."""

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from service.api.resources import Resources, resources

router = APIRouter(tags=["health"])

_EXAMPLE = "# HELP lts_ready 1 where the model is ready\n# TYPE lts_ready gauge\nlts_ready 1.0\n"


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Metrics in Prometheus' text format",
    response_model=None,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}}}
    },
)
async def metrics(service: Annotated[Resources, Depends(resources)]) -> Response:
    text = await anyio.to_thread.run_sync(service.metrics.text, limiter=service.telling)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
