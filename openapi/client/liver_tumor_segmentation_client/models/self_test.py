from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="SelfTest")


@_attrs_define
class SelfTest:
    """A phantom the model must label as it did when it was exported.

    The tolerance is a part of the expected count: CPU and GPU round differently.

        Attributes:
            seed (int):
            size (int): rows and columns of the phantom's slices
            slices (int):
            liver_voxels (int): voxels of liver with tumour
            tumor_voxels (int):
            tolerance (float): part of the liver's voxels
    """

    seed: int
    size: int
    slices: int
    liver_voxels: int
    tumor_voxels: int
    tolerance: float
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        seed = self.seed

        size = self.size

        slices = self.slices

        liver_voxels = self.liver_voxels

        tumor_voxels = self.tumor_voxels

        tolerance = self.tolerance

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "seed": seed,
                "size": size,
                "slices": slices,
                "liver_voxels": liver_voxels,
                "tumor_voxels": tumor_voxels,
                "tolerance": tolerance,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        seed = d.pop("seed")

        size = d.pop("size")

        slices = d.pop("slices")

        liver_voxels = d.pop("liver_voxels")

        tumor_voxels = d.pop("tumor_voxels")

        tolerance = d.pop("tolerance")

        self_test = cls(
            seed=seed,
            size=size,
            slices=slices,
            liver_voxels=liver_voxels,
            tumor_voxels=tumor_voxels,
            tolerance=tolerance,
        )

        self_test.additional_properties = d
        return self_test

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
