"""Series from a PACS and objects to one, through the API, with an archive that behaves and not."""

import gc
import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_files import series, zip_of
from fakes import FakeSegmenter, by_threshold
from fastapi.testclient import TestClient
from highdicom import Volume
from http_helpers import PNG, ZIP, problem, running, slice_png
from pacs.servers import Archive, found, parts_of, reset, status, stored, unused_port
from pacs.servers import running as archive_of
from pydicom import Dataset

from service.phantom_files import PHANTOM_NAME
from service.volume import Scan

URL = "/v1/segmentations"
SERIES_URL = f"{URL}/dicomweb"


@pytest.fixture(scope="module")
def datasets(clean_volume: Volume) -> list[Dataset]:
    return series(clean_volume)


@pytest.fixture
def archive(datasets: list[Dataset]) -> Iterator[Archive]:
    with archive_of(datasets) as running_archive:
        yield running_archive


@pytest.fixture
def pacs(archive: Archive, tmp_path: Path) -> Iterator[TestClient]:
    """A service that knows the archive, and a node where nobody listens."""
    file = tmp_path / "pacs.toml"
    file.write_text(f"""
        [nodes.archive]
        url = "{archive.url}"
        [nodes.down]
        ae_title = "DOWN"
        host = "127.0.0.1"
        port = {unused_port()}
        """)
    with running(
        tmp_path / "data",
        FakeSegmenter(by_threshold),
        pacs_file=file,
        pacs_timeout_s=2,
        pacs_retry_s=1,
    ) as client:
        yield client


def asked(archive: Archive, **more: object) -> dict:
    return {
        "origin": "archive",
        "study_instance_uid": archive.study,
        "series_instance_uid": archive.series,
        **more,
    }


def objects_sent(archive: Archive) -> list[Dataset]:
    return [one for seen in archive.seen if seen.kind == "store" for one in seen.stored]


def test_fetched_segmented_and_stored(pacs: TestClient, archive: Archive) -> None:
    """201 with the findings; SEG, SR and RTSTRUCT are in the archive, and a receipt for each."""
    answer = pacs.post(SERIES_URL, json=asked(archive))
    assert answer.status_code == 201, answer.text
    document = answer.json()
    assert document["source"]["series_instance_uid"] == archive.series
    assert len(document["findings"]["lesions"]) == 3
    sent = objects_sent(archive)
    assert [one.Modality for one in sent] == ["SEG", "SR", "RTSTRUCT"]
    delivery = document["delivery"]
    assert (delivery["destination"], delivery["complete"]) == ("archive", True)
    assert [one["sop_instance_uid"] for one in delivery["receipts"]] == [
        str(one.SOPInstanceUID) for one in sent
    ]
    for name, kind in (("mask_dicom", "SEG"), ("report_dicom", "SR"), ("rtstruct", "RTSTRUCT")):
        kept = pacs.get(document["links"][name]).content
        (same,) = (one for one in sent if kind == one.Modality)
        buffer = io.BytesIO()
        same.save_as(buffer, enforce_file_format=True)
        assert kept == buffer.getvalue()


def test_no_objects_go_back_where_none_are_asked_for(pacs: TestClient, archive: Archive) -> None:
    """An empty list fetches and segments, and sends nothing."""
    document = pacs.post(SERIES_URL, json=asked(archive, objects=[])).json()
    assert document["status"] == "succeeded"
    assert document["delivery"] is None
    assert objects_sent(archive) == []


def test_an_upload_with_a_destination(
    pacs: TestClient, archive: Archive, datasets: list[Dataset]
) -> None:
    """DICOM that comes with the request goes back to a PACS too."""
    query = {"destination": "archive", "objects": "seg,labelmap"}
    answer = pacs.post(URL, params=query, content=zip_of(datasets), headers=ZIP)
    assert answer.status_code == 201, answer.text
    assert answer.json()["delivery"]["complete"] is True
    assert [one.SOPClassUID for one in objects_sent(archive)] == [
        "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.66.7",
    ]


def test_an_image_cannot_be_delivered(pacs: TestClient) -> None:
    """Refused before there is a job: it has no DICOM objects."""
    answer = pacs.post(URL, params={"destination": "archive"}, content=slice_png(), headers=PNG)
    problem(answer, 422, "no_dicom_source")
    assert pacs.get(URL).json()["items"] == []


