"""Series to the service: once each, until it has spoken."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dicom_files import series, to_bytes
from highdicom import Volume
from listen.harness import NOWHERE, events, nothing_happens
from pydicom import Dataset

from benchmarks.listen import Recorder, Reply, wait
from benchmarks.load import free_port
from service.errors import NoCtSeries
from service.listen import forward
from service.listen.forward import Forwarder
from service.listen.instance import Instance
from service.listen.received import Received, Series
from service.listen.tar import Tar
from service.pacs.nodes import Caller
from service.settings import Settings

CALLERS = {"SCANNER": Caller(), "SENDER": Caller(destination="archive", objects=("seg", "sr"))}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of tenths of seconds."""
    for name, seconds in {"_POLL_S": 0.02, "_FIRST_PAUSE_S": 0.05, "_LONGEST_PAUSE_S": 0.2}.items():
        monkeypatch.setattr(forward, name, seconds)


@pytest.fixture
def slices(clean_volume: Volume) -> list[Dataset]:
    return series(clean_volume)[:3]


@pytest.fixture
def received(tmp_path: Path) -> Received:
    return Received(tmp_path / "received", 0)


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


@contextmanager
def forwarding(received: Received, address: str, key: str | None = None) -> Iterator[None]:
    settings = Settings(service_url=address, service_key=key)
    forwarder = Forwarder(received, settings, CALLERS)
    forwarder.start()
    try:
        yield
    finally:
        forwarder.stop()


def whole(received: Received, slices: list[Dataset], caller: str = "SCANNER") -> Series:
    """A series that waits to be sent."""
    for dataset in slices:
        uids = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
        received.add(Instance(caller, *map(str, uids), file=(to_bytes(dataset),)))
    (closed,) = received.close_quiet(0)
    return closed


