"""The API keeps what the last released document promised, and the judge of that knows its rules."""

import copy
import json
from pathlib import Path

import pytest
from api_changes import breaking_changes, may_break
from conftest import ROOT

OPENAPI = ROOT / "openapi"


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_released_clients_go_on_working() -> None:
    """What breaks them needs a version that says so."""
    released, committed = read(OPENAPI / "released.json"), read(OPENAPI / "openapi.json")
    versions = released["info"]["version"], committed["info"]["version"]
    broken = "\n".join(breaking_changes(released, committed))
    assert not broken or may_break(*versions), (
        f"Clients of the released API break:\n{broken}\nUndo this, or raise the version in "
        "service/__init__.py: its minor number, from 1.0 on its major one. With the release copy "
        "openapi/openapi.json to openapi/released.json."
    )


@pytest.mark.parametrize(
    ("old", "new", "may"),
    [
        ("0.1.0", "0.1.1", False),
        ("0.1.0", "0.2.0", True),
        ("0.9.0", "0.10.0", True),
        ("0.2.0", "0.1.0", False),
        ("0.1.0", "1.0.0", True),
        ("1.0.0", "1.1.0", False),
        ("1.9.0", "2.0.0", True),
        ("2.0.0", "1.0.0", False),
        ("1.0.0", "0.9.0", False),
    ],
)
def test_versions_that_may_break(old: str, new: str, may: bool) -> None:
    """The major number, or the minor one while the major one is 0."""
    assert may_break(old, new) is may


DOCUMENT = {
    "paths": {
        "/plain": {"get": {"operationId": "plain", "responses": {"204": {}}}},
        "/x/{id}": {
            "parameters": [
                {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
                {"name": "depth", "in": "query", "schema": {"type": "string"}},
            ],
            "post": {
                "operationId": "make",
                "parameters": [
                    {"$ref": "#/components/parameters/Depth"},
                    {"name": "Wait", "in": "header", "schema": {"type": "string"}},
                ],
                "requestBody": {
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Asked"}},
                        "image/png": {"schema": {"type": "string", "format": "binary"}},
                    }
                },
                "responses": {
                    "200": {
                        "headers": {"Location": {"schema": {"type": "string"}}},
                        "content": {
                            "application/json": {
                                "schema": {"$ref": "#/components/schemas/Answered"}
                            },
                            "text/plain": {"schema": {"type": "string"}},
                        },
                    },
                    "404": {"$ref": "#/components/responses/Missing"},
                },
            },
        },
    },
    "components": {
        "parameters": {
            "Depth": {
                "name": "depth",
                "in": "query",
                "schema": {"type": "integer", "minimum": 1, "maximum": 9, "default": 5},
            }
        },
        "responses": {
            "Missing": {"content": {"text/plain": {"schema": {"type": "string"}}}},
        },
        "schemas": {
            "Base": {"type": "object", "properties": {"kind": {"enum": ["a", "b"]}}},
            "Asked": {
                "allOf": [{"$ref": "#/components/schemas/Base"}],
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "minLength": 2, "maxLength": 9, "pattern": "^a"},
                    "size": {
                        "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]
                    },
                    "list": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
                    "pair": {"type": "array", "prefixItems": [{"type": "integer"}] * 2},
                    "open": {"type": "object", "additionalProperties": {"type": "number"}},
                    "again": {"$ref": "#/components/schemas/Asked"},
                },
            },
            "Answered": {
                "type": "object",
                "required": ["name", "size"],
                "properties": {
                    "name": {"type": "string", "format": "date"},
                    "kind": {"type": "string", "enum": ["a", "b"]},
                    "size": {"type": "number", "minimum": 0, "maximum": 1},
                    "list": {"type": "array", "items": {"$ref": "#/components/schemas/Part"}},
                    "open": {"type": "object", "additionalProperties": {"type": "number"}},
                    "note": {"type": ["string", "null"], "const": "x"},
                },
            },
            "Part": {
                "type": "object",
                "properties": {"id": {"type": "integer"}},
                "additionalProperties": False,
            },
        },
    },
}
"""Small, but with every keyword that is looked at."""

GONE = object()

POST = ("paths", "/x/{id}", "post")
CONTENT = ("requestBody", "content")
ANSWER = (*POST, "responses", "200")
ASKED = ("components", "schemas", "Asked")
ANSWERED = ("components", "schemas", "Answered")
DEPTH = ("components", "parameters", "Depth")

IN_BODY = "POST /x/{id}: body: application/json"
IN_ANSWER = "POST /x/{id}: 200: application/json"
IN_DEPTH = "POST /x/{id}: query depth"

