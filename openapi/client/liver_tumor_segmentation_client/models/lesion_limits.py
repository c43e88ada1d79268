from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="LesionLimits")


@_attrs_define
class LesionLimits:
    """What a lesion must show to be kept; by default every lesion does.

    Attributes:
        surrounded (float | Unset): least part of what is around it, in its slices, that is liver Default: 0.0.
        fluid_hu (float | None | Unset): a lesion of a lower mean, more than 40 HU darker than the liver, is fluid
        contrast_hu (float | Unset): least difference of its mean to that of the liver around it Default: 0.0.
    """

    surrounded: float | Unset = 0.0
    fluid_hu: float | None | Unset = UNSET
    contrast_hu: float | Unset = 0.0
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        surrounded = self.surrounded

        fluid_hu: float | None | Unset
        if isinstance(self.fluid_hu, Unset):
            fluid_hu = UNSET
        else:
            fluid_hu = self.fluid_hu

        contrast_hu = self.contrast_hu

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update({})
        if surrounded is not UNSET:
            field_dict["surrounded"] = surrounded
        if fluid_hu is not UNSET:
            field_dict["fluid_hu"] = fluid_hu
        if contrast_hu is not UNSET:
            field_dict["contrast_hu"] = contrast_hu

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        surrounded = d.pop("surrounded", UNSET)

        def _parse_fluid_hu(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(float | None | Unset, data)

        fluid_hu = _parse_fluid_hu(d.pop("fluid_hu", UNSET))

        contrast_hu = d.pop("contrast_hu", UNSET)

        lesion_limits = cls(
            surrounded=surrounded,
            fluid_hu=fluid_hu,
            contrast_hu=contrast_hu,
        )

        lesion_limits.additional_properties = d
        return lesion_limits

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
