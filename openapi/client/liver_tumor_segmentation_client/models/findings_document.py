from __future__ import annotations

from collections.abc import Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeVar,
    cast,
)

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.lesion_document import LesionDocument
    from ..models.liver_document import LiverDocument
    from ..models.tumor_document import TumorDocument


T = TypeVar("T", bound="FindingsDocument")


@_attrs_define
class FindingsDocument:
    """Volumes, burden and lesions; burden is tumour over organ, null without an organ.

    Attributes:
        liver (LiverDocument): The organ with its lesions.
        tumor (TumorDocument): All lesions together.
        burden (float | None):
        lesions (list[LesionDocument]):
        lesion_connectivity (Literal[26] | Unset):  Default: 26.
    """

    liver: LiverDocument
    tumor: TumorDocument
    burden: float | None
    lesions: list[LesionDocument]
    lesion_connectivity: Literal[26] | Unset = 26
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        liver = self.liver.to_dict()

        tumor = self.tumor.to_dict()

        burden: float | None
        burden = self.burden

        lesions = []
        for lesions_item_data in self.lesions:
            lesions_item = lesions_item_data.to_dict()
            lesions.append(lesions_item)

        lesion_connectivity = self.lesion_connectivity

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "liver": liver,
                "tumor": tumor,
                "burden": burden,
                "lesions": lesions,
            }
        )
        if lesion_connectivity is not UNSET:
            field_dict["lesion_connectivity"] = lesion_connectivity

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.lesion_document import LesionDocument  # noqa: PLC0415
        from ..models.liver_document import LiverDocument  # noqa: PLC0415
        from ..models.tumor_document import TumorDocument  # noqa: PLC0415

        d = dict(src_dict)
        liver = LiverDocument.from_dict(d.pop("liver"))

        tumor = TumorDocument.from_dict(d.pop("tumor"))

        def _parse_burden(data: object) -> float | None:
            if data is None:
                return data
            return cast(float | None, data)

        burden = _parse_burden(d.pop("burden"))

        lesions = []
        _lesions = d.pop("lesions")
        for lesions_item_data in _lesions:
            lesions_item = LesionDocument.from_dict(lesions_item_data)

            lesions.append(lesions_item)

        lesion_connectivity = cast(Literal[26] | Unset, d.pop("lesion_connectivity", UNSET))
        if lesion_connectivity != 26 and not isinstance(lesion_connectivity, Unset):
            raise ValueError(
                f"lesion_connectivity must match const 26, got '{lesion_connectivity}'"
            )

        findings_document = cls(
            liver=liver,
            tumor=tumor,
            burden=burden,
            lesions=lesions,
            lesion_connectivity=lesion_connectivity,
        )

        findings_document.additional_properties = d
        return findings_document

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
