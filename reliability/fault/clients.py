"""Clients that leave, lie about lengths, send slowly or speak no HTTP, beside a good one."""

import random
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from benchmarks.memory import resident_mb
from reliability.fault.bench import AT, Bench
from reliability.process import Server, check


def client_round(bench: Bench) -> None:
    """Every way in which a client can be bad, while a good one works."""
    with bench.data_folder() as folder:
        limits = {"upload_grace_s": 1, "min_upload_bytes_per_s": 4096, "wait_s": 60}
        with Server.start(folder, **limits) as server, good_client(bench, server):
            idle_mb = resident_mb(server.process.pid, "VmRSS")
            exchanges = list(raw_exchanges(bench.studies[-1].body))
            bench.rng.shuffle(exchanges)
            for exchange in exchanges:
                try_raw(server, exchange)
                bench.count("bad requests")
            vanish(bench, server)
            grown = resident_mb(server.process.pid, "VmRSS") - idle_mb
            check(grown < 200, f"bad clients left {grown:.0f} MB")
            _no_connections_left(server)


@dataclass(frozen=True)
class Raw:
    """Bytes on a socket, and the statuses that may answer them; 0 is a closed connection."""

    name: str
    pieces: tuple[bytes, ...]
    statuses: tuple[int, ...]
    gap_s: float = 0.0


