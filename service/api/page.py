"""The page for a browser, at `/`: the files of `service/ui`, and a phantom to try it with.

They are read once, when the application is made, so that an address can name none of any other
folder, and a page never comes from two versions.
"""

import gzip
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.errors import NotFound
from service.phantom import Phantom
from service.phantom_files import ct_datasets

FOLDER = Path(__file__).parent.parent / "ui"

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
    ".zip": "application/zip",
    "": "text/plain; charset=utf-8",  # licences
}
"""Ours, and not those of the machine that serves."""

_COMPRESSED = (".png", ".woff2", ".zip")

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self' data: blob:",  # the viewer fetches volumes and its fonts from memory
    "worker-src": "'self' blob:",
    "font-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
"""What a browser may load and run for the page: nothing of another host, nothing inline."""

HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), usb=()",
    "Referrer-Policy": "no-referrer",
    # Kept, and asked for again at each load: addresses name no version, and a page that met the
    # viewer of another version would fail. The answer to that is a 304 without a body.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}

SAMPLE = "sample.zip"
SAMPLE_SEED, SAMPLE_SLICES, SAMPLE_SIZE = 7, 40, 256
"""Of the phantom: few enough slices that two cores take seconds."""


@dataclass(frozen=True)
class File:
    """A file as it is sent."""

    content: bytes
    suffix: str

    @cached_property
    def tag(self) -> str:
        """Weak, since the compressed bytes go by it too."""
        return f'W/"{hashlib.sha256(self.content).hexdigest()[:32]}"'

    @cached_property
    def compressed(self) -> bytes | None:
        """With gzip, where that helps."""
        if self.suffix in _COMPRESSED:
            return None
        return gzip.compress(self.content, 9, mtime=0)

    def answer(self, request: Request) -> Response:
        """The file, or that the browser has it."""
        headers = {**HEADERS, "ETag": self.tag}
        if _has(request, self.tag):
            return Response(status_code=304, headers=headers)
        content = self.content
        if self.compressed is not None and _takes_gzip(request):
            content = self.compressed
            headers["Content-Encoding"] = "gzip"
        headers["Content-Type"] = MEDIA_TYPES[self.suffix]
        return Response(content, headers=headers)


class Page:
    """The files by their address below `/ui/`, and the sample, which is made when first asked."""

    def __init__(self, files: dict[str, File]) -> None:
        self._files = files
        self._making = threading.Lock()

    @classmethod
    def read(cls, folder: Path = FOLDER) -> Self:
        return cls(
            {
                str(path.relative_to(folder).as_posix()): File(path.read_bytes(), path.suffix)
                for path in folder.rglob("*")
                if path.is_file() and path.suffix in MEDIA_TYPES
            }
        )

    def file(self, path: str) -> File:
        """The file of this address. Raises `NotFound`."""
        if path == SAMPLE:
            with self._making:
                return self._sample
        try:
            return self._files[path]
        except KeyError as error:
            raise NotFound("Expected a file of the page.") from error

    @cached_property
    def _sample(self) -> File:
        return File(sample_zip(), ".zip")


def router(page: Page) -> APIRouter:
    """The page's routes; no part of the API, so its document does not name them."""
    routes = APIRouter(include_in_schema=False)

    @routes.api_route("/", methods=["GET", "HEAD"])
    def index(request: Request) -> Response:
        return page.file("index.html").answer(request)

    @routes.api_route("/ui/{path:path}", methods=["GET", "HEAD"])
    def file(path: str, request: Request) -> Response:
        return page.file(path).answer(request)

    return routes


def sample_zip() -> bytes:
    """A CT series of the phantom as a zip of DICOM files, the same bytes each time."""
    volume, _ = Phantom.draw(SAMPLE_SEED).sample(SAMPLE_SLICES, SAMPLE_SIZE, SAMPLE_SEED)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index, dataset in enumerate(ct_datasets(volume, SAMPLE_SEED)):
            written = io.BytesIO()
            dataset.save_as(written, enforce_file_format=True)
            entry = zipfile.ZipInfo(f"phantom/{index:04d}.dcm")
            archive.writestr(entry, written.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=3)
    return buffer.getvalue()


def _has(request: Request, tag: str) -> bool:
    known = request.headers.get("If-None-Match", "")
    return any(item.strip() in ("*", tag) for item in known.split(","))


def _takes_gzip(request: Request) -> bool:
    return any(_allows_gzip(item) for item in _accepted(request))


def _accepted(request: Request) -> Iterable[str]:
    return ",".join(request.headers.getlist("Accept-Encoding")).lower().split(",")


def _allows_gzip(item: str) -> bool:
    """Whether one item of Accept-Encoding names gzip, and not with a weight of 0."""
    name, _, weight = item.replace(" ", "").partition(";q=")
    return name == "gzip" and (not weight or bool(weight.strip("0.")))
