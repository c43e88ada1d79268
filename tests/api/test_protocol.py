"""Heads of requests are bounded, and what is no HTTP is answered with a problem."""

import asyncio
import gc
import http.client
import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.api import protocol
from service.api.protocol import HEAD_BYTES, BoundedProtocol

HEALTH = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
LIVE = b'{"status":"live"}'


async def _live(scope: dict, receive: object, send: object) -> None:
    body = b""
    more = True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers = [(b"content-length", str(len(LIVE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": LIVE})


def exchange(*pieces: bytes) -> bytes:
    """All that a server of this protocol answers on one connection to these pieces of bytes."""

    async def talk() -> bytes:
        config = uvicorn.Config(_live, http=BoundedProtocol, log_config=None, lifespan="off")
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: BoundedProtocol(config, state, {}), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        answer = asyncio.create_task(_all(reader))
        with suppress(ConnectionError):  # refused before it was sent
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02)
        try:
            return await asyncio.wait_for(answer, 10)
        finally:
            writer.close()
            server.close()

    return asyncio.run(talk())


async def _all(reader: asyncio.StreamReader) -> bytes:
    found = b""
    with suppress(ConnectionError):  # closed while more was on its way
        while data := await reader.read(1 << 16):
            found += data
    return found


def refused(answer: bytes, status: int, code: str) -> None:
    head, body = answer.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    assert json.loads(body)["code"] == code


@pytest.mark.parametrize(
    "pieces",
    [
        (HEALTH + b"X-A: ", b"a" * 50_000, b"a" * 50_000, b"\r\n\r\n"),
        (HEALTH, b"X-A: a\r\n" * 9000, b"\r\n"),
        (b"GET /", b"a" * HEAD_BYTES, b"a"),
    ],
    ids=["one header", "many headers", "an address"],
)
def test_a_head_that_is_too_long(pieces: tuple[bytes, ...]) -> None:
    """It ends with 431, in however many pieces it comes."""
    refused(exchange(*pieces), 431, "headers_too_large")


def test_trailers_that_are_too_long() -> None:
    """What follows the last chunk of a body counts as well."""
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    refused(exchange(head, b"0\r\nX-A: ", b"a" * 50_000, b"a" * 50_000), 431, "headers_too_large")


def test_no_http() -> None:
    """Another protocol is answered with a problem document like any other error."""
    refused(exchange(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"), 400, "malformed_request")


@pytest.mark.parametrize("chunk", [1, 1000, 100_000])
def test_bodies_are_not_counted(chunk: int) -> None:
    """A body of any length in chunks of any size, and further requests on the connection."""
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"%x\r\n%s\r\n" % (chunk, b"b" * chunk) * max(3, 100_000 // chunk)
    last = HEALTH + b"Connection: close\r\n\r\n"
    answer = exchange(head, body, b"0\r\n\r\n", HEALTH + b"\r\n", last)
    assert answer.count(LIVE) == 3


@pytest.mark.parametrize("start", [b"", b"GET / HT", HEALTH + b"\r\n" + b"GET / HT"])
def test_a_head_that_never_ends(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is closed after a while, also one that was used before."""
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    assert exchange(start).count(b"HTTP/1.1 200") == start.count(b"Host")


async def _refuse(scope: dict, receive: object, send: object) -> None:
    headers = [(b"content-length", b"2"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 415, "headers": headers})
    await send({"type": "http.response.body", "body": b"no"})


def with_refusals(talk: Callable[[socket.socket], object]) -> None:
    """Let a client talk to a server that refuses before it has read the body."""

    def client(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(
                b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n\r\n"
            )
            talk(connection)

    async def serve() -> None:
        config = uvicorn.Config(_refuse, http=BoundedProtocol, log_config=None, lifespan="off")
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: BoundedProtocol(config, state, {}), "127.0.0.1", 0
        )
        try:
            await asyncio.to_thread(client, server.sockets[0].getsockname()[1])
            async with asyncio.timeout(10):
                while state.connections:  # it sees that the client has left
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)
        finally:
            server.close()

    asyncio.run(serve())


def test_an_early_answer_is_read() -> None:
    """A client that sends all of its body before it reads gets the refusal, not a reset."""

    def talk(connection: socket.socket) -> None:
        time.sleep(0.1)  # the answer is there before the body
        connection.sendall(bytes(20_000_000))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.read()) == (415, b"no")

    with_refusals(talk)


def test_nobody_sends_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some time after the answer the connection is closed, whatever is still sent."""
    monkeypatch.setattr(protocol, "LINGER_S", 0.2)

    def talk(connection: socket.socket) -> None:
        time.sleep(0.5)
        with pytest.raises(ConnectionError):
            connection.sendall(bytes(20_000_000))

    with_refusals(talk)


def test_a_connection_leaves_nothing_behind() -> None:
    """Once it is closed its protocol is freed at once, not when garbage is collected next."""
    gc.collect()
    gc.disable()
    try:
        assert LIVE in exchange(HEALTH + b"Connection: close\r\n\r\n")
        assert not [held for held in gc.get_objects() if isinstance(held, BoundedProtocol)]
    finally:
        gc.enable()
