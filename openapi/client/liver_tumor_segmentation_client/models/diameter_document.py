from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="DiameterDocument")


@_attrs_define
class DiameterDocument:
    """A length in the axial plane; ends are (slice, row, column) and LPS millimetres.

    Attributes:
        length_mm (float | None):
        length_px (float | None): given where length_mm is not known
        ends_px (list[list[float]]):
        ends_mm (list[list[float]] | None):
    """

    length_mm: float | None
    length_px: float | None
    ends_px: list[list[float]]
    ends_mm: list[list[float]] | None
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        length_mm: float | None
        length_mm = self.length_mm

        length_px: float | None
        length_px = self.length_px

        ends_px = []
        for ends_px_item_data in self.ends_px:
            ends_px_item: list[float]
            if isinstance(ends_px_item_data, list):
                ends_px_item = []
                for ends_px_item_type_0_item_data in ends_px_item_data:
                    ends_px_item_type_0_item: float
                    ends_px_item_type_0_item = ends_px_item_type_0_item_data
                    ends_px_item.append(ends_px_item_type_0_item)

            ends_px.append(ends_px_item)

        ends_mm: list[list[float]] | None
        if isinstance(self.ends_mm, list):
            ends_mm = []
            for ends_mm_type_0_item_data in self.ends_mm:
                ends_mm_type_0_item: list[float]
                if isinstance(ends_mm_type_0_item_data, list):
                    ends_mm_type_0_item = []
                    for ends_mm_type_0_item_type_0_item_data in ends_mm_type_0_item_data:
                        ends_mm_type_0_item_type_0_item: float
                        ends_mm_type_0_item_type_0_item = ends_mm_type_0_item_type_0_item_data
                        ends_mm_type_0_item.append(ends_mm_type_0_item_type_0_item)

                ends_mm.append(ends_mm_type_0_item)

        else:
            ends_mm = self.ends_mm

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "length_mm": length_mm,
                "length_px": length_px,
                "ends_px": ends_px,
                "ends_mm": ends_mm,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)

        def _parse_length_mm(data: object) -> float | None:
            if data is None:
                return data
            return cast(float | None, data)

        length_mm = _parse_length_mm(d.pop("length_mm"))

        def _parse_length_px(data: object) -> float | None:
            if data is None:
                return data
            return cast(float | None, data)

        length_px = _parse_length_px(d.pop("length_px"))

        ends_px = []
        _ends_px = d.pop("ends_px")
        for ends_px_item_data in _ends_px:

            def _parse_ends_px_item(data: object) -> list[float]:
                if not isinstance(data, list):
                    raise TypeError()
                ends_px_item_type_0 = []
                _ends_px_item_type_0 = data
                for ends_px_item_type_0_item_data in _ends_px_item_type_0:

                    def _parse_ends_px_item_type_0_item(data: object) -> float:
                        return cast(float, data)

                    ends_px_item_type_0_item = _parse_ends_px_item_type_0_item(
                        ends_px_item_type_0_item_data
                    )

                    ends_px_item_type_0.append(ends_px_item_type_0_item)

                return ends_px_item_type_0

            ends_px_item = _parse_ends_px_item(ends_px_item_data)

            ends_px.append(ends_px_item)

        def _parse_ends_mm(data: object) -> list[list[float]] | None:
            if data is None:
                return data
            try:
                if not isinstance(data, list):
                    raise TypeError()
                ends_mm_type_0 = []
                _ends_mm_type_0 = data
                for ends_mm_type_0_item_data in _ends_mm_type_0:

                    def _parse_ends_mm_type_0_item(data: object) -> list[float]:
                        if not isinstance(data, list):
                            raise TypeError()
                        ends_mm_type_0_item_type_0 = []
                        _ends_mm_type_0_item_type_0 = data
                        for ends_mm_type_0_item_type_0_item_data in _ends_mm_type_0_item_type_0:

                            def _parse_ends_mm_type_0_item_type_0_item(data: object) -> float:
                                return cast(float, data)

                            ends_mm_type_0_item_type_0_item = (
                                _parse_ends_mm_type_0_item_type_0_item(
                                    ends_mm_type_0_item_type_0_item_data
                                )
                            )

                            ends_mm_type_0_item_type_0.append(ends_mm_type_0_item_type_0_item)

                        return ends_mm_type_0_item_type_0

                    ends_mm_type_0_item = _parse_ends_mm_type_0_item(ends_mm_type_0_item_data)

                    ends_mm_type_0.append(ends_mm_type_0_item)

                return ends_mm_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[list[float]] | None, data)

        ends_mm = _parse_ends_mm(d.pop("ends_mm"))

        diameter_document = cls(
            length_mm=length_mm,
            length_px=length_px,
            ends_px=ends_px,
            ends_mm=ends_mm,
        )

        diameter_document.additional_properties = d
        return diameter_document

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
