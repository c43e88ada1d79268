from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="LiverDocument")


@_attrs_define
class LiverDocument:
    """The organ with its lesions.

    Attributes:
        voxels (int):
        volume_ml (float | None):
        area_px (int | None):
        area_mm2 (float | None):
        parenchyma_volume_ml (float | None): the organ without its lesions
    """

    voxels: int
    volume_ml: float | None
    area_px: int | None
    area_mm2: float | None
    parenchyma_volume_ml: float | None
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        voxels = self.voxels

        volume_ml: float | None
        volume_ml = self.volume_ml

        area_px: int | None
        area_px = self.area_px

        area_mm2: float | None
        area_mm2 = self.area_mm2

        parenchyma_volume_ml: float | None
        parenchyma_volume_ml = self.parenchyma_volume_ml

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "voxels": voxels,
                "volume_ml": volume_ml,
                "area_px": area_px,
                "area_mm2": area_mm2,
                "parenchyma_volume_ml": parenchyma_volume_ml,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        voxels = d.pop("voxels")

        def _parse_volume_ml(data: object) -> float | None:
            if data is None:
                return data
            return cast(float | None, data)

        volume_ml = _parse_volume_ml(d.pop("volume_ml"))

        def _parse_area_px(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        area_px = _parse_area_px(d.pop("area_px"))

        def _parse_area_mm2(data: object) -> float | None:
            if data is None:
                return data
            return cast(float | None, data)

        area_mm2 = _parse_area_mm2(d.pop("area_mm2"))

        def _parse_parenchyma_volume_ml(data: object) -> float | None:
            if data is None:
                return data
            return cast(float | None, data)

        parenchyma_volume_ml = _parse_parenchyma_volume_ml(d.pop("parenchyma_volume_ml"))

        liver_document = cls(
            voxels=voxels,
            volume_ml=volume_ml,
            area_px=area_px,
            area_mm2=area_mm2,
            parenchyma_volume_ml=parenchyma_volume_ml,
        )

        liver_document.additional_properties = d
        return liver_document

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
