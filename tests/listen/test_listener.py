"""From C-STORE to a segmentation: the parts of the listener together."""

import io
import json
import urllib.request
from copy import deepcopy
from pathlib import Path

import pytest
from dicom_files import series
from fakes import FakeSegmenter, by_threshold
from highdicom import Volume
from http_helpers import listening as serving
from listen.harness import (
    ask,
    association,
    events,
    kept,
    listening,
    nothing_happens,
    raw_request,
    send,
)
from pydicom import Dataset
from pynetdicom.dsutils import encode

from benchmarks.listen import CALLER, Recorder, associate, store, wait
from service.api.app import create_app
from service.errors import RequestTooLarge
from service.phantom import Phantom
from service.phantom_files import PHANTOM_NAME
from service.settings import Settings


@pytest.fixture
def slices(clean_volume: Volume) -> list[Dataset]:
    return series(clean_volume)


def uids(slices: list[Dataset]) -> list[str]:
    return sorted(str(dataset.SOPInstanceUID) for dataset in slices)


def test_a_series_is_posted_once(
    tmp_path: Path, slices: list[Dataset], logged: io.StringIO
) -> None:
    """After the quiet period all instances of a series are in one POST, and nothing is left."""
    recorder = Recorder(tmp_path)
    with recorder.serving() as address, listening(tmp_path / "data", address) as port:
        for part in (slices[:12], slices[12:24], slices[24:]):  # over an association each
            assert set(send(port, *part)) == {0}
        assert wait(lambda: recorder.posted, 10)
        assert nothing_happens(lambda: len(recorder.posted) > 1)
    assert sorted(recorder.posted[0].uids) == uids(slices)
    assert kept(tmp_path / "data") == []
    assert events(logged, "series whole")[0]["instances"] == len(slices)


def test_late_instances(tmp_path: Path, slices: list[Dataset], logged: io.StringIO) -> None:
    """What comes once the service has a series is a second POST of only that."""
    recorder = Recorder(tmp_path)
    with recorder.serving() as address, listening(tmp_path / "data", address) as port:
        with association(port, *slices) as made:
            assert [store(made, dataset) for dataset in slices[:20]] == [0] * 20
            assert wait(lambda: events(logged, "series accepted"), 10)
            assert [store(made, dataset) for dataset in slices[20:]] == [0] * 16
        assert wait(lambda: len(recorder.posted) == 2, 10)
    assert [sorted(posted.uids) for posted in recorder.posted] == [
        uids(slices[:20]),
        uids(slices[20:]),
    ]
    assert len({posted.headers["Idempotency-Key"] for posted in recorder.posted}) == 2
    (line,) = events(logged, "more of a series that was whole")
    assert (line["code"], line["caller"]) == ("late_instances", CALLER)


def test_nothing_is_posted_before_a_series_is_whole(tmp_path: Path, slices: list[Dataset]) -> None:
    """A listener that ends leaves an open series for the next one, with what came since."""
    recorder = Recorder(tmp_path)
    with recorder.serving() as address:
        with listening(tmp_path / "data", address, listen_quiet_s=60) as port:
            send(port, *slices[:20])
        assert len(kept(tmp_path / "data")) == 20
        with listening(tmp_path / "data", address) as port:
            send(port, *slices[20:])
            assert wait(lambda: recorder.posted and not kept(tmp_path / "data"), 10)
    assert [sorted(posted.uids) for posted in recorder.posted] == [uids(slices)]


def test_through_the_real_service(
    tmp_path: Path, slices: list[Dataset], phantom: Phantom, logged: io.StringIO
) -> None:
    """The service makes a segmentation of what was sent, and it has the phantom's volumes."""
    model = FakeSegmenter(by_threshold)
    with serving(create_app(Settings(data_dir=tmp_path), lambda _: model)) as service:
        address = f"http://127.0.0.1:{service}"
        with listening(tmp_path, address) as port:  # in the service's own data folder
            assert send(port, *slices) == [0] * len(slices)
            assert wait(lambda: events(logged, "series accepted"), 20)
        (accepted,) = events(logged, "series accepted")
        url = f"{address}/v1/segmentations/{accepted['job_id']}"
        assert wait(lambda: answer(url)["status"] not in ("queued", "running"), 20)
        (job,) = answer(f"{address}/v1/segmentations")["items"]
        found = answer(url)
    assert job["id"] == accepted["job_id"]
    assert found["source"]["slices"] == len(slices)
    assert found["findings"]["liver"]["volume_ml"] == pytest.approx(phantom.liver_ml, rel=0.02)
    assert found["findings"]["tumor"]["volume_ml"] == pytest.approx(phantom.tumor_ml, rel=0.06)


def test_refused_by_the_real_service(
    tmp_path: Path, slices: list[Dataset], logged: io.StringIO
) -> None:
    """A series that is too large for the service is refused, although it has not read all of it."""
    model = FakeSegmenter(by_threshold)
    settings = Settings(data_dir=tmp_path, max_request_bytes=100_000)
    with (
        serving(create_app(settings, lambda _: model)) as service,
        listening(tmp_path, f"http://127.0.0.1:{service}") as port,
    ):
        assert send(port, *slices) == [0] * len(slices)
        assert wait(lambda: events(logged, "series refused"), 20)
    (line,) = events(logged, "series refused")
    assert (line["code"], line["status_code"]) == (RequestTooLarge.code, 413)
    assert not events(logged, "series not taken yet")


def test_nothing_of_a_patient_in_the_log(
    tmp_path: Path, slices: list[Dataset], logged: io.StringIO
) -> None:
    """Whatever happens to a series, the log has no name, no id and no UID of it."""
    recorder = Recorder(tmp_path)
    other = deepcopy(slices[0])
    other.PatientName = f"{PHANTOM_NAME}^Other"
    with recorder.serving() as address, listening(tmp_path / "data", address) as port:
        assert send(port, slices[0], other, *slices[1:])[:2] == [0, 0xB000]
        assert associate(port, [], caller="STRANGER") is None
        with association(port, slices[0]) as made:
            damaged = encode(slices[0], False, True)[:150]
            assert ask(made, raw_request(slices[0], damaged)) >= 0xA900
        assert wait(lambda: events(logged, "series accepted"), 10)
    text = logged.getvalue()
    hidden = [PHANTOM_NAME, "Petra", "PHANTOM-1", slices[0].StudyInstanceUID, "1.2.826"]
    for word in (*hidden, slices[0].SeriesInstanceUID, *uids(slices)):
        assert word not in text


def answer(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=20) as response:
        return json.loads(response.read())
