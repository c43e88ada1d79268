"""`POST /v1/segment`: images in, the whole answer in the response, nothing kept."""

import io
import zipfile
from collections.abc import Iterable
from typing import Annotated

import anyio.to_thread
import structlog
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from service import tracing
from service.api.access import Visible, take_rate
from service.api.leaving import stopped_when_left
from service.api.openapi import SEGMENT, problems
from service.api.parameters import AnswerType, SegmentParameters, answer_type
from service.api.resources import Resources, resources
from service.api.segment_elsewhere import Elsewhere, forget, job_elsewhere
from service.api.uploads import Upload, receive
from service.encode.document import ResultDocument
from service.errors import (
    BadRequest,
    Busy,
    Cancelled,
    DeadlineExceeded,
    IdempotencyConflict,
    ModelNotReady,
    NoResult,
    OutOfMemory,
    SeriesNotFound,
    ShuttingDown,
    StorageFull,
    Unavailable,
    UnknownNode,
)
from service.inference.segment import Segmenter
from service.jobs.jobs import Jobs
from service.pipeline import Result, Run, dicom_seg, outputs, result_document, rounded
from service.stopping import StopSignal

router = APIRouter(prefix="/v1", tags=["segment"])

_log = structlog.get_logger(__name__)

_COMPRESSED = (".png", ".gz")


@router.post(
    "/segment",
    operation_id="segment",
    summary="Segment the liver and its tumours on one CT series or image",
    response_model=None,
    responses={
        200: {
            "description": "The result as JSON, as a DICOM SEG, or everything as a zip archive.",
            "model": ResultDocument,
            "content": {
                "application/dicom": {"schema": {"type": "string", "format": "binary"}},
                "application/zip": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        **problems(
            BadRequest,
            Busy,
            DeadlineExceeded,
            ModelNotReady,
            OutOfMemory,
            ShuttingDown,
            StorageFull,
            Unavailable,
            but=(Cancelled, IdempotencyConflict, NoResult, SeriesNotFound, UnknownNode),
        ),
    },
    openapi_extra=SEGMENT,
)
async def segment(
    request: Request, service: Annotated[Resources, Depends(resources)], jobs: Visible
) -> Response:
    """Images in, the whole answer in the response, nothing kept.

    Takes every format that the service knows, told apart by content. Research use only: not a
    medical device, not for diagnosis.
    """
    service.check_accepting()
    wanted = answer_type(",".join(request.headers.getlist("accept")))
    take_rate(request, service)
    if service.model is None:
        await anyio.to_thread.run_sync(jobs.check_room)
    service.admission.check()
    async with receive(request, service.settings, service.arriving) as upload:
        parameters = SegmentParameters.of(request, upload.fields)
        model = service.model
        if model is None:
            return await _answer_elsewhere(request, upload, parameters, wanted, service, jobs)
        stop = StopSignal(service.settings.deadline_s)
        with service.admission.place():
            async with stopped_when_left(request, stop):
                return await anyio.to_thread.run_sync(
                    lambda: _answer(upload, parameters, wanted, model, service, stop),
                    limiter=service.threads,
                )


async def _answer_elsewhere(
    request: Request,
    upload: Upload,
    parameters: SegmentParameters,
    wanted: AnswerType,
    service: Resources,
    jobs: Jobs,
) -> Response:
    job_id = await job_elsewhere(request, upload, parameters.options(), service, jobs)

    def answer() -> Response:
        found = Elsewhere(jobs, jobs.get(job_id))
        match wanted:
            case "application/dicom":
                return _attachment(found.seg(), wanted, "mask.dcm")
            case "application/zip":
                return _attachment(_zip(found.kept.outputs()), wanted, "result.zip")
            case _:
                document = found.document(with_mask=parameters.include == "mask")
                return Response(document.model_dump_json(), media_type=wanted)

    try:
        return await anyio.to_thread.run_sync(answer, limiter=service.writing_volumes)
    finally:
        await forget(job_id, jobs)


def _answer(
    upload: Upload,
    parameters: SegmentParameters,
    wanted: AnswerType,
    model: Segmenter,
    service: Resources,
    stop: StopSignal,
) -> Response:
    run = Run(parameters.options(), model, stop)
    with service.admission.turn(upload.total_bytes, stop) as turn:
        readable = run.inspect(upload.files(), service.settings)
        turn.settle(readable.voxels, stop)
        scan = run.read(readable)
        del readable  # and with it the files
        try:
            result = run.finish(scan, run.label(scan))
        except MemoryError as error:
            raise OutOfMemory("Expected memory for the volume, found too little.") from error
        service.metrics.observe_stages(result.timings_s)
        _log.info("segmented", stages=rounded(result.timings_s))
        with tracing.span("encode"):
            return _encoded(result, wanted, with_mask=parameters.include == "mask")


def _encoded(result: Result, wanted: AnswerType, with_mask: bool) -> Response:
    match wanted:
        case "application/dicom":
            return _attachment(dicom_seg(result), wanted, "mask.dcm")
        case "application/zip":
            return _attachment(_zip(outputs(result)), wanted, "result.zip")
        case _:
            document = result_document(result, with_mask)
            return Response(document.model_dump_json(), media_type=wanted)


def _attachment(content: bytes, media_type: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)


def _zip(files: Iterable[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
        for name, content in files:
            stored = zipfile.ZIP_STORED if name.endswith(_COMPRESSED) else None
            archive.writestr(name, content, stored)
    return buffer.getvalue()