BREAKS = [
    # Names that clients know.
    (("paths", "/plain"), GONE, "GET /plain is gone"),
    (("paths", "/plain", "get"), GONE, "GET /plain is gone"),
    ((*POST, "operationId"), "create", "POST /x/{id}: operationId make is gone"),
    ((*POST, "parameters", 1), GONE, "POST /x/{id}: header wait is gone"),
    (("paths", "/x/{id}", "parameters", 0), GONE, "POST /x/{id}: path id is gone"),
    ((*POST, *CONTENT, "image/png"), GONE, "POST /x/{id}: body: image/png is gone"),
    ((*POST, "responses", "404"), GONE, "POST /x/{id}: 404 is gone"),
    ((*ANSWER, "content", "text/plain"), GONE, "POST /x/{id}: 200: text/plain is gone"),
    ((*ANSWER, "headers", "Location"), GONE, "POST /x/{id}: 200: Location is gone"),
    ((*ANSWERED, "properties", "kind"), GONE, f"{IN_ANSWER}: kind is gone"),
    ((*ASKED, "properties", "pair"), GONE, f"{IN_BODY}: pair is gone"),
    (
        ("components", "responses", "Missing", "content", "text/plain"),
        GONE,
        "POST /x/{id}: 404: text/plain is gone",
    ),
    # What a request must hold, and may.
    ((*DEPTH, "required"), True, f"{IN_DEPTH} must be given"),
    ((*POST, "requestBody", "required"), True, "POST /x/{id}: body must be given"),
    ((*ASKED, "required"), ["name", "size"], f"{IN_BODY}: size must be given"),
    ((*DEPTH, "schema", "default"), 6, f"{IN_DEPTH}: default 5 became 6"),
    ((*DEPTH, "schema", "default"), GONE, f"{IN_DEPTH}: default 5 became None"),
    ((*DEPTH, "schema", "type"), "string", f"{IN_DEPTH}: integer became string"),
    ((*DEPTH, "schema", "minimum"), 2, f"{IN_DEPTH}: minimum was changed"),
    ((*DEPTH, "schema", "maximum"), 8, f"{IN_DEPTH}: maximum was changed"),
    ((*DEPTH, "schema", "exclusiveMaximum"), 9, f"{IN_DEPTH}: maximum was changed"),
    ((*DEPTH, "schema", "multipleOf"), 2, f"{IN_DEPTH}: multipleOf was changed"),
    ((*DEPTH, "schema", "enum"), [1], f"{IN_DEPTH}: its values were any and are [1]"),
    ((*ASKED, "properties", "name", "minLength"), 3, f"{IN_BODY}: name: minLength was changed"),
    ((*ASKED, "properties", "name", "maxLength"), 8, f"{IN_BODY}: name: maxLength was changed"),
    ((*ASKED, "properties", "name", "pattern"), "^b", f"{IN_BODY}: name: pattern was changed"),
    ((*ASKED, "properties", "name", "format"), "uuid", f"{IN_BODY}: name: format was changed"),
    (
        (*ASKED, "properties", "size", "anyOf", 0, "exclusiveMinimum"),
        1,
        f"{IN_BODY}: size: minimum was changed",
    ),
    ((*ASKED, "properties", "size", "anyOf", 1), GONE, f"{IN_BODY}: size: null became number"),
    ((*ASKED, "properties", "list", "maxItems"), 2, f"{IN_BODY}: list: maxItems was changed"),
    ((*ASKED, "properties", "list", "minItems"), 1, f"{IN_BODY}: list: minItems was changed"),
    (
        (*ASKED, "properties", "list", "uniqueItems"),
        True,
        f"{IN_BODY}: list: uniqueItems was changed",
    ),
    (
        (*ASKED, "properties", "list", "items", "type"),
        "integer",
        f"{IN_BODY}: list: item 0: string became integer",
    ),
    (
        (*ASKED, "properties", "pair", "prefixItems", 1),
        {"type": "string"},
        f"{IN_BODY}: pair: item 1: integer became string",
    ),
    (
        (*ASKED, "properties", "pair", "items"),
        False,
        f"{IN_BODY}: pair: item 2: its values were any and are []",
    ),
    (
        (*ASKED, "properties", "open", "additionalProperties", "maximum"),
        1,
        f"{IN_BODY}: open: other properties: maximum was changed",
    ),
    (
        (*ASKED, "properties", "open", "minProperties"),
        1,
        f"{IN_BODY}: open: minProperties was changed",
    ),
    (
        (*ASKED, "properties", "open", "additionalProperties"),
        False,
        f"{IN_BODY}: open: other properties are refused",
    ),
    (
        ("components", "schemas", "Base", "properties", "kind", "enum"),
        ["a"],
        f"{IN_BODY}: kind: 'b' is gone",
    ),
    # What an answer holds, and may.
    ((*ANSWERED, "required"), ["name"], f"{IN_ANSWER}: size may be missing"),
    (
        (*ANSWERED, "properties", "size", "type"),
        ["number", "null"],
        f"{IN_ANSWER}: size: number became null",
    ),
    ((*ANSWERED, "properties", "size", "type"), GONE, f"{IN_ANSWER}: size: number became anything"),
    ((*ANSWERED, "properties", "size", "minimum"), -1, f"{IN_ANSWER}: size: minimum was changed"),
    ((*ANSWERED, "properties", "size", "maximum"), GONE, f"{IN_ANSWER}: size: maximum was changed"),
    ((*ANSWERED, "properties", "name", "format"), GONE, f"{IN_ANSWER}: name: format was changed"),
    ((*ANSWERED, "properties", "kind", "enum"), ["a", "b", "c"], f"{IN_ANSWER}: kind: 'c' is new"),
    (
        (*ANSWERED, "properties", "kind", "enum"),
        GONE,
        f"{IN_ANSWER}: kind: its values were ['a', 'b'] and are any",
    ),
    (
        (*ANSWERED, "properties", "open", "additionalProperties"),
        {"type": "string"},
        f"{IN_ANSWER}: open: other properties: number became string",
    ),
    (
        ("components", "schemas", "Part", "properties", "id", "type"),
        "number",
        f"{IN_ANSWER}: list: item 0: id: integer became number",
    ),
]


