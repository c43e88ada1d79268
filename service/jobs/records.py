"""What is written down of a job: what was asked, how it ended, and under which keys."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from service.encode.objects import ObjectName
from service.errors import ServiceError
from service.pacs.delivery import Receipt
from service.pipeline import Options

EndStatus = Literal["succeeded", "failed", "cancelled"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]

INPUT = "input"
FETCHED = "fetched.json"
REQUEST = "request.json"
LABELS = "labels.z"
DELIVERY = "delivery.json"
OUTCOME = "outcome.json"
"""Keys of a job's objects, under its id. The outcome comes last: where it stands, all is there."""


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


class JobRequest(_Record):
    """What was asked; written before the job is accepted, and never changed."""

    id: str
    created_at: datetime
    options: Options
    file_bytes: tuple[int, ...]
    """Of the input as it came with the request; empty where it is fetched from `origin`."""
    input_sha256: str
    """Of all that was asked: a repeated Idempotency-Key must bring the same."""
    origin: SeriesAtOrigin | None = None
    delivery: DeliveryOrder | None = None


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


def attempt(number: int) -> str:
    """The key under which a job's start is counted, from 1."""
    return f"attempt-{number}"


def now() -> datetime:
    """The time in UTC to the millisecond, as records hold it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def key(job_id: str, name: str) -> str:
    """The key of one of a job's objects."""
    return f"{job_id}/{name}"
