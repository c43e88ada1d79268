"""The parts of a durable segmentation's result: masks, image, pictures, contours."""

from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends
from starlette.responses import Response

from service.api.openapi import BINARY, problems
from service.api.resources import Resources, resources
from service.api.segmentation_documents import PATH, ContoursDocument
from service.errors import (
    InvalidParameter,
    ModelNotReady,
    NoDicomSource,
    NoResult,
    NotFound,
    ServiceError,
)

NIFTI, DICOM, PNG = "application/gzip", "application/dicom", "image/png"

router = APIRouter(prefix=PATH, tags=["segmentations"])

Service = Annotated[Resources, Depends(resources)]


def _part(media_type: str, *more: type[ServiceError]) -> dict[str, Any]:
    """How the routes of a result's parts answer."""
    return {
        "response_model": None,
        "responses": {
            200: {"content": {media_type: {"schema": BINARY}}},
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
async def image_nifti(id: str, service: Service) -> Response:
    jobs = service.ready_jobs()
    content = await anyio.to_thread.run_sync(
        lambda: jobs.kept(id).image_nii_gz(), limiter=service.writing_images
    )
    return _file(content, NIFTI)


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