def changed(path: tuple[str | int, ...], value: object) -> dict:
    document = copy.deepcopy(DOCUMENT)
    *way, last = path
    place = document
    for step in way:
        place = place[step]
    if value is GONE:
        del place[last]
    elif isinstance(place, list) and last == len(place):
        place.append(value)
    else:
        place[last] = value
    return document


@pytest.mark.parametrize(("path", "value", "said"), BREAKS, ids=[said for *_, said in BREAKS])
def test_what_breaks(path: tuple[str | int, ...], value: object, said: str) -> None:
    """Each rule, alone."""
    assert breaking_changes(DOCUMENT, changed(path, value)) == [said]


FINE = [
    # More to ask for.
    (("paths", "/y"), {"get": {"operationId": "y", "responses": {}}}),
    (("paths", "/plain", "delete"), {"operationId": "remove", "responses": {}}),
    ((*POST, "parameters", 2), {"name": "more", "in": "query", "schema": {}}),
    ((*POST, "parameters", 1, "name"), "WAIT"),
    (("paths", "/x/{id}", "parameters", 0, "required"), False),
    ((*POST, *CONTENT, "image/jpeg"), {}),
    ((*ASKED, "properties", "more"), {"type": "string"}),
    ((*ASKED, "required"), []),
    ((*DEPTH, "schema", "type"), "number"),
    ((*DEPTH, "schema", "minimum"), 0),
    ((*DEPTH, "schema", "maximum"), GONE),
    ((*ASKED, "properties", "name", "pattern"), GONE),
    ((*ASKED, "properties", "size", "anyOf", 2), {"type": "string"}),
    ((*ASKED, "properties", "list"), {"type": ["array", "null"], "items": {"type": "string"}}),
    ((*ASKED, "properties", "open", "additionalProperties"), True),
    (("components", "schemas", "Base", "properties", "kind", "enum"), ["c", "b", "a"]),
    (("components", "schemas", "Base", "properties", "kind", "enum"), GONE),
    # Less, or more by name, in the answer.
    ((*POST, "responses", "503"), {}),
    ((*ANSWER, "content", "image/png"), {}),
    ((*ANSWER, "headers", "Retry-After"), {}),
    ((*ANSWERED, "properties", "more"), {"type": "string"}),
    ((*ANSWERED, "required"), ["name", "size", "kind"]),
    ((*ANSWERED, "properties", "size", "type"), "integer"),
    ((*ANSWERED, "properties", "size", "minimum"), 0.5),
    ((*ANSWERED, "properties", "size", "exclusiveMaximum"), 1),
    ((*ANSWERED, "properties", "name", "pattern"), "^2"),
    ((*ANSWERED, "properties", "note", "type"), "string"),
    ((*ANSWERED, "additionalProperties"), False),
    (("components", "schemas", "Part", "additionalProperties"), GONE),
    # Said in another way.
    ((*ANSWERED, "description"), "other words"),
    ((*ANSWERED, "properties", "note"), {"enum": ["x"], "type": ["null", "string"]}),
    (
        (*ANSWERED, "properties", "note"),
        {"oneOf": [{"type": "null", "const": "x"}, {"type": "string", "const": "x"}]},
    ),
    (
        (*ANSWERED, "properties", "list", "items"),
        {"allOf": [{"$ref": "#/components/schemas/Part"}]},
    ),
    (
        (*ANSWERED, "properties", "list", "items"),
        {"type": "object", "properties": {"id": {"type": "integer"}}},
    ),
]


@pytest.mark.parametrize(("path", "value"), FINE, ids=[str(path) for path, _ in FINE])
def test_what_is_fine(path: tuple[str | int, ...], value: object) -> None:
    """Clients that know nothing of it go on."""
    assert breaking_changes(DOCUMENT, changed(path, value)) == []


def test_no_change_is_fine() -> None:
    """Of the whole API as well."""
    assert breaking_changes(DOCUMENT, DOCUMENT) == []
    committed = read(OPENAPI / "openapi.json")
    assert breaking_changes(committed, committed) == []


def test_a_path_s_own_parameters_count() -> None:
    """One that comes to be asked of every operation of a path breaks each."""
    document = copy.deepcopy(DOCUMENT)
    asked = {"name": "key", "in": "query", "required": True, "schema": {"type": "string"}}
    document["paths"]["/plain"]["parameters"] = [asked]
    assert breaking_changes(DOCUMENT, document) == ["GET /plain: query key must be given"]
