"""`/v1/segmentations/dicomweb`: a series that a PACS has, fetched, segmented and answered there."""

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from service.api.access import Visible, take_rate
from service.api.openapi import json_body, problems
from service.api.parameters import SeriesParameters
from service.api.prefer import idempotency_key, wait_s
from service.api.resources import Resources, resources
from service.api.segmentation_documents import PATH
from service.api.segmentations import CREATED, DURABLE_HEADERS, created
from service.api.uploads import receive_json
from service.errors import (
    BadRequest,
    Busy,
    ColorImage,
    EmptyInput,
    InvalidParameter,
    ModelNotReady,
    NoDicomSource,
    NoResult,
    NotAcceptable,
    OriginError,
    ShuttingDown,
    StorageFull,
    Unavailable,
    UnsafeArchive,
)

router = APIRouter(prefix=PATH, tags=["segmentations"])


@router.post(
    "/dicomweb",
    operation_id="create_segmentation_of_series",
    summary="Segment a series of a PACS, durably, and store the objects there",
    status_code=201,
    response_model=None,
    responses={
        **CREATED,
        **problems(
            BadRequest,
            Busy,
            ModelNotReady,
            OriginError,
            ShuttingDown,
            StorageFull,
            Unavailable,
            but=(ColorImage, EmptyInput, NoDicomSource, NoResult, NotAcceptable, UnsafeArchive),
        ),
    },
    openapi_extra={"parameters": list(DURABLE_HEADERS), **json_body(SeriesParameters)},
)
async def create(
    request: Request, service: Annotated[Resources, Depends(resources)], jobs: Visible
) -> Response:
    """Fetches the series from the origin by QIDO-RS and WADO-RS, and sends the objects back.

    Origins and destinations are named in the service's settings; a request never carries an
    address. Each step is tried again where that helps, and is safe to repeat: the same series gives
    the same UIDs. What a destination refuses is in `delivery`; the segmentation succeeds all the
    same.
    """
    service.check_accepting()
    if request.query_params:
        raise InvalidParameter("Expected the parameters in the body, found some in the query.")
    waiting_s = wait_s(request.headers.getlist("prefer"), service.settings.wait_s)
    repeat_key = idempotency_key(request.headers.getlist("idempotency-key"))
    take_rate(request, service)
    await anyio.to_thread.run_sync(jobs.check_room, repeat_key)
    asked = SeriesParameters.of_json(
        await receive_json(request, service.settings, service.arriving)
    )
    job_id = await anyio.to_thread.run_sync(
        lambda: jobs.accept_series(
            asked.series(), asked.options(), repeat_key, asked.delivery(), asked.urgency()
        ),
        limiter=service.accepting,
    )
    return await created(job_id, jobs, service, request, waiting_s)
