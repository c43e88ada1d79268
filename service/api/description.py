"""The application's OpenAPI document: what FastAPI makes of the routes, and what it leaves out."""

from collections.abc import Collection, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service import __version__
from service.access.gate import KEY_HEADER
from service.api.access import is_open
from service.api.example_answers import ANSWERS, ID
from service.api.examples import all_examples, sending
from service.api.openapi import problems, shown
from service.api.outermost import HEADER
from service.api.problems import Problem
from service.errors import ModelNotReady, Refused, TooManyRequests, Unavailable

TITLE = "Liver tumour segmentation"
DESCRIPTION = (
    "Finds the liver and its tumours on CT and answers with masks, contours and volumes. "
    "Research use only: this is not a medical device, and its results are not for diagnosis.\n\n"
    "Callers send a key once the service has any: `read` is for GET, `write` for the rest, `admin` "
    "for both and for what others made. "
    "Every error is a problem document (RFC 9457). Beside those of each operation there are 404 "
    "`not_found` for an address that is not listed here, and 405 `method_not_allowed` for a method "
    "that an address does not take. Within a minor version answers may gain properties and "
    "requests optional parameters: ignore what you do not know."
)
LICENSE = {"name": "Apache License 2.0", "identifier": "Apache-2.0"}
SERVERS = [{"url": "/", "description": "The service that gave this document."}]
TAGS = [
    {"name": "segment", "description": "Images in, the whole answer in the response."},
    {"name": "segmentations", "description": "Durable segmentations, kept until deleted."},
    {"name": "models", "description": "What labels the images, and what it was measured to do."},
    {"name": "health", "description": "For those who run the service."},
]

IN_PATHS: dict[str, tuple[str, object]] = {
    "id": ("The segmentation's `id`.", ID),
    "slice": ("The slice's number, from 0 along the slice normal.", 0),
    "name": ("The model's name.", "liver-tumor"),
}
"""Parameters in paths, which mean the same everywhere: description and example."""

AT_THE_GATE = (Refused, TooManyRequests, ModelNotReady, Unavailable)
"""What a request may be refused with before its route sees it."""

_REQUEST_ID = {
    "description": "Finds the request in the log: the one that was sent, or a new one.",
    "schema": {"type": "string"},
}

_UNDESCRIBED = "Successful Response"
"""What FastAPI says of an answer that its route does not describe."""


SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of the service, or a token of its OpenID Connect provider.",
    },
    "key": {
        "type": "apiKey",
        "in": "header",
        "name": KEY_HEADER,
        "description": "A key of the service.",
    },
}
"""How callers say who they are; a service without keys, on loopback, asks nobody."""


def document(app: FastAPI) -> dict[str, Any]:
    """The application's OpenAPI document."""
    made = get_openapi(
        title=TITLE,
        version=__version__,
        description=DESCRIPTION,
        license_info=LICENSE,
        servers=SERVERS,
        tags=TAGS,
        routes=app.routes,
    )
    components, paths = made.setdefault("components", {}), made["paths"]
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    examples = all_examples()
    for path, item in paths.items():
        for operation in item.values():
            _complete_parameters(operation.get("parameters", []))
            is_guarded = not is_open(path)
            if not is_guarded:
                operation["security"] = []
            _complete_responses(operation["responses"], operation["summary"], is_guarded)
            _show_own(operation, examples.keys())
            body = operation.get("requestBody", {})
            for media_type, described in body.get("content", {}).items():
                described.update(sending(operation["operationId"], path, media_type))
    _leave_room(schemas, paths)
    components["securitySchemes"] = SECURITY
    made["security"] = [{}, *({name: []} for name in SECURITY)]
    components["headers"] = {HEADER: _REQUEST_ID}
    used = set(_references(paths, "examples"))
    components["examples"] = {name: examples[name] for name in sorted(used)}
    return made


def _complete_parameters(parameters: list[dict[str, Any]]) -> None:
    for parameter in parameters:
        if parameter["in"] == "path":
            description, example = IN_PATHS[parameter["name"]]
            parameter |= {"description": description, "example": example}


def _complete_responses(responses: dict[str, Any], summary: str, is_guarded: bool) -> None:
    _drop_default_validation_error(responses)
    for status, response in problems(*(AT_THE_GATE if is_guarded else ())).items():
        responses.setdefault(str(status), response)
    for response in responses.values():
        if response["description"] == _UNDESCRIBED:
            response["description"] = f"{summary}."
        content = response.get("content", {})
        if len(content) > 1 and content.get("application/json") == {"schema": {}}:
            del content["application/json"]  # FastAPI's guess for a route that answers otherwise
        for described in content.values():
            schema = described.get("schema", {}).get("$ref", "").rpartition("/")[2]
            if schema in ANSWERS and "examples" not in described:
                described.update(shown(*ANSWERS[schema]))
        response.setdefault("headers", {})[HEADER] = {"$ref": f"#/components/headers/{HEADER}"}


def _drop_default_validation_error(responses: dict[str, Any]) -> None:
    """FastAPI lists its own 422 for every route with a parameter; ours is a problem of 400."""
    content = responses.get("422", {}).get("content", {})
    if "application/json" in content:
        responses.pop("422")


def _show_own(operation: dict[str, Any], names: Collection[str]) -> None:
    """Where there is an example of an error for just this operation, show that."""
    for response in operation["responses"].values():
        for described in response.get("content", {}).values():
            for code in described.get("examples", {}):
                own = f"{operation['operationId']}.{code}"
                if own in names:
                    described["examples"][code] = shown(own)["examples"][own]


def _leave_room(schemas: dict[str, Any], paths: dict[str, Any]) -> None:
    """Let answers gain properties within a version, although this one writes no others.

    A schema of a request stays as strict as the request is read.
    """
    bodies = [
        operation.get("requestBody") for item in paths.values() for operation in item.values()
    ]
    strict, found = set[str](), set(_references(bodies, "schemas"))
    while found:
        strict |= found
        found = set(_references([schemas[name] for name in found], "schemas")) - strict
    for name in schemas.keys() - strict:
        if schemas[name].get("additionalProperties") is False:
            del schemas[name]["additionalProperties"]


def _references(node: object, kind: str) -> Iterator[str]:
    """Names of the components of a kind that a part of a document refers to."""
    if isinstance(node, dict):
        place, _, name = str(node.get("$ref", "")).rpartition("/")
        if place == f"#/components/{kind}":
            yield name
        for value in node.values():
            yield from _references(value, kind)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value, kind)
