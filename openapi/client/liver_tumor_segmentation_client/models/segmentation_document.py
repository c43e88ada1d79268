from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.segmentation_document_priority import SegmentationDocumentPriority
from ..models.segmentation_document_status import SegmentationDocumentStatus
from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.delivery_document import DeliveryDocument
    from ..models.findings_document import FindingsDocument
    from ..models.job_error import JobError
    from ..models.links import Links
    from ..models.model_document import ModelDocument
    from ..models.progress_document import ProgressDocument
    from ..models.removal_document import RemovalDocument
    from ..models.segmentation_document_timings_s_type_0 import (
        SegmentationDocumentTimingsSType0,
    )
    from ..models.source_document import SourceDocument
    from ..models.warning_document import WarningDocument


T = TypeVar("T", bound="SegmentationDocument")


@_attrs_define
class SegmentationDocument:
    """A durable segmentation. Research use only, not for diagnosis.

    `source` to `warnings` are null until it has succeeded; `error` says why it failed.

        Attributes:
            id (str):
            status (SegmentationDocumentStatus):
            priority (SegmentationDocumentPriority):
            progress (ProgressDocument): How far a segmentation is; no slices before the model has begun.
            created_at (datetime.datetime):
            deadline_at (datetime.datetime | None): until when it must have ended; null without a deadline
            finished_at (datetime.datetime | None):
            expires_at (datetime.datetime | None): when its result is deleted; null until it has ended, or where it is kept
            source (None | SourceDocument):
            model (ModelDocument | None):
            findings (FindingsDocument | None):
            postprocessing (list[RemovalDocument] | None):
            warnings (list[WarningDocument] | None):
            timings_s (None | SegmentationDocumentTimingsSType0):
            delivery (DeliveryDocument | None): null unless objects are sent to a PACS
            links (Links): Where the parts of a result are; `{slice}` stands for a slice's number, from 0.
            error (JobError | None):
            disclaimer (str | Unset):  Default: 'Research use only. Not for diagnosis.'.
    """

    id: str
    status: SegmentationDocumentStatus
    priority: SegmentationDocumentPriority
    progress: ProgressDocument
    created_at: datetime.datetime
    deadline_at: datetime.datetime | None
    finished_at: datetime.datetime | None
    expires_at: datetime.datetime | None
    source: None | SourceDocument
    model: ModelDocument | None
    findings: FindingsDocument | None
    postprocessing: list[RemovalDocument] | None
    warnings: list[WarningDocument] | None
    timings_s: None | SegmentationDocumentTimingsSType0
    delivery: DeliveryDocument | None
    links: Links
    error: JobError | None
    disclaimer: str | Unset = "Research use only. Not for diagnosis."
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from ..models.delivery_document import DeliveryDocument  # noqa: PLC0415
        from ..models.findings_document import FindingsDocument  # noqa: PLC0415
        from ..models.job_error import JobError  # noqa: PLC0415
        from ..models.model_document import ModelDocument  # noqa: PLC0415
        from ..models.segmentation_document_timings_s_type_0 import (
            SegmentationDocumentTimingsSType0,  # noqa: PLC0415
        )
        from ..models.source_document import SourceDocument  # noqa: PLC0415

        id = self.id

        status = self.status.value

        priority = self.priority.value

        progress = self.progress.to_dict()

        created_at = self.created_at.isoformat()

        deadline_at: None | str
        if isinstance(self.deadline_at, datetime.datetime):
            deadline_at = self.deadline_at.isoformat()
        else:
            deadline_at = self.deadline_at

        finished_at: None | str
        if isinstance(self.finished_at, datetime.datetime):
            finished_at = self.finished_at.isoformat()
        else:
            finished_at = self.finished_at

        expires_at: None | str
        if isinstance(self.expires_at, datetime.datetime):
            expires_at = self.expires_at.isoformat()
        else:
            expires_at = self.expires_at

        source: dict[str, Any] | None
        if isinstance(self.source, SourceDocument):
            source = self.source.to_dict()
        else:
            source = self.source

        model: dict[str, Any] | None
        if isinstance(self.model, ModelDocument):
            model = self.model.to_dict()
        else:
            model = self.model

        findings: dict[str, Any] | None
        if isinstance(self.findings, FindingsDocument):
            findings = self.findings.to_dict()
        else:
            findings = self.findings

        postprocessing: list[dict[str, Any]] | None
        if isinstance(self.postprocessing, list):
            postprocessing = []
            for postprocessing_type_0_item_data in self.postprocessing:
                postprocessing_type_0_item = postprocessing_type_0_item_data.to_dict()
                postprocessing.append(postprocessing_type_0_item)

        else:
            postprocessing = self.postprocessing

        warnings: list[dict[str, Any]] | None
        if isinstance(self.warnings, list):
            warnings = []
            for warnings_type_0_item_data in self.warnings:
                warnings_type_0_item = warnings_type_0_item_data.to_dict()
                warnings.append(warnings_type_0_item)

        else:
            warnings = self.warnings

        timings_s: dict[str, Any] | None
        if isinstance(self.timings_s, SegmentationDocumentTimingsSType0):
            timings_s = self.timings_s.to_dict()
        else:
            timings_s = self.timings_s

        delivery: dict[str, Any] | None
        if isinstance(self.delivery, DeliveryDocument):
            delivery = self.delivery.to_dict()
        else:
            delivery = self.delivery

        links = self.links.to_dict()

        error: dict[str, Any] | None
        if isinstance(self.error, JobError):
            error = self.error.to_dict()
        else:
            error = self.error

        disclaimer = self.disclaimer

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "status": status,
                "priority": priority,
                "progress": progress,
                "created_at": created_at,
                "deadline_at": deadline_at,
                "finished_at": finished_at,
                "expires_at": expires_at,
                "source": source,
                "model": model,
                "findings": findings,
                "postprocessing": postprocessing,
                "warnings": warnings,
                "timings_s": timings_s,
                "delivery": delivery,
                "links": links,
                "error": error,
            }
        )
        if disclaimer is not UNSET:
            field_dict["disclaimer"] = disclaimer

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.delivery_document import DeliveryDocument  # noqa: PLC0415
        from ..models.findings_document import FindingsDocument  # noqa: PLC0415
        from ..models.job_error import JobError  # noqa: PLC0415
        from ..models.links import Links  # noqa: PLC0415
        from ..models.model_document import ModelDocument  # noqa: PLC0415
        from ..models.progress_document import ProgressDocument  # noqa: PLC0415
        from ..models.removal_document import RemovalDocument  # noqa: PLC0415
        from ..models.segmentation_document_timings_s_type_0 import (
            SegmentationDocumentTimingsSType0,  # noqa: PLC0415
        )
        from ..models.source_document import SourceDocument  # noqa: PLC0415
        from ..models.warning_document import WarningDocument  # noqa: PLC0415

        d = dict(src_dict)
        id = d.pop("id")

        status = SegmentationDocumentStatus(d.pop("status"))

        priority = SegmentationDocumentPriority(d.pop("priority"))

        progress = ProgressDocument.from_dict(d.pop("progress"))

        created_at = datetime.datetime.fromisoformat(d.pop("created_at"))

        def _parse_deadline_at(data: object) -> datetime.datetime | None:
            if data is None:
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                deadline_at_type_0 = datetime.datetime.fromisoformat(data)

                return deadline_at_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(datetime.datetime | None, data)

        deadline_at = _parse_deadline_at(d.pop("deadline_at"))

        def _parse_finished_at(data: object) -> datetime.datetime | None:
            if data is None:
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                finished_at_type_0 = datetime.datetime.fromisoformat(data)

                return finished_at_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(datetime.datetime | None, data)

        finished_at = _parse_finished_at(d.pop("finished_at"))

        def _parse_expires_at(data: object) -> datetime.datetime | None:
            if data is None:
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                expires_at_type_0 = datetime.datetime.fromisoformat(data)

                return expires_at_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(datetime.datetime | None, data)

        expires_at = _parse_expires_at(d.pop("expires_at"))

        def _parse_source(data: object) -> None | SourceDocument:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                source_type_0 = SourceDocument.from_dict(data)

                return source_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | SourceDocument, data)

        source = _parse_source(d.pop("source"))

        def _parse_model(data: object) -> ModelDocument | None:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                model_type_0 = ModelDocument.from_dict(data)

                return model_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(ModelDocument | None, data)

        model = _parse_model(d.pop("model"))

        def _parse_findings(data: object) -> FindingsDocument | None:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                findings_type_0 = FindingsDocument.from_dict(data)

                return findings_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(FindingsDocument | None, data)

        findings = _parse_findings(d.pop("findings"))

        def _parse_postprocessing(data: object) -> list[RemovalDocument] | None:
            if data is None:
                return data
            try:
                if not isinstance(data, list):
                    raise TypeError()
                postprocessing_type_0 = []
                _postprocessing_type_0 = data
                for postprocessing_type_0_item_data in _postprocessing_type_0:
                    postprocessing_type_0_item = RemovalDocument.from_dict(
                        postprocessing_type_0_item_data
                    )

                    postprocessing_type_0.append(postprocessing_type_0_item)

                return postprocessing_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[RemovalDocument] | None, data)

        postprocessing = _parse_postprocessing(d.pop("postprocessing"))

        def _parse_warnings(data: object) -> list[WarningDocument] | None:
            if data is None:
                return data
            try:
                if not isinstance(data, list):
                    raise TypeError()
                warnings_type_0 = []
                _warnings_type_0 = data
                for warnings_type_0_item_data in _warnings_type_0:
                    warnings_type_0_item = WarningDocument.from_dict(warnings_type_0_item_data)

                    warnings_type_0.append(warnings_type_0_item)

                return warnings_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[WarningDocument] | None, data)

        warnings = _parse_warnings(d.pop("warnings"))

        def _parse_timings_s(data: object) -> None | SegmentationDocumentTimingsSType0:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                timings_s_type_0 = SegmentationDocumentTimingsSType0.from_dict(data)

                return timings_s_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | SegmentationDocumentTimingsSType0, data)

        timings_s = _parse_timings_s(d.pop("timings_s"))

        def _parse_delivery(data: object) -> DeliveryDocument | None:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                delivery_type_0 = DeliveryDocument.from_dict(data)

                return delivery_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(DeliveryDocument | None, data)

        delivery = _parse_delivery(d.pop("delivery"))

        links = Links.from_dict(d.pop("links"))

        def _parse_error(data: object) -> JobError | None:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                error_type_0 = JobError.from_dict(data)

                return error_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(JobError | None, data)

        error = _parse_error(d.pop("error"))

        disclaimer = d.pop("disclaimer", UNSET)

        segmentation_document = cls(
            id=id,
            status=status,
            priority=priority,
            progress=progress,
            created_at=created_at,
            deadline_at=deadline_at,
            finished_at=finished_at,
            expires_at=expires_at,
            source=source,
            model=model,
            findings=findings,
            postprocessing=postprocessing,
            warnings=warnings,
            timings_s=timings_s,
            delivery=delivery,
            links=links,
            error=error,
            disclaimer=disclaimer,
        )

        segmentation_document.additional_properties = d
        return segmentation_document

    @property
    def additional_keys(self) -> list[str]:
        return list(self.additional_properties.keys())

    def __getitem__(self, key: str) -> Any:
        return self.additional_properties[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.additional_properties[key] = value

    def __delitem__(self, key: str) -> None:
        del self.additional_properties[key]

    def __contains__(self, key: str) -> bool:
        return key in self.additional_properties
