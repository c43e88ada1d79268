"""The committed client is the document's, and all that an integrator needs."""

import asyncio
import importlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from http import HTTPStatus
from pathlib import Path

import highdicom
import httpx
import numpy as np
import pytest
from conftest import ROOT
from dicom_files import series, to_bytes, to_zip
from fakes import FakeSegmenter, by_threshold
from highdicom import Volume
from http_helpers import WAIT_S, listening, slice_png

from service.api.app import create_app
from service.settings import Settings

CLIENT = ROOT / "openapi" / "client"

sys.path.append(str(CLIENT))

from liver_tumor_segmentation_client import Client  # noqa: E402  # not installed
from liver_tumor_segmentation_client.api.health import health_ready, metrics  # noqa: E402
from liver_tumor_segmentation_client.api.models import get_model, list_models  # noqa: E402
from liver_tumor_segmentation_client.api.segment import segment  # noqa: E402
from liver_tumor_segmentation_client.api.segmentations import (  # noqa: E402
    cancel_segmentation,
    create_segmentation,
    create_segmentation_of_series,
    delete_segmentation,
    get_contours,
    get_mask_dicom,
    get_mask_png,
    get_preview,
    get_report_fhir,
    get_segmentation,
    list_segmentations,
)
from liver_tumor_segmentation_client.models import (  # noqa: E402
    CreateSegmentationFilesBody,
    MaskDocumentMediaType,
    Problem,
    ResultDocument,
    SegmentationDocument,
    SegmentationDocumentStatus,
    SegmentFilesBody,
    SeriesParameters,
)
from liver_tumor_segmentation_client.types import File  # noqa: E402


def test_committed_client_is_the_document_s(tmp_path: Path) -> None:
    """`make client` was run after the last change; it gives the same files anywhere, unwarned."""
    tools = Path(sys.executable).parent
    made = tmp_path / "client"
    generated = subprocess.run(
        [
            *(tools / "openapi-python-client", "generate", "--meta", "setup"),
            *("--path", ROOT / "openapi" / "openapi.json", "--output-path", made),
            *("--config", ROOT / "openapi" / "client.yml", "--fail-on-warning"),
        ],
        env=os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert generated.returncode == 0, generated.stdout
    assert contents(CLIENT) == contents(made), "make client"


def contents(folder: Path) -> dict[str, bytes]:
    """The text of each file that is not built from another."""
    built = re.compile(r"(.*/)?(__pycache__|build|[^/]*\.egg-info)/.*")
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not built.fullmatch(name)}


def examples() -> Iterator[object]:
    """Each example of an answer in JSON, with the module of its operation."""
    document = json.loads((ROOT / "openapi" / "openapi.json").read_text())
    for item in document["paths"].values():
        for operation in item.values():
            module = f"{Client.__module__.rpartition('.')[0]}.api.{operation['tags'][0]}"
            for status, response in operation["responses"].items():
                for described in response.get("content", {}).values():
                    for name, example in described.get("examples", {}).items():
                        value = document["components"]["examples"][
                            example["$ref"].rpartition("/")[2]
                        ]["value"]
                        made = operation["operationId"], int(status), value
                        yield pytest.param(module, *made, id=f"{made[0]}-{status}-{name}")


@pytest.mark.parametrize(("module", "operation", "status", "value"), list(examples()))
def test_every_answer_is_understood(
    module: str, operation: str, status: int, value: dict | str
) -> None:
    """An answer of any status becomes a model that holds all of it, an error a problem."""
    content = {"text": value} if isinstance(value, str) else {"json": value}
    answer = importlib.import_module(f"{module}.{operation}")._parse_response(
        client=Client("http://127.0.0.1", raise_on_unexpected_status=True),
        response=httpx.Response(status, **content),
    )
    assert isinstance(answer, Problem) == (status >= 400)
    assert same(answer if isinstance(value, str) else answer.to_dict(), value)


