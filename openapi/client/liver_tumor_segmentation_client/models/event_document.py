from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.event_document_status import EventDocumentStatus

if TYPE_CHECKING:
    from ..models.job_error import JobError
    from ..models.progress_document import ProgressDocument


T = TypeVar("T", bound="EventDocument")


@_attrs_define
class EventDocument:
    """A segmentation as it stands, in a stream of events.

    Attributes:
        status (EventDocumentStatus):
        progress (ProgressDocument): How far a segmentation is; no slices before the model has begun.
        error (JobError | None):
    """

    status: EventDocumentStatus
    progress: ProgressDocument
    error: JobError | None
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from ..models.job_error import JobError  # noqa: PLC0415

        status = self.status.value

        progress = self.progress.to_dict()

        error: dict[str, Any] | None
        if isinstance(self.error, JobError):
            error = self.error.to_dict()
        else:
            error = self.error

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "status": status,
                "progress": progress,
                "error": error,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.job_error import JobError  # noqa: PLC0415
        from ..models.progress_document import ProgressDocument  # noqa: PLC0415

        d = dict(src_dict)
        status = EventDocumentStatus(d.pop("status"))

        progress = ProgressDocument.from_dict(d.pop("progress"))

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

        event_document = cls(
            status=status,
            progress=progress,
            error=error,
        )

        event_document.additional_properties = d
        return event_document

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