@pytest.mark.parametrize(
    ("change", "status_code", "code"),
    [
        ({"origin": "nobody"}, 400, "unknown_node"),
        ({"origin": "down"}, 400, "unknown_node"),
        ({"destination": "nobody"}, 400, "unknown_node"),
        ({"origin": "http://evil.example/"}, 400, "invalid_parameter"),
        ({"url": "http://evil.example/"}, 400, "invalid_parameter"),
        ({"series_instance_uid": "1.2/../3"}, 400, "invalid_parameter"),
        ({"series_instance_uid": ".."}, 400, "invalid_parameter"),
        ({"series_instance_uid": None}, 400, "invalid_parameter"),
        ({"objects": ["sr"]}, 400, "invalid_parameter"),
        ({"objects": ["pdf"]}, 400, "invalid_parameter"),
        ({"objects": ["seg", "seg"]}, 400, "invalid_parameter"),
        ({"resample": "perhaps"}, 400, "invalid_parameter"),
    ],
)
def test_what_is_refused_at_once(
    pacs: TestClient, archive: Archive, change: dict, status_code: int, code: str
) -> None:
    """A name that the settings do not have, an address, and fields that are wrong: no job."""
    problem(pacs.post(SERIES_URL, json=asked(archive) | change), status_code, code)
    assert pacs.get(URL).json()["items"] == []
    assert archive.seen == []


def test_the_query_is_refused(pacs: TestClient, archive: Archive) -> None:
    """A destination there would be overlooked, and the objects would go elsewhere than asked."""
    answer = pacs.post(f"{SERIES_URL}?destination=down", json=asked(archive))
    problem(answer, 400, "invalid_parameter")
    assert archive.seen == []


def test_allow_names_the_method(pacs: TestClient) -> None:
    """The address is not taken for a segmentation's."""
    assert "POST" in pacs.put(SERIES_URL).headers["allow"]


def test_the_body_is_small_json(pacs: TestClient) -> None:
    """Not a form, not a megabyte, not half of a document."""
    problem(pacs.post(SERIES_URL, data={"origin": "archive"}), 415, "unsupported_media_type")
    json_type = {"Content-Type": "application/json"}
    large = b'{"origin": "' + b"a" * 10**6 + b'"}'
    problem(pacs.post(SERIES_URL, content=large, headers=json_type), 413, "request_too_large")
    problem(pacs.post(SERIES_URL, content=b"{", headers=json_type), 400, "invalid_parameter")
    problem(pacs.post(SERIES_URL, content=b"[]", headers=json_type), 400, "invalid_parameter")


@pytest.mark.parametrize(
    ("behaviour", "status_code", "code"),
    [
        (status(401), 502, "origin_refused"),
        (status(403), 502, "origin_refused"),
        (status(503), 502, "origin_unreachable"),
        (reset, 502, "origin_unreachable"),
        (found([]), 422, "series_not_found"),
        (status(404), 422, "series_not_found"),
        (status(200, b"<html>", Content_Type="text/html"), 502, "origin_invalid"),
    ],
)
def test_an_origin_that_fails(
    pacs: TestClient, archive: Archive, behaviour: object, status_code: int, code: str
) -> None:
    """The job has failed with the code, and so says the resource."""
    archive.always("search", behaviour)
    answer = pacs.post(SERIES_URL, json=asked(archive))
    problem(answer, status_code, code)
    document = pacs.get(answer.headers["location"]).json()
    assert (document["status"], document["error"]["code"]) == ("failed", code)
    assert document["delivery"]["complete"] is None


def test_a_foreign_instance_is_named(
    pacs: TestClient, archive: Archive, datasets: list[Dataset], clean_volume: Volume
) -> None:
    """One of another series in the answer is dropped, with a warning."""
    foreign = series(clean_volume[:1], seed=5)
    archive.script("series", parts_of([*map(to_file, [*datasets, *foreign])]))
    document = pacs.post(SERIES_URL, json=asked(archive)).json()
    assert document["source"]["slices"] == len(datasets)
    assert "objects_left_out" in [one["code"] for one in document["warnings"]]


