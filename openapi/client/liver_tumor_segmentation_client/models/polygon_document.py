from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="PolygonDocument")


@_attrs_define
class PolygonDocument:
    """One outline and its holes: vertices at pixel centres, the first not repeated at the end.

    `_px` are (column, row) from 0; `_mm` are LPS, null for an image. A pixel belongs to the polygon
    if its centre is inside the exterior or on it, and not strictly inside a hole.

        Attributes:
            exterior_px (list[list[int]]):
            exterior_mm (list[list[float]] | None):
            holes_px (list[list[list[int]]]):
            holes_mm (list[list[list[float]]] | None):
    """

    exterior_px: list[list[int]]
    exterior_mm: list[list[float]] | None
    holes_px: list[list[list[int]]]
    holes_mm: list[list[list[float]]] | None
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        exterior_px = []
        for exterior_px_item_data in self.exterior_px:
            exterior_px_item = []
            for exterior_px_item_item_data in exterior_px_item_data:
                exterior_px_item_item: int
                exterior_px_item_item = exterior_px_item_item_data
                exterior_px_item.append(exterior_px_item_item)

            exterior_px.append(exterior_px_item)

        exterior_mm: list[list[float]] | None
        if isinstance(self.exterior_mm, list):
            exterior_mm = []
            for exterior_mm_type_0_item_data in self.exterior_mm:
                exterior_mm_type_0_item = []
                for exterior_mm_type_0_item_item_data in exterior_mm_type_0_item_data:
                    exterior_mm_type_0_item_item: float
                    exterior_mm_type_0_item_item = exterior_mm_type_0_item_item_data
                    exterior_mm_type_0_item.append(exterior_mm_type_0_item_item)

                exterior_mm.append(exterior_mm_type_0_item)

        else:
            exterior_mm = self.exterior_mm

        holes_px = []
        for holes_px_item_data in self.holes_px:
            holes_px_item = []
            for holes_px_item_item_data in holes_px_item_data:
                holes_px_item_item = []
                for holes_px_item_item_item_data in holes_px_item_item_data:
                    holes_px_item_item_item: int
                    holes_px_item_item_item = holes_px_item_item_item_data
                    holes_px_item_item.append(holes_px_item_item_item)

                holes_px_item.append(holes_px_item_item)

            holes_px.append(holes_px_item)

        holes_mm: list[list[list[float]]] | None
        if isinstance(self.holes_mm, list):
            holes_mm = []
            for holes_mm_type_0_item_data in self.holes_mm:
                holes_mm_type_0_item = []
                for holes_mm_type_0_item_item_data in holes_mm_type_0_item_data:
                    holes_mm_type_0_item_item = []
                    for holes_mm_type_0_item_item_item_data in holes_mm_type_0_item_item_data:
                        holes_mm_type_0_item_item_item: float
                        holes_mm_type_0_item_item_item = holes_mm_type_0_item_item_item_data
                        holes_mm_type_0_item_item.append(holes_mm_type_0_item_item_item)

                    holes_mm_type_0_item.append(holes_mm_type_0_item_item)

                holes_mm.append(holes_mm_type_0_item)

        else:
            holes_mm = self.holes_mm

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "exterior_px": exterior_px,
                "exterior_mm": exterior_mm,
                "holes_px": holes_px,
                "holes_mm": holes_mm,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        exterior_px = []
        _exterior_px = d.pop("exterior_px")
        for exterior_px_item_data in _exterior_px:
            exterior_px_item = []
            _exterior_px_item = exterior_px_item_data
            for exterior_px_item_item_data in _exterior_px_item:

                def _parse_exterior_px_item_item(data: object) -> int:
                    return cast(int, data)

                exterior_px_item_item = _parse_exterior_px_item_item(exterior_px_item_item_data)

                exterior_px_item.append(exterior_px_item_item)

            exterior_px.append(exterior_px_item)

        def _parse_exterior_mm(data: object) -> list[list[float]] | None:
            if data is None:
                return data
            try:
                if not isinstance(data, list):
                    raise TypeError()
                exterior_mm_type_0 = []
                _exterior_mm_type_0 = data
                for exterior_mm_type_0_item_data in _exterior_mm_type_0:
                    exterior_mm_type_0_item = []
                    _exterior_mm_type_0_item = exterior_mm_type_0_item_data
                    for exterior_mm_type_0_item_item_data in _exterior_mm_type_0_item:

                        def _parse_exterior_mm_type_0_item_item(data: object) -> float:
                            return cast(float, data)

                        exterior_mm_type_0_item_item = _parse_exterior_mm_type_0_item_item(
                            exterior_mm_type_0_item_item_data
                        )

                        exterior_mm_type_0_item.append(exterior_mm_type_0_item_item)

                    exterior_mm_type_0.append(exterior_mm_type_0_item)

                return exterior_mm_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[list[float]] | None, data)

        exterior_mm = _parse_exterior_mm(d.pop("exterior_mm"))

        holes_px = []
        _holes_px = d.pop("holes_px")
        for holes_px_item_data in _holes_px:
            holes_px_item = []
            _holes_px_item = holes_px_item_data
            for holes_px_item_item_data in _holes_px_item:
                holes_px_item_item = []
                _holes_px_item_item = holes_px_item_item_data
                for holes_px_item_item_item_data in _holes_px_item_item:

                    def _parse_holes_px_item_item_item(data: object) -> int:
                        return cast(int, data)

                    holes_px_item_item_item = _parse_holes_px_item_item_item(
                        holes_px_item_item_item_data
                    )

                    holes_px_item_item.append(holes_px_item_item_item)

                holes_px_item.append(holes_px_item_item)

            holes_px.append(holes_px_item)

        def _parse_holes_mm(data: object) -> list[list[list[float]]] | None:
            if data is None:
                return data
            try:
                if not isinstance(data, list):
                    raise TypeError()
                holes_mm_type_0 = []
                _holes_mm_type_0 = data
                for holes_mm_type_0_item_data in _holes_mm_type_0:
                    holes_mm_type_0_item = []
                    _holes_mm_type_0_item = holes_mm_type_0_item_data
                    for holes_mm_type_0_item_item_data in _holes_mm_type_0_item:
                        holes_mm_type_0_item_item = []
                        _holes_mm_type_0_item_item = holes_mm_type_0_item_item_data
                        for holes_mm_type_0_item_item_item_data in _holes_mm_type_0_item_item:

                            def _parse_holes_mm_type_0_item_item_item(data: object) -> float:
                                return cast(float, data)

                            holes_mm_type_0_item_item_item = _parse_holes_mm_type_0_item_item_item(
                                holes_mm_type_0_item_item_item_data
                            )

                            holes_mm_type_0_item_item.append(holes_mm_type_0_item_item_item)

                        holes_mm_type_0_item.append(holes_mm_type_0_item_item)

                    holes_mm_type_0.append(holes_mm_type_0_item)

                return holes_mm_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[list[list[float]]] | None, data)

        holes_mm = _parse_holes_mm(d.pop("holes_mm"))

        polygon_document = cls(
            exterior_px=exterior_px,
            exterior_mm=exterior_mm,
            holes_px=holes_px,
            holes_mm=holes_mm,
        )

        polygon_document.additional_properties = d
        return polygon_document

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
