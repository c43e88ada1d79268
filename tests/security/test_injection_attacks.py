"""Text that means something elsewhere: in names of files, in UIDs, in a patient's name, in JSON."""

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dicom_files import series, zip_of
from fastapi.testclient import TestClient
from highdicom import Volume
from http_helpers import PNG, ZIP, problem, slice_png
from pydicom import Dataset
from security.harness import app

from service.api import page
from service.logs import FIELDS

URL = "/v1/segmentations"

HOSTILE = "hostile"
"""Stands in every text that is tried, so that it is found wherever it goes."""

TEXTS = (
    f"<script>{HOSTILE}</script>",
    f'"><img src=x onerror={HOSTILE}()>',
    f"=cmd|'/c {HOSTILE}'!A0",
    f"{HOSTILE}\r\nSet-Cookie: a=b",
    f'{HOSTILE}\n{{"event": "forged", "level": "info"}}',
    f"{HOSTILE}\x1b[2J\x00\x7f",
    f"${{jndi:ldap://{HOSTILE}}}{{{{7*7}}}}%n%s",
    f"'; DROP TABLE lts_jobs; -- {HOSTILE}",
    f"../../../{HOSTILE}",
    f"{HOSTILE}\u202e\u2028",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(app(folder / "data", max_request_bytes=4_000_000)) as running:
        yield running


def check_log(logged: io.StringIO) -> None:
    """Each line is JSON of fields that are on the list, and says nothing of what was tried."""
    text = logged.getvalue()
    assert text
    assert HOSTILE not in text
    assert "forged" not in text
    for line in text.splitlines():
        assert set(json.loads(line)) <= FIELDS


def form(head: bytes, name: bytes = b"files") -> dict[str, object]:
    """A raw form of one file whose Content-Disposition goes on like this."""
    start = b'--x\r\nContent-Disposition: form-data; name="' + name + b'"' + head
    body = start + b"\r\n\r\n" + slice_png() + b"\r\n--x--\r\n"
    return {"content": body, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}


@pytest.mark.parametrize("text", TEXTS)
def test_file_names(client: TestClient, folder: Path, logged: io.StringIO, text: str) -> None:
    """A file's name is not used: no answer, log or file has anything of it."""
    before = {path.name for path in folder.iterdir()}
    for path in ("/v1/segment", URL):
        answer = client.post(path, files={"files": (text, slice_png())})
        assert answer.status_code in (200, 201)
        assert HOSTILE not in answer.text + str(answer.headers)
    assert {path.name for path in folder.iterdir()} == before
    assert not list(folder.rglob(f"*{HOSTILE}*"))
    check_log(logged)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b'; filename="../../hostile"', 200),
        (b'; filename="a\xff\xfe\x80hostile"', 200),
        (b"; filename=\"a\"; filename*=UTF-8''%2e%2e%2fhostile", 200),
        (b'; filename="a"; filename="hostile"', 200),
        (b'; filename="' + b"hostile" * 500 + b'"', 200),
        (b'; filename="' + b"hostile" * 5000 + b'"', 400),
        (b'; filename="a\r\nX-Hostile: hostile"', 200),
        (b'; filename="a"\r\n' + b"X-Hostile: hostile\r\n" * 9 + b"X: y", 400),
    ],
)
def test_heads_of_parts(client: TestClient, logged: io.StringIO, head: bytes, status: int) -> None:
    """Names that no library would write are dropped or refused, and long heads are."""
    answer = client.post("/v1/segment", **form(head))
    assert answer.status_code == status, answer.text
    assert HOSTILE not in answer.text + str(answer.headers)
    check_log(logged)


@pytest.mark.parametrize("name", [b"hostile", b"files\\", b"files[]", b"../files", b"FILES"])
def test_fields_of_files(client: TestClient, logged: io.StringIO, name: bytes) -> None:
    """Files are taken under one name only, and another is not repeated."""
    answer = client.post("/v1/segment", **form(b'; filename="a"', name))
    problem(answer, 400, "invalid_parameter")
    assert HOSTILE not in answer.text
    check_log(logged)


@pytest.fixture(scope="module")
def made(clean_volume: Volume) -> Callable[[], list[Dataset]]:
    return lambda: series(clean_volume[10:14])


UIDS = (
    "../../../hostile",
    "*",
    "1.2\\hostile",
    "1.2\r\nX: hostile",
    "1.2?hostile=#",
    "%2e%2e%2fhostile",
    "'; DROP TABLE lts_jobs; -- hostile",
    "hostile" * 100,
)