def same(one: object, other: object) -> bool:
    """Whether two values of JSON are equal; a time may be written in several ways."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or datetime.fromisoformat(one) == datetime.fromisoformat(other)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The client of a service on loopback."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    with (
        listening(create_app(settings, lambda _: FakeSegmenter(by_threshold))) as port,
        Client(f"http://127.0.0.1:{port}", raise_on_unexpected_status=True) as opened,
    ):
        yield opened


@pytest.fixture(scope="module")
def slices(clean_volume: Volume) -> list[bytes]:
    return [to_bytes(dataset) for dataset in series(clean_volume)]


def test_from_upload_to_deletion(client: Client, slices: list[bytes], clean_volume: Volume) -> None:
    """Everything that is done with a segmentation, each answer of its model."""
    study = File(io.BytesIO(to_zip(slices)))
    made = create_segmentation.sync_detailed(client=client, body=study, idempotency_key="a")
    assert made.status_code == HTTPStatus.CREATED
    done = made.parsed
    assert isinstance(done, SegmentationDocument)
    assert done.status is SegmentationDocumentStatus.SUCCEEDED
    assert made.headers["Location"] == done.links.self_

    listed = list_segmentations.sync(client=client, limit=1)
    assert [item.id for item in listed.items] == [done.id]
    assert listed.next_ is None
    assert cancel_segmentation.sync(done.id, client=client) == done

    mask = get_mask_dicom.sync(done.id, client=client)
    seg = highdicom.seg.segread(mask.payload)
    assert seg.number_of_segments == 1 + len(done.findings.lesions)
    found = by_threshold(np.asarray(clean_volume.array)[..., None])[..., 0]
    assert np.asarray(seg.pixel_array).sum() == (found > 0).sum() == done.findings.liver.voxels

    outlines = get_contours.sync(done.id, client=client).contours
    assert {outline.lesion_id for outline in outlines} == {
        None, *(lesion.id for lesion in done.findings.lesions),
    }  # fmt: skip
    for picture in (
        get_preview.sync(done.id, client=client),
        get_mask_png.sync(done.id, 20, client=client),
    ):
        assert picture.payload.read().startswith(b"\x89PNG")
    report = get_report_fhir.sync(done.id, client=client)
    assert report["status"] == "preliminary"

    deleted = delete_segmentation.sync_detailed(done.id, client=client)
    assert deleted.status_code == HTTPStatus.NO_CONTENT
    gone = get_segmentation.sync(done.id, client=client)
    assert isinstance(gone, Problem)
    assert (gone.status, gone.code) == (404, "not_found")


def test_files_of_a_series_in_one_form(client: Client, slices: list[bytes]) -> None:
    """A form of many files and a field; 202 at once, and the resource until it is done."""
    files = [File(io.BytesIO(data), f"{index}.dcm") for index, data in enumerate(slices)]
    form = CreateSegmentationFilesBody(files, resample=True)
    made = create_segmentation.sync_detailed(client=client, body=form, prefer="respond-async")
    assert made.status_code == HTTPStatus.ACCEPTED
    job = made.parsed
    deadline = time.monotonic() + WAIT_S
    while job.status not in ("succeeded", "failed", "cancelled"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
        job = get_segmentation.sync(job.id, client=client)
    assert job.status is SegmentationDocumentStatus.SUCCEEDED
    assert job.source.slices == len(slices)


async def _created(port_of: Client, form: CreateSegmentationFilesBody) -> object:
    async with Client(port_of._base_url) as client:
        return await create_segmentation.asyncio(client=client, body=form)


def test_from_async_code(client: Client) -> None:
    """The same by await."""
    form = CreateSegmentationFilesBody([File(io.BytesIO(slice_png()), "slice.png")])
    assert asyncio.run(_created(client, form)).status is SegmentationDocumentStatus.SUCCEEDED


def test_stateless(client: Client) -> None:
    """The whole answer at once, of an image in a form and of one as the body."""
    form = SegmentFilesBody([File(io.BytesIO(slice_png()), "slice.png")], pixel_spacing_mm=0.8)
    form.include = "mask"
    answer = segment.sync(client=client, body=form)
    assert isinstance(answer, ResultDocument)
    assert answer.source.pixel_spacing_mm == [0.8, 0.8]
    assert answer.mask.media_type is MaskDocumentMediaType.IMAGEPNG
    body = File(io.BytesIO(slice_png()))
    again = segment.sync(client=client, body=body, pixel_spacing_mm=0.8)
    assert again.findings == answer.findings


def test_the_documented_example_runs(
    client: Client, slices: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of docs/api.md, word for word."""
    [script] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/api.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("study.zip").write_bytes(to_zip(slices))
    exec(script.replace("http://127.0.0.1:8000", client._base_url), {})  # noqa: S102  # our own
    assert highdicom.seg.segread("mask.dcm").Modality == "SEG"


@pytest.mark.parametrize(
    ("content", "asked", "status", "code"),
    [
        (b"no image", {}, 415, "unknown_format"),
        (slice_png()[:60], {}, 422, "unreadable_file"),
        (slice_png(), {"window_lower_hu": 0.0}, 400, "invalid_parameter"),
        (slice_png(), {"destination": "nowhere"}, 400, "unknown_node"),
    ],
)
def test_errors_are_problems(
    client: Client, content: bytes, asked: dict, status: int, code: str
) -> None:
    """Of any status, with the code to tell them apart."""
    answer = create_segmentation.sync(client=client, body=File(io.BytesIO(content)), **asked)
    assert isinstance(answer, Problem)
    assert (answer.status, answer.code) == (status, code)
    assert answer.detail
    assert answer.request_id


def test_series_of_an_unknown_pacs(client: Client) -> None:
    """A body in JSON is understood; here there is no PACS."""
    asked = SeriesParameters(
        origin="archive", study_instance_uid="1.2.3", series_instance_uid="1.2.4"
    )
    answer = create_segmentation_of_series.sync(client=client, body=asked)
    assert isinstance(answer, Problem)
    assert answer.code == "unknown_node"


def test_models_and_health(client: Client) -> None:
    """The rest of the operations."""
    [model] = list_models.sync(client=client).models
    card = get_model.sync(model.name, client=client)
    assert card.model == model
    assert card.contract.window.lower_hu == -40
    assert health_ready.sync(client=client).model == model.name
    assert "lts_ready 1.0" in metrics.sync(client=client)
