"""The parts of a durable segmentation's result: masks, image, pictures, contours."""

from collections.abc import Callable
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from service.api.access import Visible
from service.api.openapi import BINARY, problems, shown
from service.api.resources import Resources, resources
from service.api.segmentation_documents import PATH, ContoursDocument
from service.encode.dicom_seg import SegEncoding
from service.encode.objects import FILES, ObjectName
from service.errors import (
    InvalidParameter,
    ModelNotReady,
    NoDicomSource,
    NoResult,
    NotFound,
    ServiceError,
    StorageFull,
    Unavailable,
)
from service.jobs.jobs import Jobs
from service.jobs.kept import Kept

NIFTI, DICOM, PNG = "application/gzip", "application/dicom", "image/png"
ZIP, FHIR = "application/zip", "application/fhir+json"

router = APIRouter(prefix=PATH, tags=["segmentations"])

Service = Annotated[Resources, Depends(resources)]

Encoding = Annotated[SegEncoding, Query(description="Of the SEG's pixels.")]


_BYTES = {"schema": BINARY}

_REPORT = {
    "schema": {
        "type": "object",
        "title": "Report",
        "description": "A DiagnosticReport of FHIR R4, https://hl7.org/fhir/R4/diagnosticreport.html",
        "required": ["resourceType"],
        "properties": {"resourceType": {"type": "string", "const": "DiagnosticReport"}},
    },
    **shown("report"),
}


def _part(
    media_type: str, *more: type[ServiceError], content: dict[str, Any] = _BYTES
) -> dict[str, Any]:
    """How the routes of a result's parts answer."""
    return {
        "response_model": None,
        "responses": {
            200: {"content": {media_type: content}},
            **problems(NotFound, NoResult, ModelNotReady, StorageFull, Unavailable, *more),
        },
    }


@router.get(
    "/{id}/mask.nii.gz",
    operation_id="get_mask_nifti",
    summary="The labels as NIfTI, on the source's grid",
    **_part(NIFTI),
)
def mask_nifti(id: str, jobs: Visible) -> Response:
    return _file(jobs.part(id, "mask.nii.gz"), NIFTI)


@router.get(
    "/{id}/mask.dcm",
    operation_id="get_mask_dicom",
    summary="The labels as DICOM SEG, where the source was DICOM",
    **_part(DICOM, NoDicomSource, InvalidParameter),
)
async def mask_dicom(
    id: str, jobs: Visible, service: Service, encoding: Encoding = "binary"
) -> Response:
    """`encoding=labelmap` gives a Label Map Segmentation, which not every viewer can read."""
    if encoding == "labelmap":
        return await _made(id, jobs, service, Kept.labelmap_dcm, DICOM)
    return await anyio.to_thread.run_sync(lambda: _object(id, jobs, "seg"))


@router.get(
    "/{id}/report.dcm",
    operation_id="get_report_dicom",
    summary="The findings as DICOM SR (TID 1500), where the source was DICOM",
    **_part(DICOM, NoDicomSource),
)
def report_dicom(id: str, jobs: Visible) -> Response:
    """Refers to the SEG of `mask.dcm`, which belongs beside it."""
    return _object(id, jobs, "sr")


@router.get(
    "/{id}/rtstruct.dcm",
    operation_id="get_rtstruct",
    summary="The outlines as DICOM RT Structure Set, where the source was DICOM",
    **_part(DICOM, NoDicomSource),
)
def rtstruct(id: str, jobs: Visible) -> Response:
    return _object(id, jobs, "rtstruct")


@router.get(
    "/{id}/overlays.zip",
    operation_id="get_overlays",
    summary="Pictures of the slices with liver as DICOM Secondary Capture, in a zip",
    **_part(ZIP, NoDicomSource),
)
async def overlays(id: str, jobs: Visible, service: Service) -> Response:
    """For viewers that read nothing else: outlines are burned in."""
    return await _made(id, jobs, service, Kept.overlays_zip, ZIP)


@router.get(
    "/{id}/report.fhir.json",
    operation_id="get_report_fhir",
    summary="The findings as FHIR R4 DiagnosticReport",
    **_part(FHIR, content=_REPORT),
)
def report_fhir(id: str, jobs: Visible) -> Response:
    return _file(jobs.part(id, "report.fhir.json"), FHIR)


@router.get(
    "/{id}/image.nii.gz",
    operation_id="get_image_nifti",
    summary="The source as NIfTI, on the mask's grid",
    **_part(NIFTI),
)
async def image_nifti(id: str, jobs: Visible, service: Service) -> Response:
    return await _made(id, jobs, service, Kept.image_nii_gz, NIFTI)


@router.get(
    "/{id}/masks/{slice}.png",
    operation_id="get_mask_png",
    summary="One slice's labels",
    **_part(PNG, InvalidParameter),
)
def mask_png(id: str, slice: int, jobs: Visible) -> Response:
    return _file(jobs.kept(id).mask_png(slice), PNG)


@router.get(
    "/{id}/overlays/{slice}.png",
    operation_id="get_overlay_png",
    summary="One slice with its outlines, as a radiologist sees it",
    **_part(PNG, InvalidParameter),
)
def overlay_png(id: str, slice: int, jobs: Visible) -> Response:
    return _file(jobs.kept(id).overlay_png(slice), PNG)


@router.get(
    "/{id}/preview.png",
    operation_id="get_preview",
    summary="A montage of slices through the liver",
    **_part(PNG),
)
def preview(id: str, jobs: Visible) -> Response:
    return _file(jobs.part(id, "preview.png"), PNG)


@router.get(
    "/{id}/contours",
    operation_id="get_contours",
    summary="Outlines in pixels and in patient millimetres",
    response_model=None,
    responses={
        200: {"model": ContoursDocument},
        **problems(NotFound, NoResult, ModelNotReady, StorageFull),
    },
)
def contours(id: str, jobs: Visible) -> Response:
    return _file(jobs.part(id, "contours.json"), "application/json")


async def _made(
    id: str, jobs: Jobs, service: Resources, make: Callable[[Kept], bytes], media_type: str
) -> Response:
    """What takes a whole volume in memory, few at a time."""
    content = await anyio.to_thread.run_sync(
        lambda: make(jobs.kept(id)), limiter=service.writing_volumes
    )
    return _file(content, media_type)


def _object(id: str, jobs: Jobs, name: ObjectName) -> Response:
    content = jobs.part(id, FILES[name])
    if content is None:
        raise NoDicomSource("Expected a DICOM source for a DICOM result, found another format.")
    return _file(content, DICOM)


def _file(content: bytes | None, media_type: str) -> Response:
    if content is None:  # deleted since its job was looked up
        raise NotFound("Expected a segmentation with a result, found it deleted.")
    return Response(content, media_type=media_type)
