"""`/v1/segmentations`: durable segmentations, from their acceptance to their deletion."""

from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, Response

from service.api.access import Visible, take_rate
from service.api.openapi import header, problems, shown, upload
from service.api.parameters import DurableParameters
from service.api.prefer import idempotency_key, wait_s
from service.api.problems import respond
from service.api.resources import MAX_CHECKING, Resources, resources
from service.api.segmentation_documents import PATH, SegmentationDocument, SegmentationList
from service.api.uploads import receive
from service.api.waiting import until_ended
from service.errors import (
    BadRequest,
    Busy,
    Cancelled,
    InvalidParameter,
    ModelNotReady,
    NoResult,
    NotAcceptable,
    NotFound,
    SeriesNotFound,
    ShuttingDown,
    StorageFull,
    Unavailable,
    with_code,
)
from service.jobs.jobs import Jobs
from service.jobs.records import Status

router = APIRouter(prefix=PATH, tags=["segmentations"])

Service = Annotated[Resources, Depends(resources)]

DURABLE_HEADERS = (
    header(
        "Prefer",
        "`respond-async` answers at once, `wait=N` after at most N seconds (RFC 7240).",
        {"type": "string", "examples": ["respond-async", "wait=10"]},
    ),
    header(
        "Idempotency-Key",
        "A repeat with the same key and body gets the first answer; with another body 409.",
        {"type": "string", "pattern": "^[\\x21-\\x7e]{1,255}$", "examples": ["study-4711"]},
    ),
)
_LOCATION = {"Location": {"schema": {"type": "string"}, "description": "Of the segmentation."}}


def _answer(description: str, *examples: str) -> dict[str, Any]:
    content = {"application/json": shown(*examples)}
    return {"model": SegmentationDocument, "description": description, "content": content}


CREATED: dict[int | str, dict[str, Any]] = {
    201: {
        **_answer("Done.", "segmentation_succeeded", "segmentation_delivered"),
        "headers": _LOCATION,
    },
    202: {**_answer("Accepted: watch Location.", "segmentation_running"), "headers": _LOCATION},
}


@router.post(
    "",
    operation_id="create_segmentation",
    summary="Segment one CT series or image, durably",
    status_code=HTTPStatus.CREATED,
    response_model=None,
    responses={
        **CREATED,
        **problems(
            BadRequest,
            Busy,
            ModelNotReady,
            ShuttingDown,
            StorageFull,
            Unavailable,
            but=(NotAcceptable, NoResult, SeriesNotFound),
        ),
    },
    openapi_extra=upload(DurableParameters, *DURABLE_HEADERS),
)
async def create(request: Request, service: Service, jobs: Visible) -> Response:
    """Accepts what `/v1/segment` accepts, and keeps the result until it is deleted.

    What was accepted is finished, whatever happens to the service meanwhile. Files that fail the
    checks of container, limits, headers and geometry make no segmentation.
    """
    service.check_accepting()
    waiting_s = wait_s(request.headers.getlist("prefer"), service.settings.wait_s)
    repeat_key = idempotency_key(request.headers.getlist("idempotency-key"))
    take_rate(request, service)
    await anyio.to_thread.run_sync(jobs.check_room, repeat_key)
    service.checking.check(MAX_CHECKING)
    async with receive(request, service.settings, service.arriving) as received:
        asked = DurableParameters.of(request, received.fields)
        with service.checking.one(MAX_CHECKING):
            job_id = await anyio.to_thread.run_sync(
                lambda: jobs.accept(
                    received.spool, asked.options(), repeat_key, asked.delivery(), asked.urgency()
                ),
                limiter=service.accepting,
            )
    return await created(job_id, jobs, service, request, waiting_s)


async def created(
    job_id: str, jobs: Jobs, service: Resources, request: Request, waiting_s: float
) -> Response:
    """The answer to a request that made a segmentation, once it has ended or the wait is over."""
    await until_ended(job_id, jobs, service, waiting_s, service.draining)
    return await anyio.to_thread.run_sync(_created, job_id, jobs, request)


def _created(job_id: str, jobs: Jobs, request: Request) -> Response:
    location = {"Location": f"{PATH}/{job_id}"}
    try:
        job = jobs.get(job_id)
    except NotFound as error:
        raise Cancelled("The segmentation was deleted by request.") from error
    if job.outcome is not None and job.outcome.error is not None:
        failed = respond(with_code(job.outcome.error.code, job.outcome.error.detail), request)
        failed.headers.update(location)
        return failed
    status = HTTPStatus.ACCEPTED if job.outcome is None else HTTPStatus.CREATED
    document = SegmentationDocument.of(job, jobs).model_dump(mode="json")
    return JSONResponse(document, status, location)


@router.get(
    "",
    operation_id="list_segmentations",
    summary="Segmentations, the newest first",
    responses=problems(InvalidParameter, ModelNotReady, StorageFull, Unavailable),
)
def list_all(
    jobs: Visible,
    status: Annotated[
        list[Status] | None,
        Query(description="Only those of this status, or of one of several.", examples=["running"]),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many.", examples=[50])] = 50,
    offset: Annotated[
        int, Query(ge=0, le=2**31 - 1, description="How many newer ones to skip.", examples=[0])
    ] = 0,
) -> SegmentationList:
    found, has_more = jobs.list(limit, offset, status or ())
    items = []
    for job in found:
        with suppress(NotFound):  # deleted since it was listed
            items.append(SegmentationDocument.of(job, jobs))
    wanted = "".join(f"&status={name}" for name in status or ())
    following = f"{PATH}?limit={limit}&offset={offset + limit}{wanted}" if has_more else None
    return SegmentationList(items=tuple(items), next=following)


@router.get(
    "/{id}",
    operation_id="get_segmentation",
    summary="A segmentation as it stands",
    responses=problems(NotFound, ModelNotReady, StorageFull, Unavailable),
)
def get(id: str, jobs: Visible) -> SegmentationDocument:
    return SegmentationDocument.of(jobs.get(id), jobs)


@router.post(
    "/{id}/cancel",
    operation_id="cancel_segmentation",
    summary="Stop a segmentation that is not finished",
    responses={
        200: _answer("As it ended.", "segmentation_cancelled"),
        **problems(NotFound, Busy, ModelNotReady, StorageFull, Unavailable),
    },
)
def cancel(id: str, jobs: Visible) -> SegmentationDocument:
    """A finished segmentation stays as it is."""
    return SegmentationDocument.of(jobs.cancel(id), jobs)


@router.delete(
    "/{id}",
    operation_id="delete_segmentation",
    summary="Stop a segmentation and delete all that is kept of it",
    status_code=HTTPStatus.NO_CONTENT,
    responses={
        204: {"description": "Deleted."},
        **problems(NotFound, Busy, ModelNotReady, StorageFull, Unavailable),
    },
)
def delete(id: str, jobs: Visible) -> None:
    jobs.delete(id)
