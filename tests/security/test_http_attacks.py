"""Attacks on HTTP itself, byte by byte against the server that `serve` starts."""

import json
import socket
import time
from contextlib import ExitStack

import pytest
from http_helpers import WAIT_S, slice_png
from security.harness import HOST, LAST, ask, is_well, talk

SMUGGLED = b"DELETE /v1/segmentations/smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /v1/segment HTTP/1.1\r\nContent-Type: image/png\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + END,
        POST + b"Content-Length: 5\r\nTransfer-Encoding:\tchunked\r\n\r\n" + END,
        POST + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\n",
        POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
        POST + b"Content-Length: +5\r\n\r\nabcde",
        POST + b"Content-Length: 5, 5\r\n\r\nabcde",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n" + END,
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + END,
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + END,
        POST + b"Transfer-Encoding : chunked\r\n\r\n" + END,
        POST + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n" + END,
        POST + b"X: a\rTransfer-Encoding: chunked\r\n\r\n" + END,
        POST + b"X: a\nTransfer-Encoding: chunked\r\n\r\n" + END,
        POST + b"X: a\0b\r\n\r\n",
        POST.replace(b"\r\n", b"\n") + b"\n",
        CHUNKED + b"-5\r\nabcde\r\n" + END,
        CHUNKED + b"0x5\r\nabcde\r\n" + END,
        CHUNKED + b"5 \r\nabcde\r\n" + END,
        CHUNKED + b"5\nabcde\n0\n\n",
        CHUNKED + b"5;a\nb\r\nabcde\r\n" + END,
        CHUNKED + b"2\r\nabcde\r\n" + END,
        CHUNKED + b"1fffffffffffffffff\r\nabcde\r\n" + END,
    ],
)
def test_smuggled_requests(port: int, head: bytes) -> None:
    """Where one request ends and the next begins is never a matter of opinion: 400, and closed."""
    (answer,) = talk(port, head + SMUGGLED)
    assert (answer.status, answer.code) == (400, "malformed_request")
    assert answer.headers["connection"] == "close"


def test_a_body_is_no_request(port: int) -> None:
    """A request inside the body of a GET is a body."""
    head = b"GET /health/live HTTP/1.1\r\n" + LAST + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)
    (answer,) = talk(port, head + SMUGGLED)
    assert answer.status == 200


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.0"])
def test_upgrades(port: int, upgrade: bytes) -> None:
    """No other protocol begins, and what follows the request is not taken for one."""
    head = b"GET /health/live HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: "
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    answers = talk(port, head + upgrade + b"\r\n" + key + LAST + b"\r\n" + SMUGGLED)
    assert [answer.status for answer in answers] in ([200], [403])


def test_many_requests_at_once_on_one_connection(port: int) -> None:
    """Requests that do not wait for their answers are answered one by one, in order."""
    request = b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n"
    last = b"GET /v1/nothing HTTP/1.1\r\n" + LAST + b"\r\n"
    answers = talk(port, request * 200 + last)
    assert [answer.status for answer in answers] == [200] * 200 + [404]


@pytest.mark.parametrize("method", ["FOO", "PRI", "get", "A" * 5000])
def test_methods_that_are_none(port: int, method: str) -> None:
    """They never reach a route, nor a label of a metric."""
    answer = ask(port, f"{method} /health/live")
    assert (answer.status, answer.code) == (400, "malformed_request")


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "PUT", "PATCH", "LOCK"])
def test_methods_of_no_route(port: int, method: str) -> None:
    """They are refused, and no header of theirs comes back."""
    answer = ask(port, f"{method} /v1/segmentations", b"Cookie: secret", b"X-Secret: secret")
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    "name", [b"X-HTTP-Method-Override", b"X-HTTP-Method", b"X-Method-Override"]
)
def test_method_override(port: int, name: bytes) -> None:
    """A header does not turn a GET into a DELETE, nor a parameter."""
    answer = ask(port, "GET /v1/segmentations?_method=DELETE", name + b": DELETE")
    assert answer.status == 200
    assert json.loads(answer.body)["items"] == []


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br", b"gzip, gzip", b"x" * 1000])
def test_encoded_bodies(port: int, encoding: bytes) -> None:
    """Content-Encoding is not undone: a body has the bytes that came, so none grows unseen."""
    headers = b"Content-Type: image/png", b"Content-Encoding: " + encoding
    answer = ask(port, "POST /v1/segment", *headers, body=slice_png())
    assert answer.status == 200


def test_ranges(port: int) -> None:
    """They are not taken: thousands of them cost no more than none, and change nothing."""
    whole = ask(port, "GET /ui/app.js")
    for ranges in (b"0-,0-" + b",0-1" * 9000, b"-99999999999999999999", b"5-2", b"0-0"):
        answer = ask(port, "GET /ui/app.js", b"Range: bytes=" + ranges)
        assert (answer.status, answer.body) == (200, whole.body)


def test_expectations(port: int) -> None:
    """A body that is too long is refused before it is asked for, whatever its client expects."""
    head = POST + b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
    (answer,) = talk(port, head)
    assert (answer.status, answer.code) == (413, "request_too_large")
    answer = ask(port, "GET /health/live", b"Expect: 200-maybe")
    assert answer.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/a%0d%0aSet-Cookie:%20a=b",
        "/v1/segmentations/a%0a%0d%0a<script>",
        "/v1/segmentations?offset=%0d%0aX:%20y",
        "//evil.example/%2e%2e/%0d%0aLocation:%20//evil.example",
        "/v1/segmentations/%e5%98%8a%e5%98%8dX:%20y",
    ],
)
def test_split_answers(port: int, path: str) -> None:
    """What a request says never becomes a header of its answer, nor an address to go to."""
    answer = ask(port, f"GET {path}")
    assert answer.status in (400, 404)
    assert not answer.headers.keys() & {"set-cookie", "location", "x"}
    assert b"script" not in answer.body
    assert b"evil" not in answer.body


