"""What the image's health check says of a process, by its exit status."""

import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from conftest import ROOT


def status(*arguments: str, **environment: str) -> int:
    """As the engine starts it: without site-packages."""
    command = [sys.executable, "-I", "-S", ROOT / "deploy" / "image" / "health.py", *arguments]
    return subprocess.run(command, env=environment, timeout=30, check=False).returncode


@contextmanager
def answering(code: int) -> Iterator[str]:
    """A server on loopback that says one thing; gives its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code if self.path == "/health/ready" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield str(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(("code", "expected"), [(200, 0), (503, 1), (404, 1)])
def test_it_is_as_ready_as_the_service_says(code: int, expected: int) -> None:
    with answering(code) as port:
        assert status(LTS_PORT=port) == expected


def test_nobody_answers() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = str(held.getsockname()[1])
        assert status(LTS_PORT=port) == 1
        assert status("--dimse", LTS_LISTEN_PORT=port) == 1


def test_plain_answer_where_tls_is_served_is_none() -> None:
    with answering(200) as port:
        assert status(LTS_PORT=port, LTS_TLS_CERTIFICATE="certificate.pem") == 1


def test_listener_takes_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert status("--dimse", LTS_LISTEN_PORT=str(server.getsockname()[1])) == 0
