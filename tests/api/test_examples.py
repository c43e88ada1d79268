"""The document's examples are what the service says."""

import ast
import math
import re
from collections.abc import Iterator

import jsonschema_rs
import pytest
from conftest import ROOT
from dicom_files import series, to_bytes, to_zip
from fakes import FakeSegmenter, by_threshold
from fastapi.testclient import TestClient
from highdicom import Volume
from http_helpers import ZIP, running

from service import errors
from service.api.app import create_app
from service.api.example_answers import ANSWERS
from service.api.examples import DETAILS, FILES, FORM_PARAMETERS
from service.api.problems import MEDIA_TYPE
from service.api.uploads import BODY_MEDIA_TYPES
from service.settings import Settings

DOCUMENT = create_app(Settings()).openapi()

OPERATIONS = {
    operation["operationId"]: operation
    for item in DOCUMENT["paths"].values()
    for operation in item.values()
}

VOLATILE = {"id", "created_at", "finished_at", "expires_at", "timings_s", "model", "links"}
"""What differs from one answer to the next, or with the model."""

OF_PYDANTIC = {name for name in DETAILS if name.endswith(".invalid_parameter")}
"""Sentences that no source file holds."""


def is_json(media_type: str) -> bool:
    return media_type.partition("/")[2].rpartition("+")[2] == "json"


def resolved(example: dict) -> dict:
    return DOCUMENT["components"]["examples"][example["$ref"].rpartition("/")[2]]


def answers() -> Iterator[tuple[str, str, str, dict]]:
    """Operation, status, media type and its description, of everything that is not binary."""
    for name, operation in OPERATIONS.items():
        for status, response in operation["responses"].items():
            for media_type, described in response.get("content", {}).items():
                if is_json(media_type):
                    yield name, status, media_type, described


@pytest.mark.parametrize(
    ("operation", "status", "media_type", "described"),
    [pytest.param(*found, id="-".join(found[:2])) for found in answers()],
)
def test_every_answer_has_examples(
    operation: str, status: str, media_type: str, described: dict
) -> None:
    """Of its schema, and of each code for an error."""
    schema = {**described["schema"], "components": DOCUMENT["components"]}
    values = {name: resolved(example)["value"] for name, example in described["examples"].items()}
    assert values
    for value in values.values():
        jsonschema_rs.validator_for(schema, validate_formats=True).validate(value)
    if not status.startswith("2"):
        assert media_type == MEDIA_TYPE
        description = OPERATIONS[operation]["responses"][status]["description"]
        codes = re.search(r"Codes: (.*)\.", description)[1].split(", ")
        assert sorted(values) == codes
        assert {(value["code"], value["status"]) for value in values.values()} == {
            (code, int(status)) for code in codes
        }


def test_every_request_has_examples() -> None:
    """A command for each body of bytes, a value for each form and each JSON."""
    for name, operation in OPERATIONS.items():
        for media_type, described in operation.get("requestBody", {}).get("content", {}).items():
            for example in described["examples"].values():
                assert ("value" in example) == (media_type not in BODY_MEDIA_TYPES), name
                if "value" in example:
                    schema = {**described["schema"], "components": DOCUMENT["components"]}
                    jsonschema_rs.validator_for(schema).validate(example["value"])
                else:
                    assert f"'Content-Type: {media_type}'" in example["description"]
    assert FILES.keys() == set(BODY_MEDIA_TYPES)
    assert FORM_PARAMETERS.model_fields_set


def test_every_parameter_is_described() -> None:
    """And has an example, unless its schema lists all that it can be."""
    for name, operation in OPERATIONS.items():
        for parameter in operation.get("parameters", []):
            schema = parameter["schema"]
            assert parameter["description"].endswith("."), (name, parameter)
            assert (
                "example" in parameter
                or {"examples", "enum", "const"} & schema.keys()
                or schema["type"] == "boolean"
            ), (name, parameter)


def test_no_example_is_left_over() -> None:
    """Each is shown somewhere."""
    names = {name for named in ANSWERS.values() for name in named}
    others = {"report", "events"}
    assert DOCUMENT["components"]["examples"].keys() == names | DETAILS.keys() | others


