"""A request's body to files and fields, bounded in bytes and in time while it arrives."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import anyio.to_thread
from fastapi import Request
from python_multipart.multipart import parse_options_header

from service.api.form import FormReader
from service.errors import Busy, EmptyInput, RequestTooLarge, UnsupportedMediaType, UploadTimeout
from service.settings import Settings
from service.spool import Spool

BODY_MEDIA_TYPES = (
    "application/dicom",
    "application/zip",
    "application/x-tar",
    "application/gzip",
    "application/x-bzip2",
    "image/png",
    "image/jpeg",
    "image/tiff",
    "image/bmp",
    "application/octet-stream",
)
"""Plain bodies; what they hold is found from the content, whichever of these they name.

Clients that are generated from the document may take the last one for all.
"""

MAX_JSON_BYTES = 64 * 1024

_INLINE_BYTES = 256 * 1024
"""Up to this much is taken in on the event loop; more goes to a thread, since it goes to disk."""


@dataclass(frozen=True)
class Upload:
    """The files of one request, and the text fields beside them."""

    spool: Spool
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def total_bytes(self) -> int:
        return self.spool.total_bytes

    def files(self) -> Iterator[bytes]:
        """Each file's bytes, read as it is asked for."""
        return self.spool.files()


@dataclass
class Arriving:
    """How many bodies arrive now, or watchers are served; on the event loop only."""

    what: str
    count: int = 0

    def check(self, most: int) -> None:
        """Raise `Busy` where there are `most` already."""
        if self.count >= most:
            raise Busy(f"Expected at most {most} {self.what} at once, found more.")

    @contextmanager
    def one(self, most: int) -> Iterator[None]:
        """Count one more while the block runs. Raises `Busy` where there are `most` already."""
        self.check(most)
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


@asynccontextmanager
async def receive(
    request: Request, settings: Settings, arriving: Arriving
) -> AsyncIterator[Upload]:
    """Read a multipart form or a plain body; what was read is freed at the end of the block.

    Raises `UnsupportedMediaType`, `RequestTooLarge`, `TooManyFiles`, `InvalidParameter` for a form
    that cannot be parsed or has files under another name, `UploadTimeout` for a body that arrives
    too slowly, `Busy`, `StorageFull` and `EmptyInput`.
    """
    with Spool(settings.spool_folder) as spool:
        with arriving.one(settings.max_uploads):
            fields = await _into(spool, request, settings)
        if not spool.total_bytes:
            raise EmptyInput("Expected image data, found none.")
        yield Upload(spool, fields)


async def receive_json(request: Request, settings: Settings, arriving: Arriving) -> bytes:
    """A small JSON body.

    Raises `UnsupportedMediaType`, `RequestTooLarge`, `UploadTimeout` and `Busy`.
    """
    content_type, _ = parse_options_header(request.headers.get("content-type", ""))
    if content_type.lower() != b"application/json":
        raise UnsupportedMediaType("Expected application/json, found another Content-Type.")
    limited = settings.model_copy(update={"max_request_bytes": MAX_JSON_BYTES})
    with arriving.one(settings.max_uploads):
        return b"".join([chunk async for chunk in _bounded(request, limited)])


async def _into(spool: Spool, request: Request, settings: Settings) -> tuple[tuple[str, str], ...]:
    """Read the body's files into the spool; gives the text fields."""
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    media_type = content_type.decode("latin-1").lower()
    if media_type == "multipart/form-data":
        reader = FormReader(options.get(b"boundary", b""), spool, settings.max_files)
        await _feed(request, settings, reader.feed)
        return reader.finish()
    if media_type in BODY_MEDIA_TYPES:
        spool.begin()
        await _feed(request, settings, spool.write)
        return ()
    raise UnsupportedMediaType(
        f"Expected multipart/form-data or one of {', '.join(BODY_MEDIA_TYPES)}, found another "
        "Content-Type or none."
    )


async def _feed(request: Request, settings: Settings, take: Callable[[bytes], None]) -> None:
    """Hand the body on in large pieces, so that few of them need a thread."""
    waiting, size = [], 0
    async for chunk in _bounded(request, settings):
        waiting.append(chunk)
        size += len(chunk)
        if size > _INLINE_BYTES:
            await anyio.to_thread.run_sync(take, b"".join(waiting))
            waiting, size = [], 0
    if waiting:
        take(b"".join(waiting))


async def _bounded(request: Request, settings: Settings) -> AsyncIterator[bytes]:
    """The body's chunks; ends a body that is too long, or too slow, as soon as that is known."""
    max_bytes = settings.max_request_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise RequestTooLarge(f"Expected at most {max_bytes} bytes, found {int(declared)}.")
    started, received = time.monotonic(), 0
    chunks = request.stream()
    while True:
        due = started + settings.upload_grace_s + received / settings.min_upload_bytes_per_s
        try:
            async with asyncio.timeout(max(0.0, due - time.monotonic())):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise UploadTimeout(
                f"Expected {settings.min_upload_bytes_per_s} bytes a second after the first "
                f"{settings.upload_grace_s:g} s, found fewer."
            ) from error
        if chunk is None:
            return
        received += len(chunk)
        if received > max_bytes:
            raise RequestTooLarge(f"Expected at most {max_bytes} bytes, found more.")
        yield chunk