@pytest.mark.parametrize("uid", UIDS)
def test_uids(
    client: TestClient,
    folder: Path,
    logged: io.StringIO,
    made: Callable[[], list[Dataset]],
    uid: str,
) -> None:
    """UIDs that are none name no file, no header and no line of the log; the parts are there."""
    slices = made()
    for index, dataset in enumerate(slices):
        dataset.StudyInstanceUID = dataset.SeriesInstanceUID = uid
        dataset.FrameOfReferenceUID = uid
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{uid}{index}"
    before = {path.name for path in folder.iterdir()}
    answer = client.post(URL, content=zip_of(slices), headers=ZIP)
    assert answer.status_code in (201, 422), answer.text
    assert HOSTILE not in str(answer.headers)
    for link in answer.json().get("links", {}).values():
        if link is not None and not link.endswith(("/events", "/cancel")):
            part = client.get(link.replace("{slice}", "0"))
            assert part.status_code == 200, link
            assert HOSTILE not in str(part.headers)
    assert {path.name for path in folder.iterdir()} == before
    names = {path.name for path in (folder / "data").rglob("*")}
    assert not [name for name in names if HOSTILE in name or "*" in name]
    check_log(logged)


@pytest.mark.parametrize("text", TEXTS)
def test_names_of_patients(
    client: TestClient, logged: io.StringIO, made: Callable[[], list[Dataset]], text: str
) -> None:
    """Whatever a patient is called: JSON, pictures and the log name nobody, and markup is text."""
    slices = made()
    for dataset in slices:
        dataset.SpecificCharacterSet = "ISO_IR 192"
        for keyword in ("PatientName", "PatientID", "StudyDescription", "AccessionNumber"):
            setattr(dataset, keyword, text)
    answer = client.post(URL, content=zip_of(slices), headers=ZIP)
    assert answer.status_code == 201, answer.text
    assert HOSTILE not in answer.text
    links = answer.json()["links"]
    for name in ("contours", "preview", "mask_nifti"):
        assert HOSTILE.encode() not in client.get(links[name]).content
    report = client.get(links["report_fhir"])
    assert report.headers["content-type"] == "application/fhir+json"
    narrative = report.json()["text"]["div"]
    assert HOSTILE not in narrative
    assert set(re.findall(r"</?(\w+)", narrative)) <= {"div", "p", "ul", "li"}
    check_log(logged)


SINKS = (
    "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function",
    "setHTML", "DOMParser", "createContextualFragment", "srcdoc", "javascript:", "setAttribute('on",
    'setAttribute("on', "localStorage", "document.cookie", "postMessage",
)  # fmt: skip
"""By which text becomes markup or code, or goes to another page."""


def test_the_page_makes_no_markup_of_text() -> None:
    """Its own scripts have no way to do so; the policy that it is sent with forbids the rest."""
    scripts = [path for path in page.FOLDER.rglob("*.js") if "vendor" not in path.parts]
    assert len(scripts) > 10
    for path in scripts:
        text = path.read_text()
        assert not [sink for sink in SINKS if sink in text], path.name
    assert "unsafe" not in page.HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize(
    "key", ["../../hostile", "';DROP/**/TABLE/**/lts_jobs;--hostile", "*hostile", "%2e/hostile"]
)
def test_idempotency_keys(client: TestClient, folder: Path, key: str) -> None:
    """A key is compared, and never part of a file's name or of a statement."""
    answers = [
        client.post(URL, content=slice_png(), headers=PNG | {"Idempotency-Key": key})
        for _ in range(2)
    ]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert not list(folder.rglob(f"*{HOSTILE}*"))


def nested(depth: int) -> bytes:
    return b'{"origin": ' + b"[" * depth + b"]" * depth + b"}"


JSON: dict[str, bytes] = {
    "nested": nested(30_000),
    "nested objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "huge number": b'{"deadline_s": ' + b"9" * 60_000 + b"}",
    "huge exponent": b'{"deadline_s": 1e999999999}',
    "many names": b"{" + b",".join(b'"a%d":1' % index for index in range(5_000)) + b"}",
    "a name twice": b'{"origin": "a", "origin": "hostile/../x"}',
    "prototype": b'{"__proto__": {"origin": "hostile"}, "constructor": 1}',
    "surrogates": b'{"origin": "\\ud800hostile"}',
    "not UTF-8": b'{"origin": "hostile\xff\xfe"}',
    "UTF-16": '{"origin": "hostile"}'.encode("utf-16"),
    "NaN": b'{"deadline_s": NaN}',
    "a comment": b'{"origin": "a"} // hostile',
    "YAML": b"origin: !!python/object/apply:os.system [hostile]",
    "XML": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "pickle": b"cos\nsystem\n(S'hostile'\ntR.",
}


@pytest.mark.parametrize("body", JSON.values(), ids=JSON)
def test_json(client: TestClient, logged: io.StringIO, body: bytes) -> None:
    """Bodies that are made to be hard to read, or to be read as something else: 400."""
    headers = {"Content-Type": "application/json"}
    answer = client.post(f"{URL}/dicomweb", content=body, headers=headers)
    problem(answer, 400, "invalid_parameter")
    assert HOSTILE not in answer.text
    check_log(logged)
