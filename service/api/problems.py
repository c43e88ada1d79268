"""Errors as RFC 9457 problem documents; the only place that knows both errors and HTTP."""

import math
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from service.errors import (
    BadRequest,
    InvalidParameter,
    MethodNotAllowed,
    NotFound,
    Refused,
    ServiceError,
    TooManyRequests,
    Unauthorized,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5


class Problem(BaseModel):
    """RFC 9457, with a stable `code` and the request's id."""

    type: str = Field(
        description="urn:lts:problem:CODE", examples=["urn:lts:problem:wrong_modality"]
    )
    title: str
    status: int
    detail: str
    code: str
    request_id: str


def install(app: FastAPI) -> None:
    """Answer every known exception with a problem document; the outermost layer has the rest."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)


def respond(error: ServiceError, request: HTTPConnection) -> JSONResponse:
    """The problem document of one error, as an answer."""
    problem = problem_of(error, request.state.request_id)
    request.app.state.resources.metrics.problems.labels(error.code).inc()
    headers = {}
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    elif error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, BadRequest | Refused):
        # The body may not have been read to its end, so the connection cannot be used again.
        headers["Connection"] = "close"
    return JSONResponse(problem.model_dump(), int(error.status), headers, MEDIA_TYPE)


def problem_of(error: ServiceError, request_id: str) -> Problem:
    """The problem document of one error."""
    return Problem(
        type=f"urn:lts:problem:{error.code}",
        title=error.title,
        status=int(error.status),
        detail=str(error),
        code=error.code,
        request_id=request_id,
    )


async def _service_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ServiceError):
        raise TypeError(f"{type(error).__name__} is no ServiceError") from error
    return respond(error, request)


async def _validation_error(request: Request, error: Exception) -> Response:
    """FastAPI's own checks of paths and queries; values are not repeated, they may be anything."""
    if not isinstance(error, RequestValidationError):
        raise TypeError(f"{type(error).__name__} is no RequestValidationError") from error
    return respond(InvalidParameter(describe(error.errors())), request)


def describe(errors: object) -> str:
    """Pydantic's errors in one sentence: which parameter, and what was expected."""
    listed = errors if isinstance(errors, list | tuple) else []
    found = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in listed]
    return "; ".join(found)


def _allowed(request: Request) -> str:
    """The methods of all documented routes of an address; the framework names the first one's."""
    template = getattr(request.scope.get("route"), "path", "")
    operations = request.app.openapi()["paths"].get(template, {})
    return ", ".join(sorted(method.upper() for method in operations))


async def _http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError(f"{type(error).__name__} is no HTTPException") from error
    if error.status_code == MethodNotAllowed.status:
        allowed = _allowed(request) or (error.headers or {}).get("Allow", "")
        response = respond(MethodNotAllowed(f"Expected one of: {allowed}."), request)
        response.headers["Allow"] = allowed
        return response
    if error.status_code == NotFound.status:
        return respond(NotFound("Expected an address of this service's API."), request)
    return respond(InvalidParameter("The request could not be read."), request)
