"""The parts of a multipart answer (RFC 2046), as they arrive.

The parser for uploaded forms takes neither text before the first boundary nor lines that end with
LF alone, and PACS send both.
"""

from collections.abc import Iterable, Iterator

_MAX_HEADER_BYTES = 64 * 1024


class Truncated(Exception):
    """The body ended before its closing boundary, or is no multipart body."""


def parts(chunks: Iterable[bytes], boundary: bytes) -> Iterator[Iterator[bytes]]:
    """Each part's content in pieces, without its headers; a part is read before the next one.

    Raises `Truncated`, and what `chunks` raises.
    """
    body = _Body(chunks, b"\n--" + boundary)
    for _ in body.until_boundary():
        pass  # the preamble
    while not body.closes():
        body.skip_headers()
        content = body.until_boundary()
        yield content
        for _ in content:
            pass  # what nobody read


class _Body:
    def __init__(self, chunks: Iterable[bytes], boundary: bytes) -> None:
        self._chunks, self._boundary = iter(chunks), boundary
        self._buffer = bytearray(b"\n")  # so that a boundary at the very start is found

    def until_boundary(self) -> Iterator[bytes]:
        """What comes before the next boundary, without the line end that belongs to it."""
        kept = len(self._boundary)  # one more than the longest that may be part of a boundary: CR
        while (found := self._buffer.find(self._boundary)) < 0:
            if len(self._buffer) > kept:
                yield self._take(len(self._buffer) - kept)
            self._more()
        end = found - 1 if self._buffer[:found].endswith(b"\r") else found
        yield self._take(end)
        self._take(found - end + len(self._boundary))

    def closes(self) -> bool:
        """Whether the boundary just passed is the last; else the rest of its line is passed."""
        while len(self._buffer) < 2:
            self._more()
        if self._buffer.startswith(b"--"):
            return True
        self._line()
        return False

    def skip_headers(self) -> None:
        size = 0
        while line := self._line():
            size += len(line)
            if size > _MAX_HEADER_BYTES:
                raise Truncated

    def _line(self) -> bytes:
        """The next line, without its end."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _MAX_HEADER_BYTES:
                raise Truncated
            self._more()
        return self._take(end + 1).rstrip(b"\r\n")

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _more(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise Truncated
        self._buffer += chunk
