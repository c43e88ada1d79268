"""Examples of the OpenAPI document: how to send what, what comes back, and what each error says.

Each has a name, under which the document holds it once.
"""

import json
from typing import Any

from pydantic import BaseModel

from service.api.example_answers import ANSWERS, EVENTS, REPORT, SERIES_UID, STUDY_UID
from service.api.form import FILES_FIELD
from service.api.parameters import PipelineParameters, SeriesParameters
from service.api.problems import problem_of
from service.api.uploads import BODY_MEDIA_TYPES
from service.errors import with_code

ADDRESS = "http://127.0.0.1:8000"
"""Where a service listens that was started without settings."""

REQUEST_ID = "0f8fad5bd9cb469fa165708867282a47"

FORM_FILES = ("0001.dcm", "0002.dcm")
FORM_PARAMETERS = PipelineParameters(resample=True)
"""A form, with the names of its files in place of their content."""

FILES = {
    "application/dicom": "multiframe.dcm",
    "application/zip": "study.zip",
    "application/x-tar": "study.tar",
    "application/gzip": "ct.nii.gz",
    "application/x-bzip2": "study.tar.bz2",
    "image/png": "slice.png",
    "image/jpeg": "slice.jpg",
    "image/tiff": "stack.tif",
    "image/bmp": "slice.bmp",
    "application/octet-stream": "ct.nii",
}
"""A file for each media type of a plain body."""

NOT_A_SLICE = "path.slice: Input should be a valid integer, unable to parse string as an integer"

DETAILS = {
    "get_model.not_found": "Expected the name of a loaded model: liver-tumor.",
    "list_segmentations.invalid_parameter": "query.limit: Input should be less than or equal to "
    "200",
    "get_mask_png.invalid_parameter": NOT_A_SLICE,
    "get_overlay_png.invalid_parameter": NOT_A_SLICE,
    "create_segmentation.busy": "Expected at most 64 unfinished jobs, found more.",
    "create_segmentation.no_dicom_source": "Expected DICOM to be delivered, found nifti.",
    "watch_segmentation.busy": "Expected at most 256 streams of events at once, found more.",
    "create_segmentation_of_series.busy": "Expected at most 64 unfinished jobs, found more.",
    "create_segmentation_of_series.invalid_parameter": "origin: Field required",
    "create_segmentation_of_series.request_too_large": "Expected at most 65536 bytes, found more.",
    "create_segmentation_of_series.unsupported_media_type": "Expected application/json, found "
    "another Content-Type.",
    "get_mask_dicom.invalid_parameter": "query.encoding: Input should be 'binary' or 'labelmap'",
    "cancel_segmentation.busy": "Expected the job to stop, found it still at work.",
    "delete_segmentation.busy": "Expected the job to stop, found it still at work.",
    "delete_segmentation.storage_full": "Expected room to note that the job is deleted.",
    "abandoned": "The service ended 5 times while it worked on this.",
    "archive_too_large": "Expected at most 4294967296 bytes once decompressed, found more.",
    "busy": "Expected at most 18 requests at once, found more.",
    "cancelled": "The segmentation was cancelled by request.",
    "color_image": "Expected a grey image, found channels that differ by 64.",
    "deadline_exceeded": "Expected an answer within 600 s.",
    "duplicate_slices": "Expected one instance for each SOPInstanceUID, found two that differ, "
    "slice 12 one of them.",
    "empty_input": "Expected image data, found none.",
    "forbidden": "Expected a key with the scope write, found one without it.",
    "foreign_host": "Expected localhost, an IP address, or a name of LTS_ALLOWED_HOSTS.",
    "foreign_origin": "Expected a page of this service, or an origin of LTS_ALLOWED_ORIGINS.",
    "gantry_tilt": "Expected slices stacked along their normal, found slice 2 0.9 mm beside it "
    "(about 10.0 degrees of tilt).",
    "headers_too_large": "Expected at most 65536 bytes, found more.",
    "idempotency_conflict": "Expected the body and parameters that came with this key first.",
    "image_too_small": "Expected an image of at least 2 x 2 voxels, found (1, 1, 512).",
    "inconsistent_series": "Expected one Rows in the series, found several.",
    "internal_error": "Please report the request's id.",
    "invalid_parameter": "Expected each parameter once, found one given twice.",
    "malformed_request": "Expected an HTTP/1.1 request. Invalid HTTP request received.",
    "model_not_ready": "The model is being loaded.",
    "no_ct_series": "Expected CT slices, found 2 object(s), those of CT localisers or dose screens "
    "only.",
    "no_dicom_source": "Expected a DICOM source for a DICOM result, found nifti.",
    "no_geometry": "Expected ImagePositionPatient in every slice, found none in slice 12.",
    "no_result": "Expected a segmentation that has succeeded, found it running.",
    "not_acceptable": "Expected Accept to allow one of application/json, application/dicom, "
    "application/zip.",
    "not_found": "Expected the id of a segmentation, found another.",
    "out_of_memory": "Expected memory for the volume, found too little.",
    "origin_incomplete": "Expected 120 instances or more, received 118 of them.",
    "origin_invalid": "Expected a multipart answer, found another type.",
    "origin_refused": "Expected to be let in, found status 401.",
    "origin_unreachable": "Expected an answer, found status 503.",
    "request_too_large": "Expected at most 1073741824 bytes, found more.",
    "series_not_found": "Expected the series, found status 404.",
    "shutting_down": "Expected a service that goes on, found it ending.",
    "storage_full": "Expected room for the data, found the disk full.",
    "too_many_files": "Expected at most 5000 files, found more.",
    "too_many_keys": "Expected at most 10 guesses at a key a minute, found more.",
    "too_many_lesions": "Expected at most 2000 lesions, found 2001.",
    "too_many_requests": "Expected at most 60 requests a minute, found more.",
    "too_many_voxels": "Expected at most 393216000 voxels, found 524288000.",
    "unauthorized": "Expected a valid key, found another.",
    "unavailable": "Expected the database to answer, found it unreachable.",
    "uneven_slice_spacing": "Expected 2.5 mm between slices, found 5 mm between slices 12 and 13.",
    "unknown_format": "Expected DICOM, NIfTI, PNG, JPEG, TIFF, BMP, or zip, tar, gzip or bzip2 of "
    "them, found 1 file(s) that start like none of them.",
    "unknown_node": "Expected archive; found another name.",
    "unreadable_file": "Expected whole compressed data, found it damaged.",
    "unsafe_archive": "Expected a zip without encryption, found an encrypted one.",
    "unsupported_media_type": f"Expected multipart/form-data or one of "
    f"{', '.join(BODY_MEDIA_TYPES)}, found another Content-Type or none.",
    "unsupported_pixels": "Expected one sample a pixel, found more in slice 12.",
    "unsupported_transfer_syntax": "Expected a transfer syntax that can be decoded, found "
    "1.2.840.10008.1.2.4.100.",
    "upload_timeout": "Expected 16384 bytes a second after the first 30 s, found fewer.",
    "wrong_modality": "Expected CT, found MR.",
}
"""What one occurrence of each error says, by its code; by operation and code where that differs."""


