"""The parts of the OpenAPI document that FastAPI cannot derive from the routes."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service import __version__
from service.api.form import FILES_FIELD
from service.api.parameters import PipelineParameters, SegmentParameters
from service.api.problems import MEDIA_TYPE, Problem
from service.api.uploads import BODY_MEDIA_TYPES
from service.errors import ServiceError

TITLE = "Liver tumour segmentation"
DESCRIPTION = (
    "Finds the liver and its tumours on CT and answers with masks, contours and volumes. "
    "Research use only: this is not a medical device, and its results are not for diagnosis."
)

BINARY = {"type": "string", "format": "binary"}
_PROBLEM = {"schema": {"$ref": "#/components/schemas/Problem"}}


def problems(*errors: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """Responses for these errors and their subclasses, by status, each listing its codes."""
    codes: dict[int, list[str]] = {}
    for error in errors:
        for kind in (error, *_subclasses(error)):
            if hasattr(kind, "code"):
                codes.setdefault(int(kind.status), []).append(kind.code)
    return {
        status: {
            "description": f"{HTTPStatus(status).phrase}. Codes: {', '.join(sorted(names))}.",
            "content": {MEDIA_TYPE: _PROBLEM},
        }
        for status, names in sorted(codes.items())
    }


def _subclasses(error: type[ServiceError]) -> list[type[ServiceError]]:
    found = []
    for kind in error.__subclasses__():
        found += [kind, *_subclasses(kind)]
    return found


def upload(parameters: type[PipelineParameters], *more: dict[str, Any]) -> dict[str, Any]:
    """A POST's parameters and body: images, with the parameters in the query or the form."""
    properties = _properties(parameters)
    return {
        "parameters": [
            *(_parameter(name, "query", schema) for name, schema in properties.items()),
            *more,
        ],
        "requestBody": _body(properties),
    }


def header(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A request header that FastAPI is not asked to read."""
    return _parameter(name, "header", {**schema, "description": description})


def _properties(parameters: type[PipelineParameters]) -> dict[str, dict[str, Any]]:
    """Each parameter's schema, without the null that stands for its absence."""
    properties = {}
    for name, schema in parameters.model_json_schema()["properties"].items():
        plain = {key: value for key, value in schema.items() if key not in ("anyOf", "title")}
        if "anyOf" in schema:
            plain |= next(kind for kind in schema["anyOf"] if kind.get("type") != "null")
            plain.pop("default", None)
        properties[name] = plain
    return properties


def _parameter(name: str, place: str, schema: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in schema.items() if key != "description"}
    description = schema["description"]
    return {
        "name": name,
        "in": place,
        "required": False,
        "description": description,
        "schema": rest,
    }


def _body(properties: dict[str, dict[str, Any]]) -> dict[str, Any]:
    form = {
        "type": "object",
        "required": [FILES_FIELD],
        "additionalProperties": False,
        "properties": {
            FILES_FIELD: {"type": "array", "minItems": 1, "items": BINARY},
            **properties,
        },
    }
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form},
            **{media_type: {"schema": BINARY} for media_type in BODY_MEDIA_TYPES},
        },
    }


SEGMENT = upload(SegmentParameters)


def document(app: FastAPI) -> dict[str, Any]:
    """The application's OpenAPI document, with the problem schema that the responses name."""
    made = get_openapi(title=TITLE, version=__version__, description=DESCRIPTION, routes=app.routes)
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path in made["paths"].values():
        for operation in path.values():
            _drop_default_validation_error(operation["responses"])
    return made


def _drop_default_validation_error(responses: dict[str, Any]) -> None:
    """FastAPI lists its own 422 for every route with a parameter; ours is a problem of 400."""
    content = responses.get("422", {}).get("content", {})
    if "application/json" in content:
        responses.pop("422")
