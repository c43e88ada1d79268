"""Tar archives, read once from front to end: POSIX, GNU and those from before either.

Not with the standard library's module, which seeks by the sizes that a header claims and believes
negative ones: hostile headers have kept it busy for ever. Here a size is only ever how many bytes
to read next.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from service.decode.sniff import TAR_BLOCK_BYTES, is_tar_header
from service.errors import UnreadableFile, UnsafeArchive

_FILE_TYPES = b"0\x007"
_DIRECTORY_TYPES = b"5D"
# Hard and symbolic links, devices, directories and FIFOs: nothing follows their header.
_TYPES_WITHOUT_DATA = b"123456"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
_EXTENSIONS = (_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL)
_MULTIVOLUME, _SPARSE = b"M", b"S"

_MAX_EXTENSION_BYTES = 1 << 20
"""Of a long name or of extended attributes; a name of more is nobody's."""

_LENGTH_DIGITS = 8

_MAX_ATTRIBUTES = 1000
"""Of one extension header; a dozen are usual."""

_MAX_EXTENSIONS = 8
"""Extension headers in front of one entry; two or three are usual."""


class Stream(Protocol):
    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end."""
        ...


@dataclass(frozen=True)
class Entry:
    """One entry's header. Its `size` bytes of content come next, padded to whole blocks."""

    name: str
    kind: Literal["file", "directory", "other"]
    size: int

    @property
    def padded_size(self) -> int:
        return -(-self.size // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES


def next_entry(stream: Stream) -> Entry | None:
    """The next entry of the archive, None at its end; `stream` stands at a header.

    Links and devices are of kind `other` and without content, whatever they point to. Raises
    `UnreadableFile` for damage, `UnsafeArchive` for sparse files and parts of several volumes.
    """
    overrides: dict[str, bytes] = {}
    for _ in range(_MAX_EXTENSIONS):
        block = stream.read(TAR_BLOCK_BYTES)
        if block == bytes(TAR_BLOCK_BYTES):
            return None
        if not is_tar_header(block):
            raise UnreadableFile("Expected a whole tar archive, found a damaged one.")
        size, kind = _number(block[124:136]), block[156:157]
        if kind in _EXTENSIONS:
            overrides |= _extension(kind, _extension_content(stream, size))
        else:
            return _entry(block, kind, size, overrides)
    raise UnreadableFile(f"Expected at most {_MAX_EXTENSIONS} headers to a tar entry, found more.")


def _entry(block: bytes, kind: bytes, size: int, overrides: dict[str, bytes]) -> Entry:
    if kind in (_MULTIVOLUME, _SPARSE) or any(key.startswith("GNU.sparse") for key in overrides):
        raise UnsafeArchive("Expected whole files in the tar archive, found a sparse or split one.")
    name = overrides.get("path", _name(block))
    if "size" in overrides:
        size = _decimal(overrides["size"])
    text = name.decode("utf-8", "replace")
    if kind in _FILE_TYPES and not text.endswith("/"):  # old archives mark folders by the name
        return Entry(text, "file", size)
    is_directory = kind in _DIRECTORY_TYPES or kind in _FILE_TYPES
    return Entry(
        text,
        "directory" if is_directory else "other",
        0 if kind in _TYPES_WITHOUT_DATA else size,
    )


def _name(block: bytes) -> bytes:
    name, prefix = block[:100].split(b"\0")[0], block[345:500].split(b"\0")[0]
    # In GNU's own format, whose magic ends in a blank, other fields stand where POSIX has a prefix.
    return prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name


def _extension_content(stream: Stream, size: int) -> bytes:
    if size > _MAX_EXTENSION_BYTES:
        raise UnsafeArchive(f"Expected at most {_MAX_EXTENSION_BYTES} bytes of name, found more.")
    padded = -(-size // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES
    content = stream.read(padded)
    if len(content) < padded:
        raise UnreadableFile("Expected a whole tar archive, found it cut.")
    return content[:size]


def _extension(kind: bytes, content: bytes) -> dict[str, bytes]:
    """What an extension says about the entry that follows it."""
    match kind:
        case b"L":
            return {"path": content.split(b"\0")[0]}
        case b"x":
            return _pax(content)
        case _:  # a link's target, or attributes of the whole archive: neither is used
            return {}


def _pax(content: bytes) -> dict[str, bytes]:
    """Records of POSIX.1-2001, "length keyword=value" and a line feed; length counts itself."""
    records: dict[str, bytes] = {}
    start = 0
    for _ in range(_MAX_ATTRIBUTES + 1):
        if start == len(content):
            return records
        digits = content[start : start + _LENGTH_DIGITS].split(b" ", 1)[0]
        end = start + _decimal(digits)
        keyword, equals, value = content[start + len(digits) + 1 : end - 1].partition(b"=")
        if not equals or not start + len(digits) + 1 < end <= len(content):
            raise UnreadableFile("Expected whole tar attributes, found damaged ones.")
        records[keyword.decode("utf-8", "replace")] = value
        start = end
    raise UnsafeArchive(f"Expected at most {_MAX_ATTRIBUTES} tar attributes, found more.")


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 20:
        raise UnreadableFile("Expected a number in the tar archive, found something else.")
    return int(digits)


def _number(field: bytes) -> int:
    """Octal digits, or GNU's base 256 where the first bit is set. Raises for a negative one."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise UnreadableFile("Expected a size in the tar header, found none.")
    return int(digits or b"0", 8)