REQUESTS: dict[str, BaseModel] = {
    "create_segmentation_of_series": SeriesParameters(
        origin="archive", study_instance_uid=STUDY_UID, series_instance_uid=SERIES_UID
    ),
}
"""Bodies in JSON, by operation."""


def sending(operation: str, path: str, media_type: str) -> dict[str, Any]:
    """What a request's media type says to show how it is sent; nothing where none is known."""
    if operation in REQUESTS:
        return {"examples": {"json": {"value": REQUESTS[operation].model_dump(exclude_unset=True)}}}
    if media_type == "multipart/form-data":
        asked = FORM_PARAMETERS.model_dump(exclude_unset=True)
        files = [f"{FILES_FIELD}=@{name}" for name in FORM_FILES]
        fields = [f"{name}={json.dumps(value)}" for name, value in asked.items()]
        command = " ".join(f"--form {field}" for field in [*files, *fields])
        shown = {"summary": "A series", "value": {FILES_FIELD: list(FORM_FILES), **asked}}
    elif media_type in FILES:
        command = f"--data-binary @{FILES[media_type]} --header 'Content-Type: {media_type}'"
        shown = {"summary": "One file"}
    else:
        return {}
    return {"examples": {"curl": {**shown, "description": f"curl {command} {ADDRESS}{path}"}}}


def all_examples() -> dict[str, dict[str, Any]]:
    """Every example of an answer by its name, as the document holds it."""
    problems = {name: _problem(name.rpartition(".")[2], detail) for name, detail in DETAILS.items()}
    answers = {
        name: {"value": answer.model_dump(mode="json")}
        for named in ANSWERS.values()
        for name, answer in named.items()
    }
    return (
        problems
        | answers
        | {
            "report": {"summary": "Shortened", "value": REPORT},
            "events": {"summary": "Shortened", "value": EVENTS},
        }
    )


def _problem(code: str, detail: str) -> dict[str, Any]:
    problem = problem_of(with_code(code, detail), REQUEST_ID)
    return {"summary": problem.title, "value": problem.model_dump()}
