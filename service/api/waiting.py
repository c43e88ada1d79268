"""Waiting for the end of a durable segmentation, whichever process works on it."""

import asyncio
from contextlib import suppress

import anyio.to_thread

from service.api.resources import Resources
from service.errors import StorageFull, Unavailable
from service.jobs.jobs import Jobs

LOOK_S = 2.0
"""How often one is looked at whose end nobody told."""


async def until_ended(
    job_id: str, jobs: Jobs, service: Resources, seconds: float, sooner: asyncio.Event
) -> None:
    """Until the job has ended, `sooner` is set, or the time is over."""
    if not seconds:
        return
    ended = asyncio.Event()

    def tell() -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            service.loop.call_soon_threadsafe(ended.set)

    with jobs.listening(job_id, tell):
        reasons = [
            asyncio.create_task(reason)
            for reason in (ended.wait(), sooner.wait(), _look(job_id, jobs))
        ]
        await asyncio.wait(reasons, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for reason in reasons:
            reason.cancel()
        await asyncio.gather(*reasons, return_exceptions=True)


async def _look(job_id: str, jobs: Jobs) -> None:
    """Until it has ended; whoever says so may not be heard, and the database may be away."""
    while True:
        with suppress(Unavailable, StorageFull):
            if await anyio.to_thread.run_sync(jobs.has_ended, job_id):
                return
        await asyncio.sleep(LOOK_S)
