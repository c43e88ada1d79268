"""Multipart bodies, as PACS write them."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pacs.servers import BOUNDARY, multipart

from service.pacs.multipart import Truncated, parts

CONTENTS = [b"one", b"", b"\r\n--a--b\r\r\n\n", b"\n", b"--" + BOUNDARY.encode()[:-1], b"six\r"]


def split(body: bytes, size: int = 7, boundary: str = BOUNDARY) -> list[bytes]:
    chunks = (body[start : start + size] for start in range(0, len(body), size))
    return [b"".join(part) for part in parts(chunks, boundary.encode())]


@pytest.mark.parametrize("size", [1, 2, 3, 16, 1000])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"preamble": "Not for you.\r\n"},
        {"preamble": "\r\n"},
        {"padding": " \t"},
        {"headers": "content-type:APPLICATION/DICOM\r\nContent-Length: 3\r\nMIME-Version: 1.0"},
        {"headers": "Content-Location: http://archive/a:b"},
    ],
    ids=str,
)
def test_parts(size: int, how: dict[str, str]) -> None:
    """To the byte, wherever the chunks end and whatever stands around the parts."""
    assert split(multipart(CONTENTS, **how), size) == CONTENTS


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_lines_that_end_with_lf(size: int) -> None:
    """A content that ends with CR itself would lose that; padding of DICOM is never CR."""
    assert split(multipart(CONTENTS[:5], end="\n"), size) == CONTENTS[:5]


def test_what_follows_the_last_boundary_is_not_read() -> None:
    assert split(multipart([b"one"]) + b"\r\n" + multipart([b"two"])) == [b"one"]


def test_a_closing_boundary_without_a_line_end() -> None:
    assert split(multipart([b"one"]).removesuffix(b"\r\n")) == [b"one"]


def test_no_parts() -> None:
    assert split(f"--{BOUNDARY}--".encode()) == []


def test_parts_that_nobody_reads() -> None:
    """The next one is found all the same."""
    assert [1 for _ in parts(iter([multipart(CONTENTS)]), BOUNDARY.encode())] == [1] * 6


def test_every_cut_shows() -> None:
    """Whatever is missing of a body; the parts before are whole."""
    body = multipart([b"one", b"two"])
    for end in range(len(body) - 2):
        found = []
        with pytest.raises(Truncated):
            found.extend(b"".join(part) for part in parts(iter([body[:end]]), BOUNDARY.encode()))
        assert found == [b"one", b"two"][: len(found)]


@pytest.mark.parametrize(
    "body", [b"", b"no boundary", f"--{BOUNDARY}\r\n".encode() + b"a: b\r\n" * 20_000]
)
def test_what_is_no_multipart_body(body: bytes) -> None:
    """Headers without an end are bounded."""
    with pytest.raises(Truncated):
        split(body, 1000)


@given(st.lists(st.binary(max_size=40)), st.integers(1, 50))
def test_any_parts(contents: list[bytes], size: int) -> None:
    """That do not hold the boundary."""
    assert split(multipart(contents, boundary="x y"), size, "x y") == contents


def test_memory_is_bounded() -> None:
    """A large part is passed on in pieces of about the size of the chunks."""

    def chunks() -> Iterator[bytes]:
        yield f"--{BOUNDARY}\r\n\r\n".encode()
        for _ in range(100):
            yield bytes(1000)
        yield f"\r\n--{BOUNDARY}--".encode()

    (sizes,) = ([len(piece) for piece in part] for part in parts(chunks(), BOUNDARY.encode()))
    assert sum(sizes) == 100_000
    assert max(sizes) <= 1100
