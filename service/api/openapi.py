"""What routes say of themselves in the OpenAPI document and FastAPI cannot derive from them."""

import json
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from service.api.form import FILES_FIELD
from service.api.parameters import PipelineParameters, SegmentParameters
from service.api.problems import MEDIA_TYPE, RETRY_AFTER_S
from service.api.uploads import BODY_MEDIA_TYPES
from service.errors import HeadersTooLarge, InternalError, MalformedRequest, ServiceError

BINARY = {"type": "string", "format": "binary"}

_PROBLEM = {"$ref": "#/components/schemas/Problem"}

_EVERYWHERE: tuple[type[ServiceError], ...] = (MalformedRequest, HeadersTooLarge, InternalError)
"""What any request may be answered with, whatever its route."""

_RETRY_AFTER = {
    "description": "Seconds after which the request may be sent again.",
    "schema": {"type": "integer", "examples": [RETRY_AFTER_S]},
}


def problems(
    *errors: type[ServiceError], but: tuple[type[ServiceError], ...] = ()
) -> dict[int | str, dict[str, Any]]:
    """Responses for these errors and their subclasses, `but` some, and for those of every route.

    By status, each listing its codes with an example; service.api.examples holds the examples.
    """
    codes: dict[HTTPStatus, list[str]] = {}
    for error in (*errors, *_EVERYWHERE):
        for kind in (error, *_subclasses(error)):
            if hasattr(kind, "code") and kind not in but:
                codes.setdefault(kind.status, []).append(kind.code)
    return {int(status): _problem(status, sorted(names)) for status, names in sorted(codes.items())}


def _problem(status: HTTPStatus, codes: list[str]) -> dict[str, Any]:
    response = {
        "description": f"{status.phrase}. Codes: {', '.join(codes)}.",
        "content": {MEDIA_TYPE: {"schema": _PROBLEM, **shown(*codes)}},
    }
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        response["headers"] = {"Retry-After": _RETRY_AFTER}
    return response


def _subclasses(error: type[ServiceError]) -> list[type[ServiceError]]:
    found = []
    for kind in error.__subclasses__():
        found += [kind, *_subclasses(kind)]
    return found


def shown(*names: str) -> dict[str, Any]:
    """What a media type says to show examples of service.api.examples, by their names there."""
    return {"examples": {name: {"$ref": f"#/components/examples/{name}"} for name in names}}


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


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """A JSON body that the route reads itself, bounded; its schema is inline."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def header(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A request header that FastAPI is not asked to read."""
    return _parameter(name, "header", {**schema, "description": description})


def _properties(parameters: type[PipelineParameters]) -> dict[str, dict[str, Any]]:
    """Each parameter's schema, without the null that stands for its absence.

    Its default stands in its description only: clients that are generated from the document send
    defaults, and one that sends a parameter in the query and in the form is refused.
    """
    properties = {}
    for name, schema in parameters.model_json_schema()["properties"].items():
        plain = {
            key: value for key, value in schema.items() if key not in ("anyOf", "title", "default")
        }
        if "anyOf" in schema:
            plain |= next(kind for kind in schema["anyOf"] if kind.get("type") != "null")
        else:
            plain["description"] += f" By default {json.dumps(schema['default'])}."
        properties[name] = plain
    return properties


def _parameter(name: str, place: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The description stands twice: readers look at the parameter, generators at its schema."""
    return {
        "name": name,
        "in": place,
        "required": False,
        "description": schema["description"],
        "schema": schema,
    }


def _body(properties: dict[str, dict[str, Any]]) -> dict[str, Any]:
    files = {
        "type": "array",
        "minItems": 1,
        "items": BINARY,
        "description": "Images or archives of them, each with a file name, which is not read.",
    }
    form = {
        "type": "object",
        "required": [FILES_FIELD],
        "additionalProperties": False,
        "properties": {FILES_FIELD: files, **properties},
    }
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form},
            **{media_type: {"schema": BINARY} for media_type in BODY_MEDIA_TYPES},
        },
    }


SEGMENT = upload(SegmentParameters)
