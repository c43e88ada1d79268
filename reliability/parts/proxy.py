"""A TCP proxy on loopback, through which a server is cut off without being touched."""

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

from reliability.parts.hosting import LOOPBACK, held_port

_COMMAND_S = 10
_MAX_CONNECTIONS = 512
"""At once; further ones are reset."""

_CHUNK = 256 * 1024


class Proxy:
    """Passes connections on to a port. One thread serves all of them; any thread may command it."""

    def __init__(self, port: int, upstream_port: int) -> None:
        self.port = port
        self._upstream_port = upstream_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._answers = True

    @classmethod
    @contextmanager
    def start(cls, upstream_port: int) -> Iterator[Self]:
        """One that accepts; leaving the block ends every connection."""
        with held_port() as port:
            proxy = cls(port, upstream_port)
            proxy._thread.start()
            try:
                proxy.accept()
                yield proxy
            finally:
                proxy._do(proxy._end())
                proxy._loop.call_soon_threadsafe(proxy._loop.stop)
                proxy._thread.join(_COMMAND_S)
                proxy._loop.close()

    def refuse(self) -> None:
        """Reset all connections and refuse new ones, as a server that is down does."""
        self._do(self._refuse())

    def lose_answers(self) -> None:
        """Pass requests on, and reset the connection where the answer would begin.

        The server has done what was asked, and the client cannot know.
        """
        self._answers = False

    def accept(self) -> None:
        """Let everything pass, from now on."""
        self._answers = True
        self._do(self._accept())

    def _do(self, command: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(command, self._loop).result(_COMMAND_S)

    async def _accept(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._open:
            writer.transport.abort()

    async def _end(self) -> None:
        await self._refuse()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=_COMMAND_S / 2)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        with self._kept(client):
            if len(self._open) > _MAX_CONNECTIONS:
                return
            with suppress(OSError):
                back, upstream = await asyncio.open_connection(LOOPBACK, self._upstream_port)
                with self._kept(upstream):
                    await asyncio.gather(self._pass(reader, upstream), self._answer(back, client))

    @contextmanager
    def _kept(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        """Known to `refuse` as long as it is open."""
        endpoint = writer.get_extra_info("socket")
        endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.add(writer)
        try:
            yield
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(_CHUNK)
        if not self._answers:
            raise ConnectionResetError
        writer.write(first)
        await self._pass(reader, writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
