"""The committed contract is the application's, and the application keeps it."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from conftest import ROOT
from fakes import FakeSegmenter, by_threshold
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.python.asgi import ASGIClient, get_client
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.api.app import create_app
from service.api.problems import Problem
from service.errors import ServiceError
from service.settings import Settings


@schemathesis.serializer(
    "application/dicom",
    "application/gzip",
    "application/x-bzip2",
    "application/x-tar",
    "application/zip",
    "image/bmp",
    "image/tiff",
)
def as_is(_: object, value: object) -> bytes:
    """Bodies of the binary types are sent as they were generated."""
    return value if isinstance(value, bytes) else str(getattr(value, "data", value)).encode()


FOLDER = tempfile.TemporaryDirectory()

APP = create_app(Settings(data_dir=Path(FOLDER.name)), lambda _: FakeSegmenter(by_threshold))

schema = schemathesis.openapi.from_asgi("/openapi.json", APP)


def test_committed_document_is_the_application_s() -> None:
    """`make openapi` was run after the last change."""
    committed = json.loads((ROOT / "openapi" / "openapi.json").read_text())
    assert committed == json.loads(json.dumps(APP.openapi()))


def test_operation_ids_are_functions() -> None:
    """Generated clients name their functions after these, which no release takes back."""
    operations = [
        operation["operationId"] for path in APP.openapi()["paths"].values()
        for operation in path.values()
    ]  # fmt: skip
    assert len(set(operations)) == len(operations)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in operations)


def subclasses(kind: type[ServiceError]) -> list[type[ServiceError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in subclasses(child))]


@pytest.mark.parametrize(
    "error", [kind for kind in subclasses(ServiceError) if hasattr(kind, "code")]
)
def test_every_error_has_code_status_and_title(error: type[ServiceError]) -> None:
    """The tree is complete, and its codes are unique."""
    assert error.code.isidentifier()
    assert 400 <= error.status < 600
    assert error.title.endswith(".")
    assert Problem.model_fields.keys() >= {"code", "detail"}
    codes = [kind.code for kind in subclasses(ServiceError) if hasattr(kind, "code")]
    assert codes.count(error.code) == 1


@pytest.fixture(scope="module")
def session() -> Iterator[ASGIClient]:
    """The application, started once."""
    with get_client(APP) as client:
        yield client


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_generated_requests(case: schemathesis.Case, session: ASGIClient) -> None:
    """Schemathesis finds no 5xx, no undocumented status and no answer that breaks its schema."""
    response = case.call(session=session)
    case.validate_response(
        response,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )
