"""Requests and answers of tests of the API."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from fakes import FakeSegmenter
from fastapi.testclient import TestClient
from PIL import Image

from service.api.app import create_app
from service.settings import Settings

ZIP = {"Content-Type": "application/zip"}
PNG = {"Content-Type": "image/png"}


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
