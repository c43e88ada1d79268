"""An archive that speaks DICOMweb, as well or as badly as a test says, and a DIMSE destination."""

import io
import json
import re
import socket
import ssl
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dicom_files import to_bytes
from pydicom import Dataset, dcmread

from service.pacs.receipts import Instance

JSON = "application/dicom+json"
BOUNDARY = "a--b'(0)+_,-./:=?"  # all that RFC 2046 allows but the space


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        if self.method == "POST":
            return "store"
        tail = urlsplit(self.path).path.partition("/series/")[2]
        return ("series", "search", "one")[tail.count("/")]

    @property
    def query(self) -> dict[str, int]:
        return {name: int(value[0]) for name, value in parse_qs(urlsplit(self.path).query).items()}

    @property
    def stored(self) -> list[Dataset]:
        """The instances of a STOW request."""
        boundary = re.search(r"boundary=(\w+)", self.headers["content-type"])
        assert boundary
        pieces = self.body.split(b"--" + boundary[1].encode())
        assert pieces[0] == b""
        assert pieces[-1] == b"--\r\n"
        contents = [piece.split(b"\r\n\r\n", 1) for piece in pieces[1:-1]]
        assert all(head == b"\r\nContent-Type: application/dicom" for head, _ in contents)
        return [dcmread(io.BytesIO(data[:-2])) for _, data in contents]


Behaviour = Callable[["Handler", "Archive", Seen], None]


@dataclass
class Archive:
    """Answers well by default; `script` gives the behaviour of the next requests of one kind."""

    datasets: Sequence[Dataset]
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    _scripts: dict[str, list[Behaviour]] = field(default_factory=lambda: defaultdict(list))
    _always: dict[str, Behaviour] = field(default_factory=dict)

    def script(self, kind: str, *behaviours: Behaviour) -> None:
        self._scripts[kind] += behaviours

    def always(self, kind: str, behaviour: Behaviour) -> None:
        self._always[kind] = behaviour

    def kinds(self) -> list[str]:
        return [seen.kind for seen in self.seen]

    def behaviour(self, seen: Seen) -> Behaviour:
        if self._scripts[seen.kind]:
            return self._scripts[seen.kind].pop(0)
        return self._always.get(seen.kind, WELL[seen.kind])

    @property
    def study(self) -> str:
        return str(self.datasets[0].StudyInstanceUID)

    @property
    def series(self) -> str:
        return str(self.datasets[0].SeriesInstanceUID)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    disable_nagle_algorithm = True
    server: "Server"

    def do_GET(self) -> None:
        archive = self.server.archive
        size = int(self.headers.get("Content-Length", 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, self.path, headers, self.rfile.read(size))
        archive.seen.append(seen)
        archive.behaviour(seen)(self, archive, seen)

    do_POST = do_GET

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """`Content_Type="..."` is the header Content-Type."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = headers.get("Content_Length") == ""

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False
    archive: Archive
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the request's own thread."""
        if self.tls is None:
            return super().finish_request(request, client_address)
        request.settimeout(10)
        with self.tls.wrap_socket(request, server_side=True) as secure:
            return super().finish_request(secure, client_address)

    def handle_error(self, *args: Any) -> None:
        """The client may leave when it likes."""


@contextmanager
def running(datasets: Sequence[Dataset], certificate: Path | None = None) -> Iterator[Archive]:
    server = Server(("127.0.0.1", 0), Handler)
    server.archive = archive = Archive(datasets)
    scheme = "http" if certificate is None else "https"
    archive.url = f"{scheme}://127.0.0.1:{server.server_address[1]}/dicom-web"
    if certificate is not None:
        server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.tls.load_cert_chain(certificate)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield archive
    finally:
        archive.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def multipart(
    contents: Sequence[bytes],
    boundary: str = BOUNDARY,
    end: str = "\r\n",
    headers: str = "Content-Type: application/dicom",
    preamble: str = "",
    padding: str = "",
    closed: bool = True,
) -> bytes:
    line = end.encode()
    head = f"--{boundary}{padding}{end}{headers}{end}{end}".encode()
    body = preamble.encode() + b"".join(head + content + line for content in contents)
    return body + (f"--{boundary}--{end}".encode() if closed else b"")


def related(boundary: str = BOUNDARY) -> str:
    return f'multipart/related; type="application/dicom"; boundary="{boundary}"'


def parts_of(contents: Sequence[bytes], content_type: str = "", **how: Any) -> Behaviour:
    """Status 200 with these parts."""

    def behave(handler: Handler, _: Archive, __: Seen) -> None:
        kind = content_type or related(how.get("boundary", BOUNDARY))
        handler.reply(200, multipart(contents, **how), Content_Type=kind)

    return behave


def status(code: int, body: bytes = b"", **headers: str) -> Behaviour:
    return lambda handler, _, __: handler.reply(code, body, **headers)


def found(body: object, **headers: str) -> Behaviour:
    return status(200, json.dumps(body).encode(), Content_Type=JSON, **headers)


def reset(handler: Handler, _: Archive, __: Seen) -> None:
    """No answer at all."""
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def stall(handler: Handler, archive: Archive, _: Seen) -> None:
    """Nothing, for as long as the client waits."""
    archive.closing.wait(10)
    handler.close_connection = True


def trickle(body: bytes, **headers: str) -> Behaviour:
    """A byte now and then: each of them ends a time-out that counts from the last one."""

    def behave(handler: Handler, archive: Archive, _: Seen) -> None:
        handler.close_connection = True
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        for index in range(len(body)):
            if archive.closing.wait(0.03):
                return
            handler.wfile.write(body[index : index + 1])

    return behave


def trickle_headers(handler: Handler, archive: Archive, _: Seen) -> None:
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    for _i in range(300):
        if archive.closing.wait(0.03):
            return
        handler.wfile.write(b"y")


def cut(at: int, claimed: bool = True, **how: Any) -> Behaviour:
    """A series whose answer ends after so many bytes, with or without a length before it."""

    def behave(handler: Handler, archive: Archive, _: Seen) -> None:
        body = multipart([to_bytes(dataset) for dataset in archive.datasets], **how)
        handler.send_response(200)
        handler.send_header("Content-Type", related())
        if claimed:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:at])
        handler.close_connection = True

    return behave