def to_file(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_a_destination_that_refuses_one_object(pacs: TestClient, archive: Archive) -> None:
    """The others are stored; the receipt names the status; the segmentation has succeeded."""

    def refuse_report(handler: object, there: Archive, seen: object) -> None:
        (report,) = (one for one in seen.stored if one.Modality == "SR")
        answer = stored({str(report.SOPInstanceUID): 0x0122})
        found(answer)(handler, there, seen)

    archive.always("store", refuse_report)
    document = pacs.post(SERIES_URL, json=asked(archive)).json()
    assert document["status"] == "succeeded"
    delivery = document["delivery"]
    assert delivery["complete"] is False
    assert [(one["object"], one["status"], one["code"]) for one in delivery["receipts"]] == [
        ("seg", "stored", None),
        ("sr", "refused", "0x0122"),
        ("rtstruct", "stored", None),
    ]


def test_a_destination_that_is_down(pacs: TestClient, archive: Archive) -> None:
    """Tried for as long as the settings say; the result is there all the same."""
    document = pacs.post(SERIES_URL, json=asked(archive, destination="down")).json()
    assert document["status"] == "succeeded"
    assert document["delivery"]["complete"] is False
    assert {one["status"] for one in document["delivery"]["receipts"]} == {"failed"}
    assert pacs.get(document["links"]["mask_dicom"]).status_code == 200


def test_a_repeat_gets_the_first_answer(pacs: TestClient, archive: Archive) -> None:
    """By its Idempotency-Key; another series under the same key is refused."""
    key = {"Idempotency-Key": "study-1"}
    first, second = (pacs.post(SERIES_URL, json=asked(archive), headers=key) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert len(objects_sent(archive)) == 3
    other = pacs.post(SERIES_URL, json=asked(archive, resample=True), headers=key)
    problem(other, 409, "idempotency_conflict")


def test_a_fetch_can_be_cancelled(pacs: TestClient, archive: Archive) -> None:
    """While the service waits to try again."""
    archive.always("search", status(503, b"", Retry_After="1"))
    headers = {"Prefer": "respond-async"}
    accepted = pacs.post(SERIES_URL, json=asked(archive), headers=headers).json()
    assert pacs.post(f"{accepted['links']['self']}/cancel").json()["status"] == "cancelled"


def test_the_log_names_no_patient(pacs: TestClient, archive: Archive, logged: io.StringIO) -> None:
    """Node, counts and codes only."""
    pacs.post(SERIES_URL, json=asked(archive))
    written = logged.getvalue()
    assert '"event": "series fetched"' in written
    assert '"node": "archive"' in written
    for word in (*PHANTOM_NAME.split("^"), "PHANTOM-1", archive.study, archive.series):
        assert word not in written


def test_deliveries_that_wait_hold_up_nobody(
    archive: Archive, datasets: list[Dataset], tmp_path: Path
) -> None:
    """A destination that is down takes no place from other work, and no turn."""
    file = tmp_path / "pacs.toml"
    file.write_text(
        f'[nodes.down]\nae_title = "DOWN"\nhost = "127.0.0.1"\nport = {unused_port()}\n'
    )
    model, held_by_others = FakeSegmenter(by_threshold), volumes_held()
    with running(tmp_path / "data", model, pacs_file=file, max_jobs=2, max_running=1) as client:
        study, waiting = zip_of(datasets), []
        for _ in range(5):
            sent = {"destination": "down"}
            headers = {**ZIP, "Prefer": "respond-async"}
            answer = client.post(URL, params=sent, content=study, headers=headers)
            assert answer.status_code == 202, answer.text
            waiting.append(answer.json()["links"]["self"])
            wait_for_stage(client, waiting[-1], "deliver")
        assert volumes_held() == held_by_others
        assert client.post(URL, content=study, headers=ZIP).status_code == 201
        for address in waiting:
            assert client.delete(address).status_code == 204


def volumes_held() -> int:
    """Scans that something still refers to."""
    gc.collect()
    return sum(isinstance(thing, Scan) for thing in gc.get_objects())


def test_a_node_that_is_gone(archive: Archive, datasets: list[Dataset], tmp_path: Path) -> None:
    """Renamed while a delivery waits: that is in the receipts, and the result stays a result."""
    file = tmp_path / "pacs.toml"
    down = f'ae_title = "DOWN"\nhost = "127.0.0.1"\nport = {unused_port()}'
    file.write_text(f"[nodes.down]\n{down}\n")
    model, folder = FakeSegmenter(by_threshold), tmp_path / "data"
    with running(folder, model, pacs_file=file) as client:
        headers = {**ZIP, "Prefer": "respond-async"}
        sent = {"destination": "down"}
        answer = client.post(URL, params=sent, content=zip_of(datasets), headers=headers)
        address = answer.json()["links"]["self"]
        wait_for_stage(client, address, "deliver")
    file.write_text(f"[nodes.renamed]\n{down}\n")
    with running(folder, model, pacs_file=file) as client:
        wait_for_stage(client, address, "done")
        document = client.get(address).json()
        assert document["status"] == "succeeded"
        assert document["delivery"]["complete"] is False
        assert {one["code"] for one in document["delivery"]["receipts"]} == {"unknown_node"}
        assert client.get(document["links"]["mask_dicom"]).status_code == 200


def wait_for_stage(client: TestClient, address: str, stage: str) -> None:
    deadline = time.monotonic() + 30
    while (found := client.get(address).json()["progress"]["stage"]) != stage:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
