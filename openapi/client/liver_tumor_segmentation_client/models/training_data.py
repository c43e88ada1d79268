from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="TrainingData")


@_attrs_define
class TrainingData:
    """What the model learned from.

    Attributes:
        name (str):
        license_ (str):
        cases (int):
        slices (int):
        volumes (list[str] | Unset): names of the cases; empty if not told
        also_known (list[str] | Unset): names of other cases that are none to measure by: of the same patients, or they
            chose the network
    """

    name: str
    license_: str
    cases: int
    slices: int
    volumes: list[str] | Unset = UNSET
    also_known: list[str] | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        name = self.name

        license_ = self.license_

        cases = self.cases

        slices = self.slices

        volumes: list[str] | Unset = UNSET
        if not isinstance(self.volumes, Unset):
            volumes = self.volumes

        also_known: list[str] | Unset = UNSET
        if not isinstance(self.also_known, Unset):
            also_known = self.also_known

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "name": name,
                "license": license_,
                "cases": cases,
                "slices": slices,
            }
        )
        if volumes is not UNSET:
            field_dict["volumes"] = volumes
        if also_known is not UNSET:
            field_dict["also_known"] = also_known

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        name = d.pop("name")

        license_ = d.pop("license")

        cases = d.pop("cases")

        slices = d.pop("slices")

        volumes = cast(list[str], d.pop("volumes", UNSET))

        also_known = cast(list[str], d.pop("also_known", UNSET))

        training_data = cls(
            name=name,
            license_=license_,
            cases=cases,
            slices=slices,
            volumes=volumes,
            also_known=also_known,
        )

        training_data.additional_properties = d
        return training_data

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
