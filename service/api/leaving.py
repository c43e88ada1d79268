"""Work for a client that has left is work for nobody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import Request

from service.errors import Cancelled
from service.stopping import StopSignal


@asynccontextmanager
async def stopped_when_left(request: Request, stop: StopSignal) -> AsyncIterator[None]:
    """Stop the work of this block when the client closes the connection; its body must be read."""
    watcher = asyncio.create_task(_watch(request, stop))
    try:
        yield
    finally:
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher


async def _watch(request: Request, stop: StopSignal) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    stop.stop(Cancelled("The client closed the connection."))
