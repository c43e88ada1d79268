"""Pages of other sites, in the browser of somebody who can reach a service without keys."""

import pytest
from http_helpers import slice_png
from security.harness import ask, talk

URL = "/v1/segmentations"
PNG_TYPE = b"Content-Type: image/png"

FORM = (
    b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    + slice_png()
    + b"\r\n--x--\r\n"
)


@pytest.mark.parametrize("path", ["/v1/segment", URL, f"{URL}/dicomweb", f"{URL}/x/cancel"])
@pytest.mark.parametrize(
    "origin",
    [b"https://evil.example", b"null", b"file://", b"http://127.0.0.1.evil.example",
     b"http://127.0.0.1:1", b"https://localhost", b"chrome-extension://abc", b""],
)  # fmt: skip
def test_requests_of_other_pages(port: int, path: str, origin: bytes) -> None:
    """A form or a script of another page is refused, whatever browsers need no preflight for."""
    kinds = (
        b"Content-Type: multipart/form-data; boundary=x",
        b"Content-Type: text/plain",
        b"Content-Type: application/x-www-form-urlencoded",
    )
    for kind in kinds:
        answer = ask(port, f"POST {path}", kind, b"Origin: " + origin, body=FORM)
        assert (answer.status, answer.code) == (403, "foreign_origin")


def test_the_service_s_own_page(port: int) -> None:
    """It may do what another may not."""
    for origin in (b"http://127.0.0.1", b"https://127.0.0.1"):
        answer = ask(port, "POST /v1/segment", PNG_TYPE, b"Origin: " + origin, body=slice_png())
        assert answer.status == 200


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
def test_preflights(port: int, method: str) -> None:
    """No other site is told that it may."""
    answer = ask(
        port,
        f"OPTIONS {URL}",
        b"Origin: https://evil.example",
        b"Access-Control-Request-Method: " + method.encode(),
        b"Access-Control-Request-Headers: content-type, x-api-key",
        b"Access-Control-Request-Private-Network: true",
    )
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "host",
    [b"evil.example", b"evil.example:8000", b"127.0.0.1.evil.example", b"localhost.evil.example",
     b"2130706433", b"0x7f000001", b"0177.0.0.1", b"127.1", b"127.0.0.1@evil.example", b"",
     b"evil.example\t127.0.0.1", b"127.0.0.1:8000:80", b"[::1].evil.example", b"*"],
)  # fmt: skip
def test_names_made_to_point_here(port: int, host: bytes) -> None:
    """A page whose own name resolves to this service is of another site all the same."""
    for path in (URL, "/metrics", "/v1/models"):
        head = f"GET {path} HTTP/1.1\r\nConnection: close\r\n".encode() + b"Host: " + host
        (answer,) = talk(port, head + b"\r\n\r\n")
        assert (answer.status, answer.code) == (403, "foreign_host")


@pytest.mark.parametrize(
    "hosts", [b"", b"Host: evil.example\r\nHost: 127.0.0.1\r\n", b"X-Forwarded-Host: 127.0.0.1\r\n"]
)
def test_requests_of_no_host(port: int, hosts: bytes) -> None:
    """One that names none, or first another, is refused; a proxy's word for it does not count."""
    (answer,) = talk(
        port, f"GET {URL} HTTP/1.1\r\nConnection: close\r\n".encode() + hosts + b"\r\n"
    )
    assert (answer.status, answer.code) == (403, "foreign_host")


def test_what_other_pages_can_read(port: int) -> None:
    """Answers may be embedded, framed, sniffed and cached by nobody."""
    for path in (URL, "/", "/health/live", "/v1/nothing"):
        answer = ask(port, f"GET {path}")
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers
        assert "set-cookie" not in answer.headers
