"""The checks of `make fault` fail when they should."""

import socketserver
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from reliability.fault.clients import Raw, metric, raw_exchanges, try_raw
from reliability.fault.rounds import _fill, compare, only_results
from reliability.process import Wrong
from reliability.studies import studies
from service.jobs.records import now


class Echo(socketserver.BaseRequestHandler):
    """Answers anything with 200 and no problem document."""

    def handle(self) -> None:
        self.request.recv(65536)
        self.request.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def test_a_wrong_status_is_seen() -> None:
    """A server that says 200 to everything fails all that expects a refusal."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        here = SimpleNamespace(port=server.server_address[1])
        try_raw(here, Raw("any", (b"GET",), (200,)))
        with pytest.raises(Wrong, match="200 instead of"):
            try_raw(here, Raw("any", (b"GET",), (400,)))
        server.shutdown()


def test_bad_requests_differ() -> None:
    """Each of them has a name of its own, and some are good ones."""
    made = list(raw_exchanges(studies(3, 32)[-1].body))
    assert len({raw.name for raw in made}) == len(made) > 30
    assert any(raw.statuses == (200,) for raw in made)


def test_metric() -> None:
    """A value by its whole name."""
    text = "# TYPE lts_a gauge\nlts_ab 2.0\nlts_a 3.0\n"
    assert metric(text, "lts_a") == 3
    with pytest.raises(StopIteration):
        metric(text, "lts_b")


def test_fill_leaves_what_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ballast grows until only so many bytes are free."""
    size = 5_000_000
    usage = lambda _: SimpleNamespace(free=size - (tmp_path / "b").stat().st_size)  # noqa: E731
    monkeypatch.setattr("reliability.fault.rounds.shutil.disk_usage", usage)
    _fill(tmp_path / "b", 1000)
    assert (tmp_path / "b").stat().st_size == size - 1000


def test_a_second_result_is_seen(tmp_path: Path) -> None:
    """A job of a round that left two results, or none."""
    for made in ("a-1/run1", "a-1/run2", "b-1/run"):
        (tmp_path / "segmentations" / made).mkdir(parents=True)
    assert len(only_results(tmp_path / "segmentations", "b", "zip")) == 1
    for job_id, results in (("a", 2), ("c", 0)):
        with pytest.raises(Wrong, match=f"{results} results instead of one"):
            compare(SimpleNamespace(), tmp_path, job_id, SimpleNamespace(name="zip"), now())
