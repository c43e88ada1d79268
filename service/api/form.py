"""A multipart form, parsed as it arrives: its files go to a spool, its text fields are kept."""

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import InvalidParameter, TooManyFiles
from service.spool import Spool

FILES_FIELD = "files"

_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 4096


class FormReader:
    """Fed with the body's chunks; raises `InvalidParameter` or `TooManyFiles` as soon as it can."""

    def __init__(self, boundary: bytes, spool: Spool, max_files: int) -> None:
        self._spool = spool
        self._max_files = max_files
        self._fields: list[tuple[str, bytearray]] = []
        self._disposition = b""
        self._header = b""
        self._value = b""
        self._is_file = False
        self._files = 0
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_header,
                    "on_header_value": self._add_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_data,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _malformed() from error

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the body."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed() from error

    def finish(self) -> tuple[tuple[str, str], ...]:
        """The text fields, once the body is whole."""
        if not self._ended:
            raise _malformed()
        try:
            return tuple((name, value.decode()) for name, value in self._fields)
        except UnicodeDecodeError as error:
            raise _malformed() from error

    def _begin_part(self) -> None:
        self._disposition = self._header = self._value = b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name")
        if name is None:
            raise _malformed()
        self._is_file = b"filename" in options
        if self._is_file:
            self._begin_file(name)
        elif len(self._fields) >= _MAX_FIELDS:
            raise InvalidParameter(f"Expected at most {_MAX_FIELDS} fields, found more.")
        else:
            self._fields.append((name.decode("utf-8", "replace"), bytearray()))

    def _begin_file(self, name: bytes) -> None:
        if name != FILES_FIELD.encode():
            raise InvalidParameter(f"Expected files in {FILES_FIELD}, found another field.")
        self._files += 1
        if self._files > self._max_files:
            raise TooManyFiles(f"Expected at most {self._max_files} files, found more.")
        self._spool.begin()

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._spool.write(data[start:end])
            return
        value = self._fields[-1][1]
        if len(value) + end - start > _MAX_FIELD_BYTES:
            raise InvalidParameter(f"Expected fields of at most {_MAX_FIELD_BYTES} bytes.")
        value += data[start:end]

    def _end(self) -> None:
        self._ended = True


def _malformed() -> InvalidParameter:
    return InvalidParameter("Expected a multipart form, found one that is malformed.")
