from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="ProgressDocument")


@_attrs_define
class ProgressDocument:
    """How far a segmentation is; no slices before the model has begun.

    Attributes:
        stage (str):
        fraction (float):
        slices_done (int):
        slices_total (int):
    """

    stage: str
    fraction: float
    slices_done: int
    slices_total: int
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        stage = self.stage

        fraction = self.fraction

        slices_done = self.slices_done

        slices_total = self.slices_total

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "stage": stage,
                "fraction": fraction,
                "slices_done": slices_done,
                "slices_total": slices_total,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        stage = d.pop("stage")

        fraction = d.pop("fraction")

        slices_done = d.pop("slices_done")

        slices_total = d.pop("slices_total")

        progress_document = cls(
            stage=stage,
            fraction=fraction,
            slices_done=slices_done,
            slices_total=slices_total,
        )

        progress_document.additional_properties = d
        return progress_document

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
