"""`GET /v1/segmentations/{id}/events`: how far a segmentation is, as server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.api.access import Visible, admit
from service.api.openapi import problems, shown
from service.api.resources import Resources, resources
from service.api.segmentation_documents import PATH, EventDocument
from service.errors import Busy, ModelNotReady, NotFound, ServiceError, ShuttingDown, Unavailable

router = APIRouter(prefix=PATH, tags=["segmentations"])

LOOK_S = 0.25
"""How often a segmentation is looked at; news that come in between are told once."""

LOOK_SHARED_S = 1.0
"""The same where processes share a database, which each tells so often how far its jobs are."""

KEEP_ALIVE_S = 15
"""After so long without news a comment is sent, or proxies would close the stream."""

ADMIT_AGAIN_S = 15
"""How often who calls is looked at again: a key may have been revoked, or have expired."""

_RECONNECT_MS = 2000

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `progress`, and at the end one named `end`. The data of each are "
        "JSON: `status`, `progress` and `error` as a segmentation has them.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, **shown("events")}},
    }
}


@router.get(
    "/{id}/events",
    operation_id="watch_segmentation",
    summary="How far a segmentation is, as it goes",
    response_model=None,
    responses={**_STREAM, **problems(NotFound, Busy, ModelNotReady, ShuttingDown, Unavailable)},
)
async def watch(
    id: str,
    request: Request,
    service: Annotated[Resources, Depends(resources)],
    jobs: Visible,
) -> StreamingResponse:
    """Server-sent events: `progress` with every change of status, stage and slices, then `end`.

    A stream that breaks off before `end` is opened again by browsers, and goes on where the
    segmentation is by then; so it does when the service ends.
    """
    service.check_accepting()
    await anyio.to_thread.run_sync(jobs.get, id)  # an answer of its own where there is none
    return _Stream(id, service, request.scope)


class _Stream(StreamingResponse):
    """One of so many at once: the place is taken before anything is sent."""

    def __init__(self, job_id: str, service: Resources, opened_by: Scope) -> None:
        super().__init__(_events(job_id, service, opened_by), media_type="text/event-stream")
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._service.watching.one(self._service.settings.max_watchers):
            await super().__call__(scope, receive, send)


async def _events(job_id: str, service: Resources, opened_by: Scope) -> AsyncIterator[str]:
    jobs = service.ready_jobs()
    ended, silent_s, told = asyncio.Event(), 0.0, ""
    admitted = time.monotonic()

    def tell() -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            service.loop.call_soon_threadsafe(ended.set)

    look_s = LOOK_S if service.settings.database_url is None else LOOK_SHARED_S
    with jobs.listening(job_id, tell):
        yield f"retry: {_RECONNECT_MS}\n\n"
        while not service.draining.is_set():
            try:
                if time.monotonic() - admitted > ADMIT_AGAIN_S:
                    await admit(opened_by, service)
                    admitted = time.monotonic()
                job = await anyio.to_thread.run_sync(jobs.get, job_id)
            except NotFound:
                return  # deleted
            except ServiceError:
                return  # the client comes again, and is refused where its key is over
            news = EventDocument.of(job).model_dump_json()
            if job.outcome is not None:
                yield _event("end", news)
                return
            if news != told:
                yield _event("progress", news)
                told, silent_s = news, 0.0
            elif silent_s >= KEEP_ALIVE_S:
                yield ": nothing new\n\n"
                silent_s = 0.0
            await _pause(look_s, ended, service.draining)
            silent_s += look_s


async def _pause(look_s: float, *sooner: asyncio.Event) -> None:
    """Until it is time to look again, or one of the events is set."""
    waiting = [asyncio.create_task(event.wait()) for event in sooner]
    await asyncio.wait(waiting, timeout=look_s, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    if sooner[0].is_set():
        sooner[0].clear()


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"
