"""Fetching a series from archives that answer well, oddly, late, or not at all."""

import io
import json
import logging
import socket
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from email.utils import formatdate
from pathlib import Path

import pytest
from dicom_files import to_bytes
from pacs.servers import (
    BOUNDARY,
    JSON,
    WELL,
    Archive,
    Behaviour,
    cut,
    found,
    multipart,
    pages,
    parts_of,
    related,
    reset,
    row,
    running,
    stall,
    status,
    trickle,
    trickle_headers,
    unused_port,
)
from pydicom import Dataset

from service.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidParameter,
    OriginIncomplete,
    OriginInvalid,
    OriginRefused,
    OriginUnreachable,
    RequestTooLarge,
    SeriesNotFound,
    ServiceError,
    TooManyFiles,
)
from service.pacs import dicomweb
from service.pacs.dicomweb import Fetched, fetch_series
from service.pacs.nodes import DicomwebNode
from service.phantom import Phantom
from service.phantom_files import PHANTOM_NAME, ct_datasets
from service.settings import Settings
from service.spool import Spool
from service.stopping import StopSignal

WHOLE = Fetched(instances=6)


def fetch(
    archive: Archive,
    settings: Settings,
    node: DicomwebNode | None = None,
    stop: StopSignal | None = None,
) -> tuple[Fetched, list[bytes]]:
    """What is told and what is in the spool."""
    node = node or DicomwebNode(name="archive", url=archive.url)
    with Spool() as spool:
        stop = stop or StopSignal()
        fetched = fetch_series(node, archive.study, archive.series, spool, settings, stop)
        return fetched, list(spool.files())


@pytest.fixture
def contents(datasets: list[Dataset]) -> list[bytes]:
    return [to_bytes(dataset) for dataset in datasets]


@pytest.fixture
def others(clean_volume: object) -> list[bytes]:
    """Instances of another series."""
    volume = Phantom.draw(7).sample(2, 16, noise_hu=0)[0]
    return [to_bytes(dataset) for dataset in ct_datasets(volume, seed=5)]


def test_series(archive: Archive, quick: Settings, contents: list[bytes]) -> None:
    """To the byte, as stored, by one search and one answer."""
    assert fetch(archive, quick) == (WHOLE, contents)
    assert archive.kinds() == ["search", "search", "series"]
    assert archive.seen[0].headers["accept"] == JSON
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    assert archive.seen[2].headers["accept"] == accept
    port = archive.url.split(":")[2].split("/")[0]
    assert {seen.headers["host"] for seen in archive.seen} == {f"127.0.0.1:{port}"}


@pytest.mark.parametrize(
    "behaviour",
    [
        {"boundary": "plain", "content_type": "multipart/related; boundary=plain"},
        {"content_type": f'Multipart/Related;TYPE="application/dicom";Boundary="{BOUNDARY}"'},
        {"boundary": "b", "content_type": "multipart/related; type=application/dicom; boundary=b"},
        {"preamble": "This is a multipart message.\r\n"},
        {"end": "\n"},
        {"headers": "Content-Type: application/dicom\r\nContent-Length: 1\r\nMIME-Version: 1.0"},
        {"headers": "CONTENT-TYPE: application/dicom;transfer-syntax=1.2.840.10008.1.2.1"},
    ],
    ids=str,
)
def test_multipart_as_servers_write_it(
    archive: Archive, quick: Settings, contents: list[bytes], behaviour: dict[str, str]
) -> None:
    """Quotes, case, text around the parts and further headers change nothing."""
    archive.script("series", parts_of(contents, **behaviour))
    assert fetch(archive, quick) == (WHOLE, contents)
    assert "one" not in archive.kinds()


def test_an_answer_that_ends_with_its_connection(
    archive: Archive, quick: Settings, contents: list[bytes]
) -> None:
    """As Orthanc sends it: no length, no chunks."""
    archive.script("series", cut(10**9, claimed=False))
    assert fetch(archive, quick) == (WHOLE, contents)
    assert "one" not in archive.kinds()


