from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="FieldOfView")


@_attrs_define
class FieldOfView:
    """Sides of the square field of view seen in training; beyond them a result warns.

    Attributes:
        smallest_mm (float):
        largest_mm (float):
    """

    smallest_mm: float
    largest_mm: float
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        smallest_mm = self.smallest_mm

        largest_mm = self.largest_mm

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "smallest_mm": smallest_mm,
                "largest_mm": largest_mm,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        smallest_mm = d.pop("smallest_mm")

        largest_mm = d.pop("largest_mm")

        field_of_view = cls(
            smallest_mm=smallest_mm,
            largest_mm=largest_mm,
        )

        field_of_view.additional_properties = d
        return field_of_view

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