def row(dataset: Dataset, **more: str) -> dict[str, object]:
    return {
        "00080018": {"vr": "UI", "Value": [dataset.SOPInstanceUID]},
        "0020000E": {"vr": "UI", "Value": [dataset.SeriesInstanceUID]},
    }


def pages(most: int, ignores_offset: bool = False, warns: bool = False) -> Behaviour:
    """A search that names at most so many instances."""

    def behave(handler: Handler, archive: Archive, seen: Seen) -> None:
        start = 0 if ignores_offset else seen.query["offset"]
        rows = [row(dataset) for dataset in archive.datasets[start:]]
        limited = rows[: min(most, seen.query["limit"])]
        more = {"Warning": "299 archive: there are more"} if warns else {}
        found(limited, **more)(handler, archive, seen)

    return behave


def _series(handler: Handler, archive: Archive, seen: Seen) -> None:
    parts_of([to_bytes(dataset) for dataset in archive.datasets])(handler, archive, seen)


def _one(handler: Handler, archive: Archive, seen: Seen) -> None:
    uid = seen.path.rsplit("/", 1)[1]
    wanted = [to_bytes(d) for d in archive.datasets if uid == d.SOPInstanceUID]
    (parts_of(wanted) if wanted else status(404))(handler, archive, seen)


def stored(
    failed: dict[str, int] | None = None, warned: dict[str, int] | None = None
) -> dict[str, Any]:
    """A STOW answer in DICOM JSON."""

    def items(reasons: dict[str, int], tag: str) -> dict[str, object]:
        return {
            "vr": "SQ",
            "Value": [
                {
                    "00081155": {"vr": "UI", "Value": [uid]},
                    tag: {"vr": "US", "Value": [reason]},
                }
                for uid, reason in reasons.items()
            ],
        }

    return {
        "00081190": {"vr": "UR", "Value": ["http://archive/studies/1"]},
        "00081198": items(failed or {}, "00081197"),
        "00081199": items(warned or {}, "00081196"),
    }


WELL: dict[str, Behaviour] = {
    "search": pages(10_000),
    "series": _series,
    "one": _one,
    "store": status(200),
}


def as_instance(dataset: Dataset, name: str = "seg") -> Instance:
    data = to_bytes(dataset)
    return Instance(
        object_name=name,
        study_instance_uid=str(dataset.StudyInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        data=lambda: data,
    )


def unused_port() -> int:
    """Nobody listens there, for the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
