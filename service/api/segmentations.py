"""`/v1/segmentations`: durable segmentations, from their acceptance to their deletion."""

import asyncio
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Self

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from service.api.openapi import header, problems, upload
from service.api.parameters import PipelineParameters
from service.api.prefer import idempotency_key, wait_s
from service.api.resources import Resources, resources
from service.api.uploads import receive
from service.encode.document import (
    ContourDocument,
    FindingsDocument,
    ModelDocument,
    RemovalDocument,
    SourceDocument,
    WarningDocument,
)
from service.errors import (
    BadRequest,
    Busy,
    InvalidParameter,
    ModelNotReady,
    NoDicomSource,
    NoResult,
    NotFound,
    ServiceError,
    ShuttingDown,
    StorageFull,
    with_code,
)
from service.jobs.jobs import Job, Jobs
from service.jobs.records import JobError, Status

PATH = "/v1/segmentations"

NIFTI, DICOM, PNG = "application/gzip", "application/dicom", "image/png"

router = APIRouter(prefix=PATH, tags=["segmentations"])

Service = Annotated[Resources, Depends(resources)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Progress(_Document):
    """How far a segmentation is."""

    stage: str
    fraction: float = Field(ge=0, le=1)


class Links(_Document):
    """Where the parts of a result are; `{slice}` stands for a slice's number, from 0."""

    self: str
    mask_nifti: str
    mask_dicom: str
    image_nifti: str
    mask_png: str
    overlay_png: str
    preview: str
    contours: str

    @classmethod
    def of(cls, job_id: str) -> Self:
        at = f"{PATH}/{job_id}"
        return cls(
            self=at,
            mask_nifti=f"{at}/mask.nii.gz",
            mask_dicom=f"{at}/mask.dcm",
            image_nifti=f"{at}/image.nii.gz",
            mask_png=f"{at}/masks/{{slice}}.png",
            overlay_png=f"{at}/overlays/{{slice}}.png",
            preview=f"{at}/preview.png",
            contours=f"{at}/contours",
        )


class Finished(BaseModel):
    """What a result says beside its pictures and contours."""

    source: SourceDocument
    model: ModelDocument
    findings: FindingsDocument
    postprocessing: tuple[RemovalDocument, ...]
    warnings: tuple[WarningDocument, ...]


class SegmentationDocument(_Document):
    """A durable segmentation. Research use only, not for diagnosis.

    `source` to `warnings` are null until it has succeeded; `error` says why it failed.
    """

    id: str
    status: Status
    progress: Progress
    created_at: datetime
    finished_at: datetime | None
    source: SourceDocument | None
    model: ModelDocument | None
    findings: FindingsDocument | None
    postprocessing: tuple[RemovalDocument, ...] | None
    warnings: tuple[WarningDocument, ...] | None
    timings_s: dict[str, float] | None
    links: Links
    error: JobError | None
    disclaimer: str = "Research use only. Not for diagnosis."

    @classmethod
    def of(cls, job: Job, jobs: Jobs) -> Self:
        outcome = job.outcome
        result = jobs.result(job.request.id) if job.status == "succeeded" else None
        found = None if result is None else Finished.model_validate_json(result)
        return cls(
            id=job.request.id,
            status=job.status,
            progress=Progress(stage=job.stage, fraction=round(job.fraction, 3)),
            created_at=job.request.created_at,
            finished_at=outcome and outcome.finished_at,
            source=found and found.source,
            model=found and found.model,
            findings=found and found.findings,
            postprocessing=found and found.postprocessing,
            warnings=found and found.warnings,
            timings_s=outcome
            and {name: round(seconds, 4) for name, seconds in outcome.timings_s.items()},
            links=Links.of(job.request.id),
            error=outcome and outcome.error,
        )


class SegmentationList(_Document):
    """A page of segmentations, the newest first; `next` is the next page's address."""

    items: tuple[SegmentationDocument, ...]
    next: str | None


class ContoursDocument(_Document):
    """All outlines of one result."""

    contours: tuple[ContourDocument, ...]


_UPLOAD = upload(
    PipelineParameters,
    header(
        "Prefer",
        "`respond-async` answers at once, `wait=N` after at most N seconds (RFC 7240).",
        {"type": "string"},
    ),
    header(
        "Idempotency-Key",
        "A repeat with the same key and body gets the first answer; with another body 409.",
        {"type": "string", "pattern": "^[\\x21-\\x7e]{1,255}$"},
    ),
)
_LOCATION = {"Location": {"schema": {"type": "string"}, "description": "of the segmentation"}}
_BINARY = {"schema": {"type": "string", "format": "binary"}}


@router.post(
    "",
    operation_id="create_segmentation",
    summary="Segment one CT series or image, durably",
    status_code=HTTPStatus.CREATED,
    response_model=None,
    responses={
        201: {"model": SegmentationDocument, "description": "Done.", "headers": _LOCATION},
        202: {
            "model": SegmentationDocument,
            "description": "Accepted: watch Location.",
            "headers": _LOCATION,
        },
        **problems(BadRequest, Busy, ModelNotReady, ShuttingDown, StorageFull),
    },
    openapi_extra=_UPLOAD,
)
async def create(request: Request, service: Service) -> Response:
    """Accepts what `/v1/segment` accepts, and keeps the result until it is deleted.

    What was accepted is finished, whatever happens to the service meanwhile. Files that fail the
    checks of container, limits, headers and geometry make no segmentation.
    """
    service.check_accepting()
    jobs = service.ready_jobs()
    waiting_s = wait_s(request.headers.get("prefer", ""), service.settings.wait_s)
    repeat_key = idempotency_key(request.headers.get("idempotency-key"))
    jobs.check_room(repeat_key)
    async with receive(request, service.settings, service.arriving) as received:
        parameters = PipelineParameters.of(request, received.fields)
        job_id = await anyio.to_thread.run_sync(
            lambda: jobs.accept(received.spool, parameters.options(), repeat_key),
            limiter=service.accepting,
        )
    await _wait(job_id, jobs, service, waiting_s)
    return await anyio.to_thread.run_sync(_created, job_id, jobs)


async def _wait(job_id: str, jobs: Jobs, service: Resources, seconds: float) -> None:
    """Until the job has ended, the service is to end, or the time is over."""
    ended = asyncio.Event()

    def tell() -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            service.loop.call_soon_threadsafe(ended.set)

    with jobs.listening(job_id, tell):
        events = [asyncio.create_task(event.wait()) for event in (ended, service.draining)]
        await asyncio.wait(events, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for event in events:
            event.cancel()


def _created(job_id: str, jobs: Jobs) -> Response:
    job = jobs.get(job_id)
    if job.outcome is not None and job.outcome.error is not None:
        raise with_code(job.outcome.error.code, job.outcome.error.detail)
    status = HTTPStatus.ACCEPTED if job.outcome is None else HTTPStatus.CREATED
    document = SegmentationDocument.of(job, jobs).model_dump(mode="json")
    return JSONResponse(document, status, {"Location": f"{PATH}/{job_id}"})


@router.get(
    "",
    operation_id="list_segmentations",
    summary="Segmentations, the newest first",
    responses=problems(InvalidParameter, ModelNotReady),
)
def list_all(
    service: Service,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> SegmentationList:
    jobs = service.ready_jobs()
    found = jobs.list(limit + 1, offset)
    more = f"{PATH}?limit={limit}&offset={offset + limit}" if len(found) > limit else None
    items = tuple(SegmentationDocument.of(job, jobs) for job in found[:limit])
    return SegmentationList(items=items, next=more)


@router.get(
    "/{id}",
    operation_id="get_segmentation",
    summary="A segmentation as it stands",
    responses=problems(NotFound, ModelNotReady),
)
def get(id: str, service: Service) -> SegmentationDocument:
    jobs = service.ready_jobs()
    return SegmentationDocument.of(jobs.get(id), jobs)


@router.post(
    "/{id}/cancel",
    operation_id="cancel_segmentation",
    summary="Stop a segmentation that is not finished",
    responses=problems(NotFound, Busy, ModelNotReady),
)
def cancel(id: str, service: Service) -> SegmentationDocument:
    """A finished segmentation stays as it is."""
    jobs = service.ready_jobs()
    return SegmentationDocument.of(jobs.cancel(id), jobs)


@router.delete(
    "/{id}",
    operation_id="delete_segmentation",
    summary="Stop a segmentation and delete all that is kept of it",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems(NotFound, Busy, ModelNotReady),
)
def delete(id: str, service: Service) -> None:
    service.ready_jobs().delete(id)


def _part(media_type: str, *more: type[ServiceError]) -> dict[str, Any]:
    """How the routes of a result's parts answer."""
    return {
        "response_model": None,
        "responses": {
            200: {"content": {media_type: _BINARY}},
            **problems(NotFound, NoResult, ModelNotReady, *more),
        },
    }


@router.get(
    "/{id}/mask.nii.gz",
    operation_id="get_mask_nifti",
    summary="The labels as NIfTI, on the source's grid",
    **_part(NIFTI),
)
def mask_nifti(id: str, service: Service) -> Response:
    return _file(service.ready_jobs().part(id, "mask.nii.gz"), NIFTI)


@router.get(
    "/{id}/mask.dcm",
    operation_id="get_mask_dicom",
    summary="The labels as DICOM SEG, where the source was DICOM",
    **_part(DICOM, NoDicomSource),
)
def mask_dicom(id: str, service: Service) -> Response:
    content = service.ready_jobs().part(id, "mask.dcm")
    if content is None:
        raise NoDicomSource("Expected a DICOM source for a DICOM result, found another format.")
    return _file(content, DICOM)


@router.get(
    "/{id}/image.nii.gz",
    operation_id="get_image_nifti",
    summary="The source as NIfTI, on the mask's grid",
    **_part(NIFTI),
)
def image_nifti(id: str, service: Service) -> Response:
    return _file(service.ready_jobs().kept(id).image_nii_gz(), NIFTI)


@router.get(
    "/{id}/masks/{slice}.png",
    operation_id="get_mask_png",
    summary="One slice's labels",
    **_part(PNG, InvalidParameter),
)
def mask_png(id: str, slice: int, service: Service) -> Response:
    return _file(service.ready_jobs().kept(id).mask_png(slice), PNG)


@router.get(
    "/{id}/overlays/{slice}.png",
    operation_id="get_overlay_png",
    summary="One slice with its outlines, as a radiologist sees it",
    **_part(PNG, InvalidParameter),
)
def overlay_png(id: str, slice: int, service: Service) -> Response:
    return _file(service.ready_jobs().kept(id).overlay_png(slice), PNG)


@router.get(
    "/{id}/preview.png",
    operation_id="get_preview",
    summary="A montage of slices through the liver",
    **_part(PNG),
)
def preview(id: str, service: Service) -> Response:
    return _file(service.ready_jobs().part(id, "preview.png"), PNG)


@router.get(
    "/{id}/contours",
    operation_id="get_contours",
    summary="Outlines in pixels and in patient millimetres",
    response_model=None,
    responses={
        200: {"model": ContoursDocument},
        **problems(NotFound, NoResult, ModelNotReady),
    },
)
def contours(id: str, service: Service) -> Response:
    return _file(service.ready_jobs().part(id, "contours.json"), "application/json")


def _file(content: bytes | None, media_type: str) -> Response:
    if content is None:  # deleted since its job was looked up
        raise NotFound("Expected a segmentation with a result, found it deleted.")
    return Response(content, media_type=media_type)
