"""What is written down of a job: what was asked, how it ended, and under which keys."""

import re
import time
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from service.encode.objects import ObjectName
from service.errors import ServiceError
from service.pacs.delivery import Receipt
from service.pipeline import Options

EndStatus = Literal["succeeded", "failed", "cancelled"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]

Priority = Literal["stat", "routine"]
"""Who comes first, as HL7 names it: `stat` at once."""

Lane = Literal["small", "large", "fetch"]
"""What a job needs first: a small or a large place in memory, or one to fetch its series."""

FOLDER = re.compile("[0-9a-f]{32}-[0-9a-f]{8}")
"""The name of a job's folder in the store."""

PRIORITIES: dict[Priority, int] = {"stat": 0, "routine": 1}

INPUT = "input"
FETCHED = "fetched.json"
LABELS = "labels.z"
"""Keys of what a job needs while it is worked on, in its folder; each run's result has its own."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SeriesAtOrigin(_Record):
    """A series that a PACS node has, by the node's name."""

    node: str
    study_instance_uid: str
    series_instance_uid: str


class DeliveryOrder(_Record):
    """Which objects of the result go to which PACS node."""

    node: str
    objects: tuple[ObjectName, ...]


class Urgency(_Record):
    """When a result is wanted: before others, and until when at all."""

    priority: Priority = "routine"
    deadline_s: float | None = None


class JobRequest(_Record):
    """What was asked; written before the job is accepted, and never changed."""

    id: str
    created_at: datetime
    options: Options
    file_bytes: tuple[int, ...]
    """Of the input as it came with the request; empty where it is fetched from `origin`."""
    input_sha256: str
    """Of all that was asked: a repeated Idempotency-Key must bring the same."""
    urgency: Urgency = Urgency()
    origin: SeriesAtOrigin | None = None
    delivery: DeliveryOrder | None = None


class Progress(NamedTuple):
    """How far a job is; slices are 0 of 0 before the model has begun."""

    stage: str = "queued"
    fraction: float = 0.0
    slices_done: int = 0
    slices_total: int = 0


class JobRow(_Record):
    """A job as the registry has it. Times are milliseconds since 1970, UTC.

    `folder` is where the store keeps its bytes, new for each job even where an id comes again;
    `result` names the folder in it of the run whose result counts. `is_transient` is one that its
    own request deletes, and that is listed to nobody. `owner` is the caller that made it, None
    where callers have no keys, and `traceparent` names its request in a trace (W3C Trace Context),
    where there was one. `executor` is who takes it in, works on it, or has yet to tidy up behind
    it; of the `claims`, `attempts` are those that may have ended an executor.
    """

    id: str
    folder: str
    created_ms: int
    priority: int
    lane: Lane
    input_bytes: int
    deadline_ms: int | None = None
    request: str
    is_transient: bool = False
    owner: str | None = None
    traceparent: str | None = None
    status: Literal["receiving", "dropped", "queued", "running", "succeeded", "failed", "cancelled"]
    executor: str | None = None
    attempts: int = 0
    claims: int = 0
    stage: str = "queued"
    fraction: float = 0.0
    slices_done: int = 0
    slices_total: int = 0
    result: str | None = None
    delivered: str | None = None
    outcome: str | None = None
    finished_ms: int | None = None

    @property
    def is_arriving(self) -> bool:
        """Whether it is not accepted yet, or `dropped` before that: nobody may be told of it."""
        return self.status in ("receiving", "dropped")

    @property
    def asked(self) -> JobRequest:
        return JobRequest.model_validate_json(self.request)

    @property
    def ended(self) -> "Outcome | None":
        return None if self.outcome is None else Outcome.model_validate_json(self.outcome)

    @property
    def progress(self) -> Progress:
        return Progress(self.stage, self.fraction, self.slices_done, self.slices_total)

    @property
    def result_folder(self) -> str | None:
        """Where the store keeps the result, None while there is none."""
        return None if self.result is None else key(self.folder, self.result)


class FetchedInput(_Record):
    """The input as it came from the origin, and how much else the origin sent with it."""

    file_bytes: tuple[int, ...]
    dropped: int


class Delivered(_Record):
    """What the node said of each object that was sent."""

    node: str
    receipts: tuple[Receipt, ...]


class JobError(_Record):
    """Why a job failed, as its problem document says."""

    code: str
    status: int
    title: str
    detail: str

    @classmethod
    def of(cls, error: ServiceError) -> "JobError":
        return cls(code=error.code, status=int(error.status), title=error.title, detail=str(error))


class Outcome(_Record):
    """How a job ended."""

    status: EndStatus
    finished_at: datetime
    timings_s: dict[str, float] = {}
    error: JobError | None = None


def now() -> datetime:
    """The time in UTC to the millisecond, as records hold it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def now_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return int(time.time() * 1000)


def key(folder: str, name: str) -> str:
    """The key of one of the objects in a folder."""
    return f"{folder}/{name}"