def test_what_is_posted(
    received: Received,
    recorder: Recorder,
    slices: list[Dataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tar of the files as they came, the folder's key, and no waiting for the result.

    The environment's proxy, which would have heard of no service in here, is not asked.
    """
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, NOWHERE)
    series = whole(received, slices)
    with recorder.serving() as address, forwarding(received, f"{address}/"):
        assert wait(lambda: not series.folder.exists(), 10)
    (posted,) = recorder.posted
    assert set(posted.files().values()) == {to_bytes(dataset) for dataset in slices}
    assert posted.headers["Content-Type"] == "application/x-tar"
    assert posted.headers["Idempotency-Key"] == series.key
    assert posted.headers["Prefer"] == "respond-async"
    assert posted.headers["Content-Length"] == str(posted.body.stat().st_size)
    assert posted.parameters == {"series_instance_uid": slices[0].SeriesInstanceUID}


def test_where_the_result_goes(
    received: Received, recorder: Recorder, slices: list[Dataset]
) -> None:
    """A caller with a destination names it, and the objects that go there."""
    whole(received, slices, "SENDER")
    with recorder.serving() as address, forwarding(received, address):
        assert wait(lambda: recorder.posted, 10)
    parameters = recorder.posted[0].parameters
    assert (parameters["destination"], parameters["objects"]) == ("archive", "seg,sr")


@pytest.mark.parametrize("key", ["lts_0_1", None])
def test_the_service_s_key(
    received: Received, recorder: Recorder, slices: list[Dataset], key: str | None
) -> None:
    """The key of the settings is sent; without one, none."""
    whole(received, slices)
    with recorder.serving() as address, forwarding(received, address, key):
        assert wait(lambda: recorder.posted, 10)
    assert recorder.posted[0].headers.get("X-API-Key") == key


def test_a_series_of_an_odd_uid(
    received: Received, recorder: Recorder, slices: list[Dataset]
) -> None:
    """A UID that the service would not take as a parameter is left out: there is but one series."""
    for dataset in slices:
        dataset.SeriesInstanceUID = "1.2.A"
    whole(received, slices)
    with recorder.serving() as address, forwarding(received, address):
        assert wait(lambda: recorder.posted, 10)
    assert recorder.posted[0].parameters == {}


def test_the_service_is_down_for_a_while(
    received: Received, recorder: Recorder, slices: list[Dataset], logged: io.StringIO
) -> None:
    """A series waits for the service, which the log says once, and is posted once."""
    series, port = whole(received, slices), free_port()
    with forwarding(received, f"http://127.0.0.1:{port}"):
        assert wait(lambda: series.tries >= 3, 10)
        with recorder.serving(port):
            assert wait(lambda: not series.folder.exists(), 10)
            assert nothing_happens(lambda: len(recorder.posted) > 1, 0.5)
    (line,) = events(logged, "series not taken yet")
    assert line["code"] == "service_unreachable"
    (line,) = events(logged, "series accepted")
    assert line["instances"] == 3
    assert len(line["job_id"]) == 32


@pytest.mark.parametrize("status", [200, 302, 401, 403, 404, 407, 408, 429, 500, 502, 503, 507])
def test_answers_that_say_nothing_of_the_series(
    received: Received,
    recorder: Recorder,
    slices: list[Dataset],
    logged: io.StringIO,
    status: int,
) -> None:
    """The series is sent again, with the same key and the same bytes, until there is a word."""
    series = whole(received, slices)
    recorder.replies += [Reply(status, b"<html>", "text/html")] * 2
    with recorder.serving() as address, forwarding(received, address):
        assert wait(lambda: not series.folder.exists(), 10)
    assert len(recorder.posted) == 3
    assert len({posted.headers["Idempotency-Key"] for posted in recorder.posted}) == 1
    assert len({posted.body.read_bytes() for posted in recorder.posted}) == 1
    (line,) = events(logged, "series not taken yet")
    assert line["code"] == ("no_segmentation_named" if status < 400 else f"http_{status}")


def test_refused(
    received: Received,
    recorder: Recorder,
    slices: list[Dataset],
    logged: io.StringIO,
    tmp_path: Path,
) -> None:
    """A series that the service refuses is put aside with the reason, and not sent again."""
    whole(received, slices)
    problem = {"code": "no_ct_series", "title": "Petra", "detail": "Petra"}
    recorder.replies.append(Reply(422, json.dumps(problem).encode()))
    refused = tmp_path / "received" / "refused"
    with recorder.serving() as address, forwarding(received, address):
        assert wait(lambda: list(refused.iterdir()), 10)
        assert nothing_happens(lambda: len(recorder.posted) > 1, 0.5)
    (folder,) = refused.iterdir()
    assert len(list(folder.glob("*.dcm"))) == 3
    written = json.loads((folder / "problem.json").read_bytes())
    assert written == {"status": 422, "code": "no_ct_series", "title": NoCtSeries.title}
    (line,) = events(logged, "series refused")
    assert (line["code"], line["status_code"]) == ("no_ct_series", 422)


@pytest.mark.parametrize(
    "reply",
    [
        lambda: Reply(413, b"<html>Petra</html>", "text/html"),
        lambda: Reply(400, b"<html>plain HTTP to an HTTPS port</html>", "text/html"),
        lambda: Reply(400, b'{"code": "unknown_node"}'),
        lambda: Reply(400, b'{"code": "invalid_parameter"}'),
        lambda: Reply(422, b'{"code": "something_new"}'),
    ],
)
def test_what_says_nothing_about_the_series(
    received: Received,
    recorder: Recorder,
    slices: list[Dataset],
    tmp_path: Path,
    reply: Callable[[], Reply],
) -> None:
    """A proxy's refusal, and one that a setting decides: the series waits and is sent again."""
    series = whole(received, slices)
    recorder.replies.append(reply())
    with recorder.serving() as address, forwarding(received, address):
        assert wait(lambda: len(recorder.posted) > 1, 10)
        assert wait(lambda: not series.folder.exists(), 10)
    assert list((tmp_path / "received" / "refused").iterdir()) == []


def test_a_key_that_is_known(
    received: Received, recorder: Recorder, slices: list[Dataset], tmp_path: Path
) -> None:
    """The service had the series before its caller's destination changed: it is not sent again."""
    series = whole(received, slices)
    recorder.replies.append(Reply(409, b'{"code": "idempotency_conflict"}'))
    with recorder.serving() as address, forwarding(received, address):
        assert wait(lambda: not series.folder.exists(), 10)
        assert nothing_happens(lambda: len(recorder.posted) > 1, 0.5)
    assert list((tmp_path / "received" / "refused").iterdir()) == []


@pytest.mark.parametrize("status", [409, 422, 500, 503])
def test_a_segmentation_that_failed(
    received: Received, recorder: Recorder, slices: list[Dataset], status: int
) -> None:
    """Where the service names a segmentation it has the series, however that one ended."""
    series = whole(received, slices)
    recorder.replies.append(Reply(status, b'{"code": "cancelled"}', job=True))
    with recorder.serving() as address, forwarding(received, address):
        assert wait(lambda: not series.folder.exists(), 10)
        assert nothing_happens(lambda: len(recorder.posted) > 1, 0.5)


def test_others_go_on(received: Received, recorder: Recorder, slices: list[Dataset]) -> None:
    """While one series is not taken the next ones are."""
    first = whole(received, slices[:1])
    recorder.replies += [Reply(503)] * 3
    with recorder.serving() as address, forwarding(received, address):
        assert wait(lambda: recorder.posted, 10)
        for dataset in slices:
            dataset.SeriesInstanceUID += ".1"
        second = whole(received, slices[1:])
        assert wait(lambda: not (first.folder.exists() or second.folder.exists()), 10)
    assert len({posted.headers["Idempotency-Key"] for posted in recorder.posted}) == 2


def test_a_defect_ends_nothing(
    received: Received,
    recorder: Recorder,
    slices: list[Dataset],
    logged: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that cannot be read for now is no end of the thread that sends it."""
    series, faults = whole(received, slices), iter([OSError(5, "Petra")])

    def tar(files: list[Path]) -> Tar:
        for fault in faults:
            raise fault
        return Tar(files)

    monkeypatch.setattr(forward, "Tar", tar)
    with recorder.serving() as address, forwarding(received, address):
        assert wait(lambda: not series.folder.exists(), 10)
    assert len(events(logged, "series not sent")) == 1
    assert "Petra" not in logged.getvalue()


def test_stopped(received: Received, slices: list[Dataset]) -> None:
    """After its end nothing more is begun."""
    forwarder = Forwarder(received, Settings(service_url=NOWHERE), CALLERS)
    forwarder.start()
    forwarder.stop()
    series = whole(received, slices)
    assert nothing_happens(lambda: series.tries, 0.3)


def test_tar(tmp_path: Path) -> None:
    """The archive is as long as it says, the same each time, and one that others read."""
    contents = {"a.dcm": b"", "b.dcm": bytes(511), "c.dcm": bytes(512), "d.dcm": b"x" * 3_000_000}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    archive = Tar([tmp_path / name for name in contents])
    data = b"".join(archive)
    assert len(data) == len(archive)
    assert b"".join(archive) == data
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        assert opened.getnames() == list(contents)
        files = [opened.extractfile(member) for member in opened]
        assert [file.read() for file in files if file] == list(contents.values())
    (tmp_path / "b.dcm").write_bytes(bytes(3))
    with pytest.raises(OSError, match="another length"):
        list(archive)
