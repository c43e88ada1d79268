"""Durable segmentations as JSON."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from service.encode.document import (
    ContourDocument,
    FindingsDocument,
    ModelDocument,
    RemovalDocument,
    SourceDocument,
    WarningDocument,
)
from service.encode.objects import ObjectName
from service.errors import NotFound
from service.jobs.jobs import Job, Jobs
from service.jobs.records import (
    Delivered,
    DeliveryOrder,
    JobError,
    Priority,
    Progress,
    Status,
)
from service.pacs.delivery import Receipt
from service.pipeline import rounded

PATH = "/v1/segmentations"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProgressDocument(_Document):
    """How far a segmentation is; no slices before the model has begun."""

    stage: str
    fraction: float = Field(ge=0, le=1)
    slices_done: int = Field(ge=0)
    slices_total: int = Field(ge=0)

    @classmethod
    def of(cls, progress: Progress) -> Self:
        stage, fraction, done, total = progress
        return cls(stage=stage, fraction=round(fraction, 3), slices_done=done, slices_total=total)


class EventDocument(_Document):
    """A segmentation as it stands, in a stream of events."""

    status: Status
    progress: ProgressDocument
    error: JobError | None

    @classmethod
    def of(cls, job: Job) -> Self:
        return cls(
            status=job.status,
            progress=ProgressDocument.of(job.progress),
            error=job.outcome and job.outcome.error,
        )


class Links(_Document):
    """Where the parts of a result are; `{slice}` stands for a slice's number, from 0."""

    self: str
    events: str
    mask_nifti: str
    mask_dicom: str
    report_dicom: str
    rtstruct: str
    overlays: str
    report_fhir: str
    image_nifti: str
    mask_png: str
    overlay_png: str
    preview: str
    contours: str

    @classmethod
    def of(cls, job_id: str) -> Self:
        at = f"{PATH}/{job_id}"
        return cls(
            self=at,
            events=f"{at}/events",
            mask_nifti=f"{at}/mask.nii.gz",
            mask_dicom=f"{at}/mask.dcm",
            report_dicom=f"{at}/report.dcm",
            rtstruct=f"{at}/rtstruct.dcm",
            overlays=f"{at}/overlays.zip",
            report_fhir=f"{at}/report.fhir.json",
            image_nifti=f"{at}/image.nii.gz",
            mask_png=f"{at}/masks/{{slice}}.png",
            overlay_png=f"{at}/overlays/{{slice}}.png",
            preview=f"{at}/preview.png",
            contours=f"{at}/contours",
        )


class DeliveryDocument(_Document):
    """What became of the objects that were to be sent to a PACS node.

    `complete` is null until all were tried, false where the node did not take one.
    """

    destination: str
    objects: tuple[ObjectName, ...]
    complete: bool | None
    receipts: tuple[Receipt, ...]

    @classmethod
    def of(cls, order: DeliveryOrder, delivered: Delivered | None) -> Self:
        receipts = () if delivered is None else delivered.receipts
        took_all = all(receipt.status in ("stored", "already_stored") for receipt in receipts)
        return cls(
            destination=order.node,
            objects=order.objects,
            complete=None if delivered is None else took_all,
            receipts=receipts,
        )


class Finished(BaseModel):
    """What a result says beside its pictures and contours."""

    source: SourceDocument
    model: ModelDocument
    findings: FindingsDocument
    postprocessing: tuple[RemovalDocument, ...]
    warnings: tuple[WarningDocument, ...]


class SegmentationDocument(_Document):
    """A durable segmentation. Research use only, not for diagnosis.

    `source` to `warnings` are null until it has succeeded; `error` says why it failed.
    """

    id: str
    status: Status
    priority: Priority
    progress: ProgressDocument
    created_at: datetime
    deadline_at: datetime | None = Field(
        description="until when it must have ended; null without a deadline"
    )
    finished_at: datetime | None
    expires_at: datetime | None = Field(
        description="when its result is deleted; null until it has ended, or where it is kept"
    )
    source: SourceDocument | None
    model: ModelDocument | None
    findings: FindingsDocument | None
    postprocessing: tuple[RemovalDocument, ...] | None
    warnings: tuple[WarningDocument, ...] | None
    timings_s: dict[str, float] | None
    delivery: DeliveryDocument | None = Field(description="null unless objects are sent to a PACS")
    links: Links
    error: JobError | None
    disclaimer: str = "Research use only. Not for diagnosis."

    @classmethod
    def of(cls, job: Job, jobs: Jobs) -> Self:
        """Raises `NotFound` for one that is being deleted."""
        outcome, order = job.outcome, job.request.delivery
        result = jobs.result(job)
        if job.status == "succeeded" and result is None:
            raise NotFound("Expected a segmentation with its result, found it being deleted.")
        found = None if result is None else Finished.model_validate_json(result)
        return cls(
            id=job.request.id,
            status=job.status,
            priority=job.request.urgency.priority,
            progress=ProgressDocument.of(job.progress),
            created_at=job.request.created_at,
            deadline_at=job.deadline_at,
            finished_at=outcome and outcome.finished_at,
            expires_at=jobs.expires_at(job),
            source=found and found.source,
            model=found and found.model,
            findings=found and found.findings,
            postprocessing=found and found.postprocessing,
            warnings=found and found.warnings,
            timings_s=outcome and rounded(outcome.timings_s),
            delivery=order and DeliveryDocument.of(order, job.delivered),
            links=Links.of(job.request.id),
            error=outcome and outcome.error,
        )


class SegmentationList(_Document):
    """A page of segmentations, the newest first; `next` is the next page's address."""

    items: tuple[SegmentationDocument, ...]
    next: str | None


class ContoursDocument(_Document):
    """All outlines of one result."""

    contours: tuple[ContourDocument, ...]
