"""What an attacker has: raw bytes on a connection, and files that no program writes."""

import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fakes import FakeSegmenter, by_threshold
from fastapi import FastAPI
from http_helpers import WAIT_S, slice_png

from service.api.app import create_app
from service.api.protocol import BoundedProtocol
from service.settings import Settings

HOST = b"Host: 127.0.0.1\r\n"
LAST = HOST + b"Connection: close\r\n"

PNG_START = b"\x89PNG\r\n\x1a\n"


def app(folder: Path, **settings: object) -> FastAPI:
    """A service that labels by threshold."""
    chosen = Settings(data_dir=folder, **settings)
    return create_app(chosen, lambda _: FakeSegmenter(by_threshold))


@contextmanager
def serving(application: FastAPI) -> Iterator[int]:
    """The application behind the server that `serve` starts; gives its port."""
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            port=0,
            http=BoundedProtocol,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + WAIT_S
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(WAIT_S)


@dataclass(frozen=True)
class Answer:
    """One answer of a connection."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """That of a problem document; empty for another answer."""
        with suppress(ValueError, TypeError):
            return str(json.loads(self.body).get("code", ""))
        return ""


def talk(port: int, *pieces: bytes) -> list[Answer]:
    """All that the service answers on one connection until it closes it."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), WAIT_S) as connection:
        with suppress(ConnectionError):  # refused before all was sent
            for piece in pieces:
                connection.sendall(piece)
        with suppress(ConnectionError):
            while chunk := connection.recv(65536):
                received += chunk
    return list(_answers(received))


def _answers(received: bytes) -> Iterator[Answer]:
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name not in headers
            headers[name] = value
        size = int(headers.get("content-length", 0))
        yield Answer(int(first.split(" ")[1]), headers, received[:size])
        received = received[size:]


def ask(port: int, request_line: str, *headers: bytes, body: bytes = b"") -> Answer:
    """The only answer to one request."""
    head = request_line.encode("latin-1") + b" HTTP/1.1\r\n" + LAST
    lines = b"".join(line + b"\r\n" for line in headers)
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    (answer,) = talk(port, head + lines + length + b"\r\n" + body)
    return answer


def is_well(port: int) -> bool:
    """Whether the service still segments."""
    answer = ask(port, "POST /v1/segment", b"Content-Type: image/png", body=slice_png())
    return bool(json.loads(answer.body)["findings"]["liver"]["area_px"] == 1600)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png_header(width: int, height: int, bits: int = 8, interlaced: int = 0) -> bytes:
    fields = (width, height, bits, 0, 0, 0, interlaced)
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", *fields))


def png(*chunks: bytes, rows: int = 40, row_bytes: int = 60) -> bytes:
    """A PNG of these chunks, with the pixels of a black picture behind them."""
    pixels = zlib.compress(bytes(rows * (row_bytes + 1)))
    return PNG_START + b"".join(chunks) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def tiff_of(tags: dict[int, int], pixels: bytes = bytes(2400), next_at: int | None = None) -> bytes:
    """A grey TIFF of 60 x 40 pixels whose `tags` replace those of an honest one.

    Its only directory names the one at `next_at` as the next.
    """
    honest = {256: 60, 257: 40, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 40, 279: len(pixels)}
    entries = sorted((honest | tags).items())
    start = 8 + len(pixels)
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries
    )
    following = struct.pack("<I", 0 if next_at is None else next_at)
    return b"II*\0" + struct.pack("<I", start) + pixels + directory + following


ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
"""An empty item of a sequence, in DICOM."""


def sequence(group: int, element: int, content: bytes, *, open_ended: bool) -> bytes:
    """A DICOM sequence in explicit VR little endian, of a known length or with a delimiter."""
    length = 0xFFFFFFFF if open_ended else len(content)
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if open_ended else b""
    return struct.pack("<HH2sHI", group, element, b"SQ", 0, length) + content + end