def raw_exchanges(png: bytes) -> Iterator[Raw]:
    """Lies about length, slow bodies, broken HTTP; each must end in moments."""

    def post(headers: str, *body: bytes) -> tuple[bytes, ...]:
        start = (
            "POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            "Content-Type: image/png"
        )
        return (f"{start}\r\n{headers}\r\n\r\n".encode(), *body)

    size = len(png)
    yield Raw("a good one", post(f"Content-Length: {size}", png), (200,))
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (size, png)
    yield Raw("a good one in chunks", post("Transfer-Encoding: chunked", chunked), (200,))
    yield Raw("length too long", post(f"Content-Length: {size + 50_000}", png), (408,))
    yield Raw("length too short", post(f"Content-Length: {size // 2}", png), (400, 422))
    bad_lengths = ("-5", "+5", "0x10", "5, 6", "9" * 30, "5\r\nContent-Length: 6", "five", "5.0",
                   "5\r\nTransfer-Encoding: chunked")  # fmt: skip
    for length in bad_lengths:
        yield Raw(f"length {length!r}", post(f"Content-Length: {length}", png), (400,))
    yield Raw("length of terabytes", post("Content-Length: 9999999999999", png), (413,))
    yield Raw("no length", post("X-A: a"), (400,))
    yield Raw("chunk of no size", post("Transfer-Encoding: chunked", b"zz\r\nabc"), (400,))
    yield Raw("vast chunk", post("Transfer-Encoding: chunked", b"F" * 17 + b"\r\nabc"), (400,))
    yield Raw("unknown coding", post("Transfer-Encoding: gzip", png), (400,))
    drops = tuple(png[at : at + 1] for at in range(60))
    yield Raw("slow body", post(f"Content-Length: {size}", *drops), (408,), gap_s=0.05)
    yield Raw("slow form", (
        b"POST /v1/segmentations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n", b"Content", b"-D",
    ), (408,), gap_s=0.1)  # fmt: skip
    yield Raw("a form cut in a header", (
        b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposi",
    ), (400,))  # fmt: skip
    health = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    yield Raw("TLS", (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,), (400,))
    yield Raw("noise", (random.Random(1).randbytes(5000),), (400,))
    yield Raw("HTTP/9.9", (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",), (400,))
    yield Raw("NUL in a header", (health + b"X-A: a\0b\r\n\r\n",), (400,))
    yield Raw(
        "address of no kind", (b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n",), (400,)
    )
    yield Raw("address not ASCII", (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",), (400,))
    yield Raw("half a character", (
        b"GET /v1/segmentations/%ed%a0%80 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ), (404,))  # fmt: skip
    yield Raw("CONNECT", (b"CONNECT a:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",), (400,))
    trace = b"TRACE /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    yield Raw("TRACE", (trace,), (405,))
    yield Raw("long header", (health + b"X-A: ", *[b"a" * 65536] * 4), (431,), gap_s=0.01)
    yield Raw("many headers", (health, *[b"X-A: a\r\n" * 9000] * 4), (431,), gap_s=0.01)
    yield Raw("endless header", (health + b"X-A: ", b"a" * (64 << 20)), (431, 0))


def try_raw(server: Server, raw: Raw) -> None:
    """Send, and check what comes back and how soon."""
    started = time.monotonic()
    answer = _talk(server.port, raw)
    seconds = time.monotonic() - started
    status = int(answer[9:12]) if answer[9:12].isdigit() else 0
    check(status in raw.statuses, f"{raw.name}: {status} instead of {raw.statuses}")
    if status >= 400:
        check(
            b"\r\ncontent-type: application/problem+json\r\n" in answer, f"{raw.name}: no problem"
        )
    check(seconds < 20, f"{raw.name}: {seconds:.0f} s")


def _talk(port: int, raw: Raw) -> bytes:
    answer = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        reader = threading.Thread(target=_read_all, args=(connection, answer))
        reader.start()
        with suppress(OSError):  # refused while it was sent
            for piece in raw.pieces:
                connection.sendall(piece)
                time.sleep(raw.gap_s)
        reader.join(20)
    return bytes(answer)


def _read_all(connection: socket.socket, answer: bytearray) -> None:
    with suppress(OSError):
        while data := connection.recv(65536):
            answer += data


def vanish(bench: Bench, server: Server) -> None:
    """Clients that leave in the middle of an upload, and while they wait for a result."""
    study = bench.studies[0]
    for path in ("/v1/segment", AT):
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {study.media_type}\r\n"
            f"Content-Length: {len(study.body)}\r\n\r\n"
        ).encode()
        for share in (0.0, 0.5, 1.0):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
                connection.sendall(head + study.body[: int(share * len(study.body))])
                time.sleep(bench.rng.uniform(0, 0.4))
                if bench.rng.random() < 0.5:  # without a word, as a crash does
                    connection.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" + bytes(4)
                    )
            bench.count("clients that left")


def _no_connections_left(server: Server) -> None:
    """Nobody but the one who asks is admitted, and every descriptor of theirs is closed."""
    deadline = time.monotonic() + 60
    while True:
        text = server.ask("GET", "/metrics").body.decode()
        admitted = metric(text, "lts_admitted_requests")
        sockets = _sockets(server.process.pid)
        if admitted <= 1 and sockets <= 4:  # the listener, the good client, this one, one to spare
            return
        check(time.monotonic() < deadline, f"{admitted:.0f} admitted, {sockets} sockets are left")
        time.sleep(0.1)


def _sockets(pid: int) -> int:
    tcp = Path(f"/proc/{pid}/net/tcp").read_text()
    inodes = {line.split()[9] for line in tcp.splitlines()[1:]}
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            target = str(link.readlink())
            count += target.startswith("socket:[") and target[8:-1] in inodes
    return count


def metric(text: str, name: str) -> float:
    """A gauge or counter without labels in Prometheus' text."""
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


@contextmanager
def good_client(bench: Bench, server: Server) -> Iterator[None]:
    """A client that asks all along, and must always get the same right answer."""
    over, failures = threading.Event(), list[str]()
    study = bench.studies[-1]
    body, headers = study.body, {"Content-Type": study.media_type}
    expected = _numbers(server.ask("POST", "/v1/segment", body, headers).json())

    def work() -> None:
        while not over.is_set() and not failures:
            try:
                answer = server.ask("POST", "/v1/segment", body, headers)
            except (OSError, HTTPException) as error:
                failures.append(f"the good client got {type(error).__name__}")
                return
            if answer.status != 200 or _numbers(answer.json()) != expected:
                failures.append(f"the good client got {answer.status} or other numbers")
            bench.count("right answers to the good client")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    check(not failures, "; ".join(failures))


def _numbers(document: Mapping[str, Any]) -> Any:
    return document["findings"], document["contours"]
