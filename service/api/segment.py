"""`POST /v1/segment`: images in, the whole answer in the response, nothing kept."""

import io
import zipfile
from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from service.api.openapi import SEGMENT_BODY, SEGMENT_PARAMETERS, problems
from service.api.parameters import AnswerType, SegmentParameters, answer_type
from service.api.resources import Resources, resources
from service.api.uploads import Upload, read_upload
from service.encode.document import ResultDocument
from service.errors import BadRequest, Busy, ModelNotReady
from service.inference.segment import Segmenter
from service.pipeline import dicom_seg, outputs, result_document, run
from service.settings import Settings

router = APIRouter(prefix="/v1", tags=["segment"])

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
        **problems(BadRequest, Busy, ModelNotReady),
    },
    openapi_extra={"parameters": SEGMENT_PARAMETERS, "requestBody": SEGMENT_BODY},
)
async def segment(request: Request, service: Annotated[Resources, Depends(resources)]) -> Response:
    """Accepts DICOM (files or a zip), NIfTI, PNG and JPEG, told apart by their content.

    Research use only: not a medical device, not for diagnosis.
    """
    model = service.ready_model()
    wanted = answer_type(request.headers.get("accept", ""))
    with service.admission.place():
        upload = await read_upload(request, service.settings)
        parameters = SegmentParameters.of(request, upload.fields)
        return await service.admission.work(
            lambda: _answer(upload, parameters, wanted, model, service.settings)
        )


def _answer(
    upload: Upload,
    parameters: SegmentParameters,
    wanted: AnswerType,
    model: Segmenter,
    settings: Settings,
) -> Response:
    result = run(upload.take_files(), parameters.options(), model, settings)
    match wanted:
        case "application/dicom":
            return _attachment(dicom_seg(result), wanted, "mask.dcm")
        case "application/zip":
            return _attachment(_zip(outputs(result)), wanted, "result.zip")
        case _:
            document = result_document(result, with_mask=parameters.include == "mask")
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
