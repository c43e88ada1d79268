from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="Thresholds")


@_attrs_define
class Thresholds:
    """Decision on the class probabilities: organ first (liver or tumour), tumour within it.

    Attributes:
        liver (float | Unset):  Default: 0.5.
        tumor (float | Unset):  Default: 0.5.
    """

    liver: float | Unset = 0.5
    tumor: float | Unset = 0.5
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        liver = self.liver

        tumor = self.tumor

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update({})
        if liver is not UNSET:
            field_dict["liver"] = liver
        if tumor is not UNSET:
            field_dict["tumor"] = tumor

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        liver = d.pop("liver", UNSET)

        tumor = d.pop("tumor", UNSET)

        thresholds = cls(
            liver=liver,
            tumor=tumor,
        )

        thresholds.additional_properties = d
        return thresholds

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