def chunked(handler: object, archive: Archive, seen: object) -> None:
    body = multipart([to_bytes(dataset) for dataset in archive.datasets])
    handler.send_response(200)
    handler.send_header("Content-Type", related())
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for start in range(0, len(body), 1000):
        piece = body[start : start + 1000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


def test_a_chunked_answer(archive: Archive, quick: Settings, contents: list[bytes]) -> None:
    archive.script("series", chunked)
    assert fetch(archive, quick) == (WHOLE, contents)


CUTS = {
    "in a part": cut(30_000),
    "in a part, without a length": cut(30_000, claimed=False),
    "no last boundary": cut(10**9, closed=False),
    "before the first part": cut(3),
    "no body": cut(0),
    "no answer in it": status(204),
    "no parts": parts_of([]),
}


@pytest.mark.parametrize("case", CUTS)
def test_what_an_answer_lacks_is_asked_for_alone(
    archive: Archive, quick: Settings, contents: list[bytes], case: str
) -> None:
    """A part that is cut does not count, and none comes twice."""
    archive.script("series", CUTS[case])
    fetched, files = fetch(archive, quick)
    assert fetched == WHOLE
    assert files == contents
    assert archive.kinds().count("series") == 1
    assert "one" in archive.kinds()


def test_an_instance_that_comes_cut_once(
    archive: Archive, quick: Settings, contents: list[bytes]
) -> None:
    """It is asked for again; the others are not."""
    archive.script("series", parts_of(contents[:5]))
    archive.script("one", cut(5000), reset, status(500))
    assert fetch(archive, quick) == (WHOLE, contents)
    assert archive.kinds() == ["search", "search", "series", "one", "one", "one", "one"]


@pytest.mark.parametrize("behaviour", [cut(5000), parts_of([]), status(204)])
def test_an_instance_that_never_comes_whole(
    archive: Archive, brief: Settings, contents: list[bytes], behaviour: Behaviour
) -> None:
    """The error counts, and names nothing."""
    archive.always("series", parts_of(contents[:5]))
    archive.always("one", behaviour)
    with pytest.raises(OriginIncomplete, match=r"Expected 6 instances.*received 5 "):
        fetch(archive, brief)
    assert archive.kinds().count("one") > 1


def test_an_instance_that_is_gone(archive: Archive, quick: Settings, contents: list[bytes]) -> None:
    """Named by the search and unknown afterwards: asking again would not help."""
    archive.script("series", parts_of(contents[1:]))
    archive.script("one", status(404))
    with pytest.raises(OriginIncomplete):
        fetch(archive, quick)
    assert archive.kinds().count("one") == 1


def test_other_parts_are_dropped(
    archive: Archive, quick: Settings, contents: list[bytes], others: list[bytes]
) -> None:
    """Another series, the same again (the first is kept), and what is no DICOM."""
    changed = contents[0].replace(b"Phantom", b"phantom")
    sent = [b"garbage", others[0], *contents, changed, b"", others[1], contents[3]]
    archive.script("series", parts_of(sent))
    told, files = fetch(archive, quick)
    assert files == contents
    assert told == Fetched(instances=6, foreign=2, repeated=2, unreadable=2)


def test_an_instance_that_the_search_did_not_name(
    archive: Archive, quick: Settings, contents: list[bytes]
) -> None:
    """Is kept, for a search may be limited; to drop it would leave a gap in the volume."""
    archive.always("search", pages(4, ignores_offset=True))
    assert fetch(archive, quick) == (Fetched(instances=6, unnamed=2), contents)


@pytest.mark.parametrize("most", [1, 2, 4, 6, 7])
def test_search_by_pages(
    archive: Archive, quick: Settings, contents: list[bytes], most: int
) -> None:
    """Until a page brings nothing, whatever limit the server has of its own."""
    archive.always("search", pages(most))
    assert fetch(archive, quick) == (WHOLE, contents)
    offsets = [seen.query["offset"] for seen in archive.seen if seen.kind == "search"]
    assert offsets == [*range(0, 6, most), 6]


@pytest.mark.parametrize("end", [status(204), status(400), status(404), found([])])
def test_ends_of_a_search(
    archive: Archive, quick: Settings, contents: list[bytes], end: Behaviour
) -> None:
    """As servers answer an offset beyond the last."""
    archive.script("search", pages(6), end)
    archive.script("series", cut(30_000))
    assert fetch(archive, quick) == (WHOLE, contents)


@pytest.mark.parametrize(
    "search", [pages(4, ignores_offset=True), pages(4, ignores_offset=True, warns=True)]
)
def test_a_cut_answer_to_a_limited_search(
    archive: Archive,
    quick: Settings,
    contents: list[bytes],
    search: Behaviour,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing says what is missing, so the series is asked for again."""
    monkeypatch.setattr(dicomweb, "_PAGE", 4)
    archive.always("search", search)
    archive.script("series", cut(50_000), reset)
    assert fetch(archive, quick) == (Fetched(instances=6, unnamed=2, repeated=5), contents)
    assert archive.kinds() == ["search", "search", "series", "series", "series"]


def test_rows_of_another_series(archive: Archive, quick: Settings, contents: list[bytes]) -> None:
    """Servers that ignore what they do not know name more than was asked for."""
    foreign = {"00080018": {"Value": ["1.2.3"]}, "0020000E": {"Value": ["1.2"]}}
    bare = {"00080018": {"vr": "UI", "Value": [archive.datasets[0].SOPInstanceUID]}}
    rows = [foreign, bare, *map(row, archive.datasets)]
    archive.always("search", found(rows))
    assert fetch(archive, quick) == (WHOLE, contents)


NONE = {
    "no content": ("search", status(204)),
    "an empty list": ("search", found([])),
    "an empty body": ("search", status(200, Content_Type=JSON)),
    "unknown to the search": ("search", status(404)),
    "only other series": ("search", found([{"0020000E": {"Value": ["1.2"]}}])),
    "unknown to retrieval": ("series", status(404)),
    "gone": ("series", status(410)),
}


@pytest.mark.parametrize("case", NONE)
def test_no_such_series(archive: Archive, quick: Settings, case: str) -> None:
    kind, behaviour = NONE[case]
    archive.always(kind, behaviour)
    with pytest.raises(SeriesNotFound):
        fetch(archive, quick)
    assert archive.kinds().count(kind) == 1


INVALID: dict[str, tuple[str, Behaviour]] = {
    "no JSON": ("search", status(200, b"<html>", Content_Type=JSON)),
    "deep JSON": ("search", status(200, b"[" * 100_000, Content_Type=JSON)),
    "no list": ("search", found({"error": PHANTOM_NAME})),
    "no rows": ("search", found(["1.2.3"])),
    "no UID": ("search", found([{"00080018": {"Value": ["../../../patients"]}}])),
    "no value": ("search", found([{"00080018": {"vr": "UI"}}])),
    "values that are none": ("search", found([{"00080018": {"Value": {"a": 1}}}])),
    "bad request": ("search", status(400, PHANTOM_NAME.encode())),
    "not acceptable": ("series", status(406)),
    "another type": ("series", status(200, b"{}", Content_Type=JSON)),
    "a page for people": ("series", status(200, b"<html>", Content_Type="text/html")),
    "no type": ("series", status(200, b"data")),
    "no boundary": ("series", status(200, b"data", Content_Type="multipart/related")),
    "redirect": ("series", status(302, Location="http://127.0.0.1:1/")),
    "another protocol": ("series", status(101)),
}


@pytest.mark.parametrize("case", INVALID)
def test_answers_that_the_protocol_does_not_allow(
    archive: Archive, quick: Settings, case: str
) -> None:
    """They are not asked for again."""
    kind, behaviour = INVALID[case]
    archive.always(kind, behaviour)
    with pytest.raises(OriginInvalid):
        fetch(archive, quick)
    assert archive.kinds().count(kind) == 1


def test_garbage_instead_of_instances(archive: Archive, quick: Settings) -> None:
    """In the series, and when asked for alone."""
    archive.always("series", parts_of([b"garbage"] * 6))
    archive.always("one", parts_of([bytes(1000)]))
    with pytest.raises(OriginInvalid, match="Expected DICOM"):
        fetch(archive, quick)


def test_a_search_without_an_end(
    archive: Archive, brief: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is bounded."""
    monkeypatch.setattr(dicomweb, "_PAGE_BYTES", 10_000)
    archive.always("search", status(200, b" " * 20_000, Content_Type=JSON))
    with pytest.raises(OriginInvalid, match="10000 bytes"):
        fetch(archive, brief)


@pytest.mark.parametrize("code", [401, 403, 407])
@pytest.mark.parametrize("kind", ["search", "series", "one"])
def test_refused(archive: Archive, quick: Settings, code: int, kind: str) -> None:
    """Not tried again: some lock a name after the third time."""
    archive.always("series", cut(0))
    archive.always(kind, status(code, PHANTOM_NAME.encode()))
    with pytest.raises(OriginRefused, match=str(code)):
        fetch(archive, quick)
    assert archive.kinds().count(kind) == 1


PASSING: dict[str, Behaviour] = {
    "reset": reset,
    "408": status(408),
    "429": status(429),
    "500": status(500, PHANTOM_NAME.encode()),
    "503": status(503, Retry_After="0"),
    "no number": status(503, Retry_After="soon"),
    "no answer": lambda handler, _, __: handler.wfile.write(b"\0\0\0\r\n\r\n"),
}


@pytest.mark.parametrize("case", PASSING)
@pytest.mark.parametrize("kind", ["search", "series", "one"])
def test_failures_that_pass(
    archive: Archive, quick: Settings, contents: list[bytes], kind: str, case: str
) -> None:
    """What came before them is not fetched again."""
    archive.script("series", *([cut(30_000)] if kind == "one" else []))
    archive.script(kind, PASSING[case])
    assert fetch(archive, quick) == (WHOLE, contents)
    assert len(archive.seen) < 12


@pytest.mark.parametrize("case", PASSING)
def test_failures_that_stay(archive: Archive, brief: Settings, case: str) -> None:
    archive.always("search", PASSING[case])
    with pytest.raises(OriginUnreachable):
        fetch(archive, brief)
    assert len(archive.seen) > 1


@pytest.mark.parametrize("when", ["seconds", "date"])
def test_retry_after(archive: Archive, quick: Settings, when: str) -> None:
    """Both forms are waited for."""
    asked = "1" if when == "seconds" else formatdate(time.time() + 2, usegmt=True)
    archive.script("search", status(503, Retry_After=asked))
    started = time.monotonic()
    fetch(archive, quick)
    assert 0.9 < time.monotonic() - started < 6


SLOW: dict[str, tuple[str, Behaviour]] = {
    "no answer to the search": ("search", stall),
    "no answer": ("series", stall),
    "headers that trickle": ("series", trickle_headers),
    "a list that trickles": ("search", trickle(b"[" * 400)),
    "parts that trickle": ("series", trickle(b"-" * 400, Content_Type=related())),
    "an instance that trickles": ("one", trickle(b"-" * 400, Content_Type=related())),
}


@pytest.mark.parametrize("case", SLOW)
def test_slow_servers(archive: Archive, hasty: Settings, case: str) -> None:
    """Each is given up after about the time-out, also where bytes come all the time."""
    kind, behaviour = SLOW[case]
    if kind == "one" or behaviour is not stall:
        archive.always("series", cut(0))
        archive.always("one", behaviour)
    archive.always(kind, behaviour)
    started = time.monotonic()
    with pytest.raises(OriginUnreachable):
        fetch(archive, hasty)
    assert time.monotonic() - started < 4


def test_nobody_listens(archive: Archive, brief: Settings) -> None:
    node = DicomwebNode(name="archive", url=f"http://127.0.0.1:{unused_port()}")
    started = time.monotonic()
    with pytest.raises(OriginUnreachable, match="no connection"):
        fetch(archive, brief, node)
    assert time.monotonic() - started < 1.5  # a refusal is no time-out


def test_a_host_without_an_address(
    archive: Archive, brief: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    node = DicomwebNode(name="archive", url="http://no-such-host.invalid")
    with pytest.raises(OriginUnreachable, match="no connection"):
        fetch(archive, brief, node)


STOPPED: dict[str, tuple[str, Behaviour]] = {
    "before an answer": ("search", stall),
    "while parts trickle": ("series", trickle(b"-" * 400, Content_Type=related())),
    "in a pause": ("search", status(503, Retry_After="60")),
}


@pytest.mark.parametrize("case", STOPPED)
@pytest.mark.parametrize("reason", ["stopped", "deadline"])
def test_stop(archive: Archive, case: str, reason: str) -> None:
    """Is seen within a second, whatever is waited for."""
    kind, behaviour = STOPPED[case]
    archive.always(kind, behaviour)
    stop = StopSignal(deadline_s=0.2 if reason == "deadline" else None)
    if reason == "stopped":
        threading.Timer(0.2, stop.stop, [Cancelled("enough")]).start()
    started = time.monotonic()
    with pytest.raises(Cancelled if reason == "stopped" else DeadlineExceeded):
        fetch(archive, Settings(pacs_timeout_s=30, pacs_retry_s=60), stop=stop)
    assert time.monotonic() - started < 2


@contextmanager
def silent() -> Iterator[int]:
    """A port where connections are made and nothing is said."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(10)
        yield listening.getsockname()[1]


@contextmanager
def black_hole() -> Iterator[int]:
    """A port whose queue of connections is full, so that a further one waits."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        try:
            for _ in range(3):
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(listening.getsockname())
                waiting.append(client)
            yield listening.getsockname()[1]
        finally:
            for client in waiting:
                client.close()


def test_stop_while_connecting(archive: Archive) -> None:
    """After the try to connect that is running."""
    stop = StopSignal()
    threading.Timer(0.2, stop.stop, [Cancelled("enough")]).start()
    with black_hole() as port:
        node = DicomwebNode(name="archive", url=f"http://127.0.0.1:{port}")
        started = time.monotonic()
        with pytest.raises(Cancelled):
            fetch(archive, Settings(pacs_timeout_s=30, pacs_retry_s=60), node, stop)
        assert time.monotonic() - started < 3


def test_a_connection_that_is_never_made(archive: Archive, hasty: Settings) -> None:
    with black_hole() as port:
        node = DicomwebNode(name="archive", url=f"http://127.0.0.1:{port}")
        with pytest.raises(OriginUnreachable, match="none in time"):
            fetch(archive, hasty, node)


def test_limits_in_bytes(archive: Archive, quick: Settings, contents: list[bytes]) -> None:
    """Of what is kept, over all answers, and of one answer, whatever it holds."""
    size = sum(map(len, contents))
    body = len(multipart(contents))
    assert fetch(archive, quick.model_copy(update={"max_request_bytes": body}))[0] == WHOLE
    archive.always("series", parts_of([]))
    assert fetch(archive, quick.model_copy(update={"max_request_bytes": size}))[0] == WHOLE
    with pytest.raises(RequestTooLarge):
        fetch(archive, quick.model_copy(update={"max_request_bytes": size - 1}))
    archive.always("series", parts_of([bytes(100_000)]))
    with pytest.raises(RequestTooLarge):
        fetch(archive, quick.model_copy(update={"max_request_bytes": 50_000}))


def test_limits_in_files(archive: Archive, quick: Settings, contents: list[bytes]) -> None:
    """Of what is named, and of the parts of one answer, whatever becomes of them."""
    assert fetch(archive, quick.model_copy(update={"max_files": 6}))[0] == WHOLE
    with pytest.raises(TooManyFiles):
        fetch(archive, quick.model_copy(update={"max_files": 5}))
    archive.always("search", found([row(archive.datasets[0])]))
    with pytest.raises(TooManyFiles):
        fetch(archive, quick.model_copy(update={"max_files": 5}))
    archive.always("series", parts_of([contents[0]] * 6))
    with pytest.raises(TooManyFiles):
        fetch(archive, quick.model_copy(update={"max_files": 5}))


@pytest.mark.parametrize("uid", ["", "1..2", "../1", "1/2", "1" * 65, "1.2?a"])
def test_what_is_no_uid(archive: Archive, quick: Settings, node: DicomwebNode, uid: str) -> None:
    """It would become part of the address."""
    with Spool() as spool, pytest.raises(InvalidParameter):
        fetch_series(node, archive.study, uid, spool, quick, StopSignal())
    assert not archive.seen


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_credentials(archive: Archive, quick: Settings, tmp_path: Path, kind: str) -> None:
    """With each request, as the file is when a try begins."""
    secret = tmp_path / "secret"
    secret.write_text("first\n")
    how = (
        {"username": "lts", "password_file": secret} if kind == "basic" else {"token_file": secret}
    )
    node = DicomwebNode(name="archive", url=archive.url, **how)

    def rotated(handler: object, archive: Archive, seen: object) -> None:
        secret.write_text("second")
        status(503)(handler, archive, seen)

    archive.script("series", rotated)
    fetch(archive, quick, node)
    sent = [seen.headers["authorization"] for seen in archive.seen]
    first, second = (
        f"Bearer {word}"
        if kind == "bearer"
        else "Basic " + b64encode(f"lts:{word}".encode()).decode()
        for word in ("first", "second")
    )
    assert sent == [first, first, first, second]


def test_a_secret_that_is_away(archive: Archive, brief: Settings, tmp_path: Path) -> None:
    """It may be about to be replaced, so it is looked for again."""
    secret = tmp_path / "secret"
    secret.write_text("word")
    node = DicomwebNode(name="archive", url=archive.url, token_file=secret)
    secret.unlink()
    with pytest.raises(OriginRefused, match="credentials"):
        fetch(archive, brief, node)
    assert not archive.seen


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(
    archive: Archive, quick: Settings, datasets: list[Dataset], tmp_path: Path, code: int
) -> None:
    """Nobody else sees the credentials or the study, not even on the same host."""
    secret = tmp_path / "secret"
    secret.write_text("word")
    node = DicomwebNode(name="archive", url=archive.url, token_file=secret)
    with running(datasets) as other:
        archive.always("search", status(code, Location=f"{other.url}/studies"))
        with pytest.raises(OriginInvalid, match=str(code)):
            fetch(archive, quick, node)
        assert not other.seen


def test_the_environment_is_not_asked(
    archive: Archive, quick: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for a proxy nor for credentials."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port()}")
    assert fetch(archive, quick)[0] == WHOLE
    assert all("authorization" not in seen.headers for seen in archive.seen)


def test_a_proxy_of_the_file(archive: Archive, quick: Settings) -> None:
    """Is asked for the whole address; here the archive is its own proxy."""
    proxy = archive.url.removesuffix("/dicom-web")
    node = DicomwebNode(name="archive", url="http://pacs.invalid/dicom-web", proxy=proxy)
    assert fetch(archive, quick, node)[0] == WHOLE
    assert archive.seen[0].path.startswith("http://pacs.invalid/dicom-web/studies/")


def test_connections_are_kept(archive: Archive, quick: Settings) -> None:
    """Instances one by one come over one of them."""
    peers = set()

    def noted(handler: object, archive: Archive, seen: object) -> None:
        peers.add(handler.client_address)
        WELL["one"](handler, archive, seen)

    archive.script("series", parts_of([]))
    archive.always("one", noted)
    assert fetch(archive, quick)[0] == WHOLE
    assert len(peers) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With its key, for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    path, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    about = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(path)]
    subprocess.run([*command.split(), *about, *files], check=True, capture_output=True)
    path.write_text(path.read_text() + key.read_text())
    return path


def test_tls(datasets: list[Dataset], quick: Settings, brief: Settings, certificate: Path) -> None:
    """A certificate is checked, against the authorities of the file."""
    with running(datasets, certificate) as archive:
        url = archive.url.replace("127.0.0.1", "localhost")
        node = DicomwebNode(name="archive", url=url, ca_file=certificate)
        assert fetch(archive, quick, node)[0] == WHOLE
        with pytest.raises(OriginUnreachable, match="no secure connection"):
            fetch(archive, brief, DicomwebNode(name="archive", url=url))
        with pytest.raises(OriginUnreachable, match="no secure connection"):
            fetch(archive, brief, DicomwebNode(name="a", url=archive.url, ca_file=certificate))


@pytest.mark.parametrize("phase", ["handshake", "body"])
def test_slow_tls(datasets: list[Dataset], hasty: Settings, certificate: Path, phase: str) -> None:
    """Is ended as plain HTTP is, also while the connection is being made secure."""
    with running(datasets, certificate) as archive, silent() as port:
        archive.always("search", trickle(b"[" * 400))
        url = archive.url if phase == "body" else f"https://127.0.0.1:{port}"
        node = DicomwebNode(
            name="a", url=url.replace("127.0.0.1", "localhost"), ca_file=certificate
        )
        started = time.monotonic()
        with pytest.raises(OriginUnreachable):
            fetch(archive, hasty, node)
        assert time.monotonic() - started < 4


FAILURES: dict[str, tuple[str, Behaviour, type[ServiceError]]] = {
    "refused": ("search", status(401, PHANTOM_NAME.encode()), OriginRefused),
    "invalid": ("series", status(200, PHANTOM_NAME.encode()), OriginInvalid),
    "unreachable": ("series", status(500, PHANTOM_NAME.encode()), OriginUnreachable),
    "incomplete": ("one", cut(5000), OriginIncomplete),
    "not found": ("series", status(404, PHANTOM_NAME.encode()), SeriesNotFound),
}


@pytest.mark.parametrize("case", [None, *FAILURES])
def test_log_and_errors_hold_no_patient_data(
    archive: Archive, logged: io.StringIO, case: str | None
) -> None:
    """One line with the node, what came, and how it ended; no UID, neither in an error."""
    kind, behaviour, error = FAILURES[case] if case else ("", status(200), None)
    archive.always("series", cut(50_000))
    archive.always(kind, behaviour)
    message = ""
    with nullcontext() if error is None else pytest.raises(error) as caught:
        fetch(archive, Settings(pacs_timeout_s=1, pacs_retry_s=0))
    if error is not None:
        message = str(caught.value)
    (line,) = logged.getvalue().splitlines()
    event = json.loads(line)
    assert event["node"] == "archive"
    assert event.get("code") == (error.code if error else None)
    assert event["seconds"] >= 0
    assert event["instances"] == (6 if case is None else event["instances"])
    for secret in (PHANTOM_NAME, "PHANTOM-1", archive.study, archive.series, "127.0.0.1"):
        assert secret not in message + line


@pytest.mark.parametrize("case", FAILURES)
def test_libraries_are_told_no_patient_data(
    archive: Archive, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    """Whatever they write to their own logs, which nobody hears."""
    caplog.set_level(logging.DEBUG)
    kind, behaviour, error = FAILURES[case]
    archive.always("series", cut(50_000))
    archive.always(kind, behaviour)
    with pytest.raises(error):
        fetch(archive, Settings(pacs_timeout_s=1, pacs_retry_s=0))
    assert caplog.text
    for word in (PHANTOM_NAME, "PHANTOM-1"):
        assert word not in caplog.text
