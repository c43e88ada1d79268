"""Requests and answers of tests of the API."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uvicorn
from fakes import FakeSegmenter
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from service.api.app import create_app
from service.settings import Settings

ZIP = {"Content-Type": "application/zip"}
PNG = {"Content-Type": "image/png"}
WAIT_S = 30


def slice_png(level: int = 189) -> bytes:
    """Grey that the model's window turns into 108 HU, the phantom's liver, on soft tissue."""
    grey = np.full((64, 64), 60, np.uint8)
    grey[10:50, 5:45] = level
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def running(folder: Path, model: FakeSegmenter, **settings: object) -> Iterator[TestClient]:
    """A service with this model; one at a time, since a process has one engine of jobs."""
    app = create_app(Settings(data_dir=folder, **settings), lambda _: model)
    with TestClient(app) as client:
        yield client


def problem(response: object, status: int, code: str) -> dict:
    """The problem document of an answer that must be one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == code
    return response.json()


@contextmanager
def listening(application: FastAPI) -> Iterator[int]:
    """The application behind a real server on loopback; gives its port."""
    server = uvicorn.Server(
        uvicorn.Config(application, port=0, log_config=None, timeout_graceful_shutdown=5)
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


def head(port: int, content_length: int | str, path: str = "/v1/segment") -> bytes:
    """The head of a POST of a PNG, as a raw client writes it."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: image/png\r\n"
        f"Content-Length: {content_length}\r\n\r\n"
    ).encode()


def read_all(connection: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    connection.settimeout(WAIT_S)
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received
