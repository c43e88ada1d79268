"""`POST /v1/segment` in a process that does not run the model: a job for another one, then deleted.

To the client it is the same: the answer is in the response, and nothing is kept.
"""

import asyncio
import base64
import json
from contextlib import suppress

import anyio
import anyio.to_thread
from fastapi import Request

from service.api.leaving import stopped_when_left
from service.api.resources import MAX_CHECKING, Resources
from service.api.uploads import Upload
from service.api.waiting import until_ended
from service.encode.document import MaskDocument, ResultDocument
from service.encode.objects import FILES
from service.errors import Cancelled, DeadlineExceeded, NoDicomSource, NotFound, with_code
from service.jobs.jobs import Job, Jobs
from service.jobs.kept import RESULT, Kept
from service.jobs.records import Urgency
from service.pipeline import Options, rounded
from service.stopping import StopSignal


class Elsewhere:
    """The result of one request, in the store until the block ends."""

    def __init__(self, jobs: Jobs, job: Job) -> None:
        self._jobs, self._job, self._kept = jobs, job, jobs.kept(job.request.id)

    @property
    def kept(self) -> Kept:
        return self._kept

    def document(self, with_mask: bool) -> ResultDocument:
        """The JSON answer."""
        timings_s = {} if self._job.outcome is None else self._job.outcome.timings_s
        result = {
            **json.loads(self._part(RESULT)),
            **json.loads(self._part("contours.json")),
            "timings_s": rounded(timings_s),
            "mask": self._mask() if with_mask else None,
        }
        return ResultDocument.model_validate(result)

    def seg(self) -> bytes:
        """The SEG. Raises `NoDicomSource`."""
        found = self._jobs.part(self._job.request.id, FILES["seg"])
        if found is None:
            raise NoDicomSource("Expected a DICOM source for a DICOM result, found another.")
        return found

    def _mask(self) -> MaskDocument:
        if self._kept.is_plain_image:
            data, media_type = self._kept.mask_png(0), "image/png"
        else:
            data, media_type = self._part("mask.nii.gz"), "application/gzip"
        return MaskDocument.model_validate(
            {"media_type": media_type, "base64": base64.b64encode(data).decode()}
        )

    def _part(self, name: str) -> bytes:
        found = self._jobs.part(self._job.request.id, name)
        if found is None:
            raise NotFound("Expected a part of the result, found it deleted.")
        return found


async def job_elsewhere(
    request: Request, upload: Upload, options: Options, service: Resources, jobs: Jobs
) -> str:
    """Have a job done by another process; its id once it has ended well.

    Raises what the job failed with, `DeadlineExceeded`, and `Cancelled` for a client that has left.
    """
    allowed_s = service.settings.deadline_s
    urgency = Urgency(deadline_s=allowed_s)
    with service.checking.one(MAX_CHECKING):
        job_id = await anyio.to_thread.run_sync(
            lambda: jobs.accept(upload.spool, options, None, urgency=urgency, is_transient=True),
            limiter=service.accepting,
        )
    try:
        await _await_end(request, job_id, jobs, service, allowed_s)
    except BaseException:
        await forget(job_id, jobs)
        raise
    return job_id


async def forget(job_id: str, jobs: Jobs) -> None:
    """Delete a job, also where the request was given up; else the housekeeping does."""
    with anyio.CancelScope(shield=True), suppress(Exception):
        await anyio.to_thread.run_sync(jobs.delete, job_id)


async def _await_end(
    request: Request, job_id: str, jobs: Jobs, service: Resources, allowed_s: float
) -> None:
    stop, left = StopSignal(), asyncio.Event()

    def leave() -> None:
        service.loop.call_soon_threadsafe(left.set)

    with stop.listening(leave):
        async with stopped_when_left(request, stop):
            await until_ended(job_id, jobs, service, allowed_s, left)
    stop.check()
    try:
        outcome = (await anyio.to_thread.run_sync(jobs.get, job_id)).outcome
    except NotFound as error:
        raise Cancelled("The segmentation was deleted by request.") from error
    if outcome is None:
        raise DeadlineExceeded(f"Expected an answer within {allowed_s:g} s.")
    if outcome.error is not None:
        raise with_code(outcome.error.code, outcome.error.detail)
