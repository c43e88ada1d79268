"""A request's body to files and fields, bounded while it arrives."""

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import (
    BadRequest,
    EmptyInput,
    InvalidParameter,
    RequestTooLarge,
    TooManyFiles,
    UnsupportedMediaType,
)
from service.settings import Settings

BODY_MEDIA_TYPES = (
    "application/dicom",
    "application/zip",
    "application/gzip",
    "application/octet-stream",
    "image/png",
    "image/jpeg",
)
"""Plain bodies; what they hold is found from the content, whichever of these they name."""

FILES_FIELD = "files"
_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 4096


@dataclass(frozen=True)
class Upload:
    """The files of one request, and the text fields beside them."""

    files: list[bytes]
    fields: tuple[tuple[str, str], ...] = ()

    def take_files(self) -> Iterator[bytes]:
        """The files, none of which is kept here: a CT's archive can be large."""
        while self.files:
            yield self.files.pop(0)


async def read_upload(request: Request, settings: Settings) -> Upload:
    """Read a multipart form or a plain body.

    Raises `UnsupportedMediaType`, `RequestTooLarge`, `TooManyFiles`, `InvalidParameter` for a form
    that cannot be parsed or has files under another name, and `EmptyInput`.
    """
    content_type, _ = parse_options_header(request.headers.get("content-type", ""))
    media_type = content_type.decode("latin-1").lower()
    if media_type == "multipart/form-data":
        upload = await _read_form(request, settings)
    elif media_type in BODY_MEDIA_TYPES:
        chunks = [chunk async for chunk in _bounded(request, settings.max_request_bytes)]
        upload = Upload([b"".join(chunks)])
    else:
        raise UnsupportedMediaType(
            f"Expected multipart/form-data or one of {', '.join(BODY_MEDIA_TYPES)}, found another "
            "Content-Type or none."
        )
    if not any(upload.files):
        raise EmptyInput("Expected image data, found none.")
    return upload


async def _bounded(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body's chunks; stops a body that is too long as soon as that is known."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise RequestTooLarge(f"Expected at most {max_bytes} bytes, found {int(declared)}.")
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_bytes:
            raise RequestTooLarge(f"Expected at most {max_bytes} bytes, found more.")
        yield chunk


async def _read_form(request: Request, settings: Settings) -> Upload:
    parser = MultiPartParser(
        request.headers,
        _form_chunks(request, settings.max_request_bytes),
        max_files=settings.max_files,
        max_fields=_MAX_FIELDS,
        max_part_size=_MAX_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise _form_error(error, settings) from error
    try:
        return await _form_content(form)
    finally:
        await form.close()


async def _form_chunks(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body's chunks, with an error that makes the parser close the files it has begun."""
    try:
        async for chunk in _bounded(request, max_bytes):
            yield chunk
    except RequestTooLarge as error:
        raise MultiPartException(str(error)) from error


def _form_error(error: MultiPartException, settings: Settings) -> BadRequest:
    if isinstance(error.__cause__, RequestTooLarge):
        return error.__cause__
    if error.message.startswith("Too many files"):
        return TooManyFiles(f"Expected at most {settings.max_files} files, found more.")
    return InvalidParameter("Expected a multipart form, found one that is malformed.")


async def _form_content(form: FormData) -> Upload:
    files, fields = [], []
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            fields.append((name, value))
        elif name == FILES_FIELD:
            files.append(await value.read())
        else:
            raise InvalidParameter(f"Expected files in {FILES_FIELD}, found another field.")
    return Upload(files, tuple(fields))
