from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.contour_document_structure import ContourDocumentStructure

if TYPE_CHECKING:
    from ..models.polygon_document import PolygonDocument


T = TypeVar("T", bound="ContourDocument")


@_attrs_define
class ContourDocument:
    """All pieces of one structure in one slice; the liver's outline is that of the organ.

    Attributes:
        slice_ (int):
        sop_instance_uid (None | str):
        structure (ContourDocumentStructure):
        lesion_id (int | None):
        polygons (list[PolygonDocument]):
    """

    slice_: int
    sop_instance_uid: None | str
    structure: ContourDocumentStructure
    lesion_id: int | None
    polygons: list[PolygonDocument]
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        slice_ = self.slice_

        sop_instance_uid: None | str
        sop_instance_uid = self.sop_instance_uid

        structure = self.structure.value

        lesion_id: int | None
        lesion_id = self.lesion_id

        polygons = []
        for polygons_item_data in self.polygons:
            polygons_item = polygons_item_data.to_dict()
            polygons.append(polygons_item)

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "slice": slice_,
                "sop_instance_uid": sop_instance_uid,
                "structure": structure,
                "lesion_id": lesion_id,
                "polygons": polygons,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.polygon_document import PolygonDocument  # noqa: PLC0415

        d = dict(src_dict)
        slice_ = d.pop("slice")

        def _parse_sop_instance_uid(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        sop_instance_uid = _parse_sop_instance_uid(d.pop("sop_instance_uid"))

        structure = ContourDocumentStructure(d.pop("structure"))

        def _parse_lesion_id(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        lesion_id = _parse_lesion_id(d.pop("lesion_id"))

        polygons = []
        _polygons = d.pop("polygons")
        for polygons_item_data in _polygons:
            polygons_item = PolygonDocument.from_dict(polygons_item_data)

            polygons.append(polygons_item)

        contour_document = cls(
            slice_=slice_,
            sop_instance_uid=sop_instance_uid,
            structure=structure,
            lesion_id=lesion_id,
            polygons=polygons,
        )

        contour_document.additional_properties = d
        return contour_document

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
