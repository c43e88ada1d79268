from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="Context")


@_attrs_define
class Context:
    """Neighbouring slices that the network sees beside the one it labels.

    Attributes:
        slices (int | Unset): odd; 1 is the slice alone Default: 1.
        distance_mm (float | None | Unset): step between them; None for 1
    """

    slices: int | Unset = 1
    distance_mm: float | None | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        slices = self.slices

        distance_mm: float | None | Unset
        if isinstance(self.distance_mm, Unset):
            distance_mm = UNSET
        else:
            distance_mm = self.distance_mm

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update({})
        if slices is not UNSET:
            field_dict["slices"] = slices
        if distance_mm is not UNSET:
            field_dict["distance_mm"] = distance_mm

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        slices = d.pop("slices", UNSET)

        def _parse_distance_mm(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(float | None | Unset, data)

        distance_mm = _parse_distance_mm(d.pop("distance_mm", UNSET))

        context = cls(
            slices=slices,
            distance_mm=distance_mm,
        )

        context.additional_properties = d
        return context

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