@pytest.fixture(scope="module")
def told(clean_volume: Volume, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the service answers for five slices of the phantom, one of them sent twice."""
    slices = [to_bytes(dataset) for dataset in series(clean_volume[20:25], seed=7)]
    study = to_zip([*slices, slices[0]])
    with running(tmp_path_factory.mktemp("data"), FakeSegmenter(by_threshold)) as client:
        made = client.post("/v1/segmentations", content=study, headers=ZIP)
        result = client.post("/v1/segment", content=study, headers=ZIP)
        addresses = {
            "segmentations": "/v1/segmentations",
            "contours": f"{made.headers['Location']}/contours",
            "report": f"{made.headers['Location']}/report.fhir.json",
            "models": "/v1/models",
            "model": "/v1/models/fake",
            "live": "/health/live",
            "ready": "/health/ready",
        }
        answers = {name: client.get(address).json() for name, address in addresses.items()}
        return {"result": result.json(), "segmentation_succeeded": made.json(), **answers}


@pytest.mark.parametrize(
    "name",
    ["result", "segmentation_succeeded", "contours", "live"],
)
def test_answers_are_the_service_s(told: dict, name: str) -> None:
    """Of the phantom, to four decimals, contours in part."""
    assert_told(resolved({"$ref": name})["value"], told[name])


@pytest.mark.parametrize("name", ["segmentations", "models", "model", "ready"])
def test_answers_look_like_the_service_s(told: dict, name: str) -> None:
    """Those of a model or a moment have the properties of the service's."""
    assert resolved({"$ref": name})["value"].keys() == told[name].keys()


def test_report_is_a_part_of_the_service_s(told: dict) -> None:
    """The FHIR report's example says nothing that the phantom's does not."""
    assert is_part(resolved({"$ref": "report"})["value"], told["report"])


def is_part(example: object, told: object) -> bool:
    """Whether all of an example is told, numbers to four decimals."""
    if isinstance(example, dict):
        return all(name in told and is_part(value, told[name]) for name, value in example.items())
    if isinstance(example, list):
        return all(any(is_part(value, other) for other in told) for value in example)
    if isinstance(example, float):
        return math.isclose(example, told, abs_tol=6e-5)
    return example == told


def assert_told(example: object, told: object, at: str = "") -> None:
    """An example says what was told, but for what differs from one time to the next."""
    if isinstance(example, dict):
        assert example.keys() == told.keys(), at
        for name, value in example.items():
            if name == "contours":
                assert all(contour in told[name] for contour in value)
            elif name not in VOLATILE:
                assert_told(value, told[name], f"{at}.{name}")
    elif isinstance(example, list):
        assert len(example) == len(told), at
        for index, (value, other) in enumerate(zip(example, told, strict=True)):
            assert_told(value, other, f"{at}[{index}]")
    elif isinstance(example, float):
        assert math.isclose(example, told, abs_tol=6e-5), at
    else:
        assert example == told, at


def sentences() -> dict[str, list[str]]:
    """Patterns of what the source says when it raises an error, by the error's class."""
    found: dict[str, list[str]] = {}
    for path in (ROOT / "service").rglob("*.py"):
        if path.name.startswith("example"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                found.setdefault(node.func.id, []).append(pattern(node.args[0]))
    return found


def pattern(said: ast.expr) -> str:
    """What a literal string, with any values in its fields, looks like."""
    match said:
        case ast.Constant(value=str(text)):
            return re.escape(text)
        case ast.JoinedStr(values=parts):
            return "".join(pattern(part) for part in parts)
        case ast.FormattedValue():
            return ".*"
        case _:
            return ""


SAID = sentences()


@pytest.mark.parametrize("name", sorted(DETAILS.keys() - OF_PYDANTIC))
def test_details_are_said(name: str) -> None:
    """The service's source holds the sentence of each example of an error."""
    code = name.rpartition(".")[2]
    kind = type(errors.with_code(code, ""))
    assert any(re.fullmatch(known, DETAILS[name]) for known in SAID[kind.__name__] if known)


ASKED = [
    ("list_segmentations.invalid_parameter", "GET", "/v1/segmentations?limit=201"),
    ("get_mask_png.invalid_parameter", "GET", "/v1/segmentations/x/masks/x.png"),
    ("get_overlay_png.invalid_parameter", "GET", "/v1/segmentations/x/overlays/x.png"),
    ("get_mask_dicom.invalid_parameter", "GET", "/v1/segmentations/x/mask.dcm?encoding=x"),
    ("create_segmentation_of_series.invalid_parameter", "POST", "/v1/segmentations/dicomweb"),
    ("not_found", "GET", "/v1/segmentations/x"),
]


def test_details_of_pydantic_are_answered() -> None:
    """The next test asks for each sentence that no source file holds."""
    assert {name for name, *_ in ASKED} >= OF_PYDANTIC


@pytest.mark.parametrize(("name", "method", "path"), ASKED)
def test_details_are_answered(client: TestClient, name: str, method: str, path: str) -> None:
    """Where a request is enough to be told one."""
    told = client.request(method, path, json={} if method == "POST" else None).json()
    assert DETAILS[name] in told["detail"]