@pytest.mark.parametrize(
    "path",
    [
        "/v1/segmentations/hostile'; DROP TABLE lts_jobs; --",
        "/v1/segmentations/..%2f..%2fhostile",
        "/v1/segmentations/%00hostile",
        "/v1/segmentations/hostile*/mask.dcm",
        "/v1/segmentations/..%5c..%5chostile/events",
        "/v1/segmentations/../../hostile/mask.nii.gz",
        "/v1/models/..%2fhostile",
        "/v1/models/hostile%0a",
        "/ui/..%2fhostile",
        "/ui/hostile%00.js",
        "/ui/%252e%252e%252fhostile",
        "/ui/....//....//hostile",
        "/ui/%c0%ae%c0%ae/hostile",
        "/ui//etc/hostile",
        "/%2e%2e/%2e%2e/hostile",
        "/ui/\\..\\hostile",
    ],
)
def test_addresses(port: int, path: str) -> None:
    """Nothing is at an address that tries to leave its place, and it is not repeated."""
    answer = ask(port, f"GET {path.replace(' ', '%20')}")
    assert (answer.status, answer.code) in ((404, "not_found"), (400, "malformed_request"))
    assert b"hostile" not in answer.body


@pytest.mark.parametrize(
    "given", [b"a b", b"a;b", b"<a>", b'a"b', b"a\xffb", b"a" * 65, b"a\tb", b"{a}"]
)
def test_request_ids(port: int, given: bytes) -> None:
    """Only plain ids are taken over, to the answer and to the log."""
    answer = ask(port, "GET /health/live", b"X-Request-ID: " + given)
    assert len(answer.headers["x-request-id"]) == 32
    assert ask(port, "GET /health/live", b"X-Request-ID: a.b-1").headers["x-request-id"] == "a.b-1"


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Type: multipart/form-data; boundary=" + b';"' * 30_000,
        b"Content-Type: multipart/form-data" + b";a=b" * 15_000,
        b'Content-Type: multipart/form-data; boundary="' + b'\\"' * 30_000,
        b"Accept: " + b",".join([b"a/b;q=0.1"] * 6_000),
        b"Accept-Encoding: gzip;q=0." + b"0" * 60_000,
        b"Prefer: wait" + b" " * 60_000 + b"x",
        b"Prefer: " + b"wait=1, " * 7_000,
        b"Idempotency-Key: " + b"a" * 60_000,
        b"If-None-Match: " + b'"a",' * 15_000,
        b"Cookie: " + b"a=b;" * 15_000,
        b"X-Request-ID: " + b"a" * 60_000,
        b"traceparent: " + b"0" * 60_000,
        b"X-Forwarded-For: " + b"1.1.1.1, " * 6_000,
    ],
)
def test_headers_that_are_hard_to_read(port: int, header: bytes) -> None:
    """The longest that are taken cost milliseconds, however they are made."""
    started = time.process_time()
    for line in ("POST /v1/segmentations", "GET /", "GET /v1/segmentations"):
        assert ask(port, line, header).status in (200, 400, 406, 415)
    assert time.process_time() - started < 2  # a pattern that tries again takes minutes


@pytest.mark.parametrize(
    "path",
    [
        "/v1/segmentations?" + "&" * 60_000,
        "/v1/segmentations?" + "status=queued&" * 4_500,
        "/v1/segmentations?limit=" + "9" * 60_000,
        "/v1/segmentations/a/overlays/" + "9" * 60_000 + ".png",
        "/" + "%41" * 20_000,
        "/v1/" + "/" * 60_000,
    ],
)
def test_addresses_that_are_hard_to_read(port: int, path: str) -> None:
    """The same of the longest addresses."""
    started = time.process_time()
    assert ask(port, f"GET {path}").status in (200, 400, 404)
    assert time.process_time() - started < 2


def test_many_connections(port: int) -> None:
    """Hundreds of connections that say nothing, or half of a head, hold up nobody."""
    with ExitStack() as opened:
        for index in range(300):
            connection = socket.create_connection(("127.0.0.1", port), WAIT_S)
            opened.enter_context(connection)
            connection.sendall(b"GET / HTTP/1.1\r\nX: " * (index % 2))
        started = time.monotonic()
        assert is_well(port)
        assert time.monotonic() - started < WAIT_S / 3


def test_a_client_that_does_not_read(port: int) -> None:
    """Answers that nobody takes hold up nobody else."""
    request = b"GET /ui/vendor/niivue/niivue.min.js HTTP/1.1\r\n" + HOST + b"\r\n"
    with ExitStack() as opened:
        for _ in range(20):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.sendall(request * 50)
        assert is_well(port)


def test_what_an_error_tells(port: int) -> None:
    """No version, path, class or line of code."""
    for line in ("GET /nothing", "PUT /v1/segment", "GET /v1/segmentations/x", "POST /v1/segment"):
        answer = ask(port, line)
        text = (str(answer.headers) + answer.body.decode()).lower()
        for word in ("traceback", "python", "starlette", "fastapi", ".py", "site-packages"):
            assert word not in text
