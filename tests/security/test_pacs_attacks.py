"""Requests that would have the service call elsewhere, and a PACS whose answers try the same."""

import copy
from collections.abc import Iterator

import pytest
from dicom_files import series, to_bytes, zip_of
from fakes import FakeSegmenter, by_threshold
from fastapi.testclient import TestClient
from highdicom import Volume
from http_helpers import ZIP, problem, running
from pacs.servers import Archive, Behaviour, found, multipart, related, status
from pacs.servers import running as archive_of
from pydicom import Dataset

URL = "/v1/segmentations"
SERIES_URL = f"{URL}/dicomweb"

ELSEWHERE = "http://elsewhere.example"


@pytest.fixture(scope="module")
def datasets(clean_volume: Volume) -> list[Dataset]:
    return series(clean_volume[10:14])


@pytest.fixture(scope="module")
def other(datasets: list[Dataset]) -> Iterator[Archive]:
    """A host that no setting names."""
    with archive_of(datasets) as archive:
        yield archive


@pytest.fixture(scope="module")
def named(datasets: list[Dataset]) -> Iterator[Archive]:
    with archive_of(datasets) as archive:
        yield archive


@pytest.fixture(scope="module")
def client(named: Archive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service that knows one of the two, with a secret for it."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "token").write_text("secret-of-the-archive")
    (folder / "pacs.toml").write_text(
        f'[nodes.archive]\nurl = "{named.url}"\ntoken_file = "{folder / "token"}"\n'
    )
    model = FakeSegmenter(by_threshold)
    options = {"pacs_file": folder / "pacs.toml", "pacs_timeout_s": 2, "pacs_retry_s": 0}
    with running(folder / "data", model, **options) as client:
        yield client


@pytest.fixture
def archive(named: Archive, other: Archive) -> Archive:
    """The archive as if it were new."""
    for each in (named, other):
        each.seen.clear()
        each._scripts.clear()
        each._always.clear()
    return named


def asked(archive: Archive, **more: object) -> dict[str, object]:
    return {
        "origin": "archive",
        "study_instance_uid": archive.study,
        "series_instance_uid": archive.series,
        **more,
    }


@pytest.mark.parametrize(
    "name",
    [
        "http://127.0.0.1:9/",
        "file:///etc/passwd",
        "//elsewhere.example/x",
        "archive@elsewhere.example",
        "archive/../../x",
        "archive\r\nHost: elsewhere.example",
        "archive\n",
        "archive%0a",
        "archive?x=y",
        "archive#",
        "\\\\elsewhere\\x",
        "169.254.169.254",
        "localhost",
        "a" * 65,
        "",
        " archive",
        "ARCHIVE\u0131",
    ],
)
def test_nodes_by_address(client: TestClient, archive: Archive, name: str) -> None:
    """A request names a node of the operator's file, letter by letter, or is refused: no call."""
    for field in ("origin", "destination"):
        answer = client.post(SERIES_URL, json=asked(archive, **{field: name}))
        assert answer.json()["code"] in ("invalid_parameter", "unknown_node")
        assert answer.status_code == 400
    assert archive.seen == []


@pytest.mark.parametrize("field", ["url", "host", "bulk_data_uri", "retrieve_url", "callback"])
def test_fields_for_addresses(client: TestClient, archive: Archive, field: str) -> None:
    """There are none."""
    answer = client.post(SERIES_URL, json=asked(archive, **{field: ELSEWHERE}))
    problem(answer, 400, "invalid_parameter")
    assert archive.seen == []


@pytest.mark.parametrize("name", ["study_instance_uid", "series_instance_uid"])
@pytest.mark.parametrize(
    "uid", ["1/../2", "..", "1%2f2", "1?x=y", "1#", "1\r\nX: y", "1\n", "*", "1 "]
)
def test_addresses_by_uid(client: TestClient, archive: Archive, name: str, uid: str) -> None:
    """A UID becomes part of an address only where it is one."""
    problem(client.post(SERIES_URL, json=asked(archive, **{name: uid})), 400, "invalid_parameter")
    assert archive.seen == []


def pointing_to(other: Archive) -> Behaviour:
    """A search whose rows say where else everything is."""

    def behave(handler: object, archive: Archive, seen: object) -> None:
        elsewhere = f"{other.url}/studies/1/series/2"
        rows = [
            {
                "00080018": {"vr": "UI", "Value": [dataset.SOPInstanceUID]},
                "0020000E": {"vr": "UI", "Value": [dataset.SeriesInstanceUID]},
                "00081190": {"vr": "UR", "Value": [elsewhere]},
                "7FE00010": {"vr": "OW", "BulkDataURI": f"{elsewhere}/bulk"},
                "0008114A": {"vr": "SQ", "BulkDataURI": "file:///etc/passwd"},
            }
            for dataset in archive.datasets
        ]
        found(rows, Link=f"<{elsewhere}>; rel=next", Content_Location=elsewhere)(
            handler, archive, seen
        )

    return behave


def test_addresses_in_an_answer(client: TestClient, archive: Archive, other: Archive) -> None:
    """BulkDataURI, RetrieveURL, Link and Content-Location of a PACS are never followed."""
    archive.always("search", pointing_to(other))
    body = multipart(
        [to_bytes(dataset) for dataset in archive.datasets],
        headers=f"Content-Type: application/dicom\r\nContent-Location: {other.url}/x",
    )
    archive.always("series", status(200, body, Content_Type=related(), Location=other.url))
    answer = client.post(SERIES_URL, json=asked(archive, objects=[]))
    assert answer.status_code == 201, answer.text
    assert other.seen == []


@pytest.mark.parametrize("kind", ["search", "series", "store"])
@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_redirects(
    client: TestClient, archive: Archive, other: Archive, kind: str, code: int
) -> None:
    """Of whatever request: nobody else is asked, and nobody else hears the token."""
    archive.always(kind, status(code, Location=f"{other.url}/studies/1"))
    answer = client.post(SERIES_URL, json=asked(archive))
    if kind == "store":
        assert answer.json()["delivery"]["complete"] is False
    else:
        problem(answer, 502, "origin_invalid")
    assert other.seen == []
    assert "secret-of-the-archive" not in answer.text
    assert {seen.headers["authorization"] for seen in archive.seen} == {
        "Bearer secret-of-the-archive"
    }


@pytest.mark.parametrize(
    "uid", ["../../../admin", "..", "1?x=y", "1#x", "1/series/2", "%2e%2e/x", "@elsewhere"]
)
def test_deliveries_to_another_place(
    client: TestClient, archive: Archive, datasets: list[Dataset], uid: str
) -> None:
    """The study of an upload decides no address: objects of an odd one go to `/studies`."""
    changed = copy.deepcopy(datasets)
    for dataset in changed:
        dataset.StudyInstanceUID = uid
    query = {"destination": "archive", "objects": "seg"}
    answer = client.post(URL, params=query, content=zip_of(changed), headers=ZIP)
    assert answer.status_code == 201, answer.text
    assert answer.json()["delivery"]["complete"] is True
    (seen,) = archive.seen
    assert seen.path == "/dicom-web/studies"


LAUGHS = "".join(f'<!ENTITY l{index} "{f"&l{index - 1};" * 10}">' for index in range(1, 10))

XML: dict[str, str] = {
    "billion laughs": f'<!DOCTYPE a [<!ENTITY l0 "{"ha" * 100}">{LAUGHS}]><a>&l9;</a>',
    "a large entity, often": f'<!DOCTYPE a [<!ENTITY b "{"x" * 10**6}">]><a>{"&b;" * 10**4}</a>',
    "external entity": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "external entity by HTTP": '<!DOCTYPE a [<!ENTITY b SYSTEM "%s/x">]><a>&b;</a>',
    "external document type": '<!DOCTYPE a SYSTEM "%s/x.dtd"><a/>',
    "parameter entity": '<!DOCTYPE a [<!ENTITY %% b SYSTEM "%s/x"> %%b;]><a/>',
    "nested elements": "<a>" * 100_000 + "</a>" * 100_000,
}


@pytest.mark.parametrize("name", XML)
def test_xml_of_a_destination(
    client: TestClient, archive: Archive, other: Archive, datasets: list[Dataset], name: str
) -> None:
    """What a destination answers in XML expands to nothing large, and fetches nothing."""
    text = XML[name] % other.url if "%s" in XML[name] else XML[name]
    body = ('<?xml version="1.0"?>' + text).encode()
    archive.always("store", status(200, body, Content_Type="application/dicom+xml"))
    query = {"destination": "archive", "objects": "seg"}
    answer = client.post(URL, params=query, content=zip_of(datasets), headers=ZIP)
    assert answer.status_code == 201, answer.text
    assert [one["status"] for one in answer.json()["delivery"]["receipts"]] == ["stored"]
    assert "root:" not in answer.text
    assert other.seen == []


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000 + b"]" * 100_000, b'[{"00080018": {"Value": [' + b"9" * 100_000 + b"]}}]"],
)
def test_json_of_an_origin(client: TestClient, archive: Archive, body: bytes) -> None:
    """Deep nesting and endless numbers are an invalid answer, not a defect."""
    archive.always("search", status(200, body, Content_Type="application/dicom+json"))
    problem(client.post(SERIES_URL, json=asked(archive)), 502, "origin_invalid")


def test_secrets_are_not_shown(client: TestClient, archive: Archive) -> None:
    """A PACS that repeats what it was sent tells it to nobody else."""

    def repeats(handler: object, _: Archive, seen: object) -> None:
        text = str(seen.headers).encode()
        handler.reply(403, text, Content_Type="application/json", Warning=text[:500].decode())

    archive.always("search", repeats)
    answer = client.post(SERIES_URL, json=asked(archive))
    problem(answer, 502, "origin_refused")
    assert "secret-of-the-archive" not in answer.text + str(answer.headers)
