from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.diameter_document import DiameterDocument


T = TypeVar("T", bound="LesionDocument")


@_attrs_define
class LesionDocument:
    """One connected component of tumour; id 1 is the largest.

    Attributes:
        id (int):
        voxels (int):
        volume_ml (float | None):
        area_px (int | None):
        area_mm2 (float | None):
        longest_diameter_mm (float | None):
        short_diameter_mm (float | None):
        longest_diameter (DiameterDocument): A length in the axial plane; ends are (slice, row, column) and LPS
            millimetres.
        short_diameter (DiameterDocument): A length in the axial plane; ends are (slice, row, column) and LPS
            millimetres.
        centroid_px (list[float]): slice, row, column
        centroid_mm (list[float] | None): LPS
        first_slice (int):
        last_slice (int):
        largest_slice (int):
        sop_instance_uids (list[str]): first to last slice
        mean_hu (float):
        mean_tumor_probability (float):
        recist_measurable (bool | None):
        recist_target_candidate (bool):
    """

    id: int
    voxels: int
    volume_ml: float | None
    area_px: int | None
    area_mm2: float | None
    longest_diameter_mm: float | None
    short_diameter_mm: float | None
    longest_diameter: DiameterDocument
    short_diameter: DiameterDocument
    centroid_px: list[float]
    centroid_mm: list[float] | None
    first_slice: int
    last_slice: int
    largest_slice: int
    sop_instance_uids: list[str]
    mean_hu: float
    mean_tumor_probability: float
    recist_measurable: bool | None
    recist_target_candidate: bool
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        id = self.id

        voxels = self.voxels

        volume_ml: float | None
        volume_ml = self.volume_ml

        area_px: int | None
        area_px = self.area_px

        area_mm2: float | None
        area_mm2 = self.area_mm2

        longest_diameter_mm: float | None
        longest_diameter_mm = self.longest_diameter_mm

        short_diameter_mm: float | None
        short_diameter_mm = self.short_diameter_mm

        longest_diameter = self.longest_diameter.to_dict()

        short_diameter = self.short_diameter.to_dict()

        centroid_px = []
        for centroid_px_item_data in self.centroid_px:
            centroid_px_item: float
            centroid_px_item = centroid_px_item_data
            centroid_px.append(centroid_px_item)

        centroid_mm: list[float] | None
        if isinstance(self.centroid_mm, list):
            centroid_mm = []
            for centroid_mm_type_0_item_data in self.centroid_mm:
                centroid_mm_type_0_item: float
                centroid_mm_type_0_item = centroid_mm_type_0_item_data
                centroid_mm.append(centroid_mm_type_0_item)

        else:
            centroid_mm = self.centroid_mm

        first_slice = self.first_slice

        last_slice = self.last_slice

        largest_slice = self.largest_slice

        sop_instance_uids = self.sop_instance_uids

        mean_hu = self.mean_hu

        mean_tumor_probability = self.mean_tumor_probability

        recist_measurable: bool | None
        recist_measurable = self.recist_measurable

        recist_target_candidate = self.recist_target_candidate

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "voxels": voxels,
                "volume_ml": volume_ml,
                "area_px": area_px,
                "area_mm2": area_mm2,
                "longest_diameter_mm": longest_diameter_mm,
                "short_diameter_mm": short_diameter_mm,
                "longest_diameter": longest_diameter,
                "short_diameter": short_diameter,
                "centroid_px": centroid_px,
                "centroid_mm": centroid_mm,
                "first_slice": first_slice,
                "last_slice": last_slice,
                "largest_slice": largest_slice,
                "sop_instance_uids": sop_instance_uids,
                "mean_hu": mean_hu,
                "mean_tumor_probability": mean_tumor_probability,
                "recist_measurable": recist_measurable,
                "recist_target_candidate": recist_target_candidate,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.diameter_document import DiameterDocument  # noqa: PLC0415

        d = dict(src_dict)
        id = d.pop("id")

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

        def _parse_longest_diameter_mm(data: object) -> float | None:
            if data is None:
                return data
            return cast(float | None, data)

        longest_diameter_mm = _parse_longest_diameter_mm(d.pop("longest_diameter_mm"))

        def _parse_short_diameter_mm(data: object) -> float | None:
            if data is None:
                return data
            return cast(float | None, data)

        short_diameter_mm = _parse_short_diameter_mm(d.pop("short_diameter_mm"))

        longest_diameter = DiameterDocument.from_dict(d.pop("longest_diameter"))

        short_diameter = DiameterDocument.from_dict(d.pop("short_diameter"))

        centroid_px = []
        _centroid_px = d.pop("centroid_px")
        for centroid_px_item_data in _centroid_px:

            def _parse_centroid_px_item(data: object) -> float:
                return cast(float, data)

            centroid_px_item = _parse_centroid_px_item(centroid_px_item_data)

            centroid_px.append(centroid_px_item)

        def _parse_centroid_mm(data: object) -> list[float] | None:
            if data is None:
                return data
            try:
                if not isinstance(data, list):
                    raise TypeError()
                centroid_mm_type_0 = []
                _centroid_mm_type_0 = data
                for centroid_mm_type_0_item_data in _centroid_mm_type_0:

                    def _parse_centroid_mm_type_0_item(data: object) -> float:
                        return cast(float, data)

                    centroid_mm_type_0_item = _parse_centroid_mm_type_0_item(
                        centroid_mm_type_0_item_data
                    )

                    centroid_mm_type_0.append(centroid_mm_type_0_item)

                return centroid_mm_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[float] | None, data)

        centroid_mm = _parse_centroid_mm(d.pop("centroid_mm"))

        first_slice = d.pop("first_slice")

        last_slice = d.pop("last_slice")

        largest_slice = d.pop("largest_slice")

        sop_instance_uids = cast(list[str], d.pop("sop_instance_uids"))

        mean_hu = d.pop("mean_hu")

        mean_tumor_probability = d.pop("mean_tumor_probability")

        def _parse_recist_measurable(data: object) -> bool | None:
            if data is None:
                return data
            return cast(bool | None, data)

        recist_measurable = _parse_recist_measurable(d.pop("recist_measurable"))

        recist_target_candidate = d.pop("recist_target_candidate")

        lesion_document = cls(
            id=id,
            voxels=voxels,
            volume_ml=volume_ml,
            area_px=area_px,
            area_mm2=area_mm2,
            longest_diameter_mm=longest_diameter_mm,
            short_diameter_mm=short_diameter_mm,
            longest_diameter=longest_diameter,
            short_diameter=short_diameter,
            centroid_px=centroid_px,
            centroid_mm=centroid_mm,
            first_slice=first_slice,
            last_slice=last_slice,
            largest_slice=largest_slice,
            sop_instance_uids=sop_instance_uids,
            mean_hu=mean_hu,
            mean_tumor_probability=mean_tumor_probability,
            recist_measurable=recist_measurable,
            recist_target_candidate=recist_target_candidate,
        )

        lesion_document.additional_properties = d
        return lesion_document

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
