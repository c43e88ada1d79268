from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.code import Code


T = TypeVar("T", bound="SegmentClass")


@_attrs_define
class SegmentClass:
    """One value of the label map and the concept it stands for.

    Attributes:
        label (int):
        name (str):
        category (Code): A coded concept as DICOM writes it: value, scheme, meaning.
        type_ (Code): A coded concept as DICOM writes it: value, scheme, meaning.
    """

    label: int
    name: str
    category: Code
    type_: Code
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        label = self.label

        name = self.name

        category = self.category.to_dict()

        type_ = self.type_.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "label": label,
                "name": name,
                "category": category,
                "type": type_,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.code import Code  # noqa: PLC0415

        d = dict(src_dict)
        label = d.pop("label")

        name = d.pop("name")

        category = Code.from_dict(d.pop("category"))

        type_ = Code.from_dict(d.pop("type"))

        segment_class = cls(
            label=label,
            name=name,
            category=category,
            type_=type_,
        )

        segment_class.additional_properties = d
        return segment_class

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
