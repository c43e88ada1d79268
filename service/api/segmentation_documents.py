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
from service.jobs.jobs import Job, Jobs
from service.jobs.records import Delivered, DeliveryOrder, JobError, Status
from service.pacs.delivery import Receipt
from service.pipeline import rounded

PATH = "/v1/segmentations"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Progress(_Document):
    """How far a segmentation is."""

    stage: str
    fraction: float = Field(ge=0, le=1)


class Links(_Document):
    """Where the parts of a result are; `{slice}` stands for a slice's number, from 0."""

    self: str
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
    progress: Progress
    created_at: datetime
    finished_at: datetime | None
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
        outcome, order = job.outcome, job.request.delivery
        result = jobs.result(job.request.id) if job.status == "succeeded" else None
        found = None if result is None else Finished.model_validate_json(result)
        return cls(
            id=job.request.id,
            status=job.status,
            progress=Progress(stage=job.stage, fraction=round(job.fraction, 3)),
            created_at=job.request.created_at,
            finished_at=outcome and outcome.finished_at,
            source=found and found.source,
            model=found and found.model,
            findings=found and found.findings,
            postprocessing=found and found.postprocessing,
            warnings=found and found.warnings,
            timings_s=outcome and rounded(outcome.timings_s),
            delivery=order and DeliveryDocument.of(order, jobs.delivered(job.request.id)),
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
