from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.contour_document import ContourDocument


T = TypeVar("T", bound="ContoursDocument")


@_attrs_define
class ContoursDocument:
    """All outlines of one result.

    Attributes:
        contours (list[ContourDocument]):
    """

    contours: list[ContourDocument]
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        contours = []
        for contours_item_data in self.contours:
            contours_item = contours_item_data.to_dict()
            contours.append(contours_item)

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "contours": contours,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.contour_document import ContourDocument  # noqa: PLC0415

        d = dict(src_dict)
        contours = []
        _contours = d.pop("contours")
        for contours_item_data in _contours:
            contours_item = ContourDocument.from_dict(contours_item_data)

            contours.append(contours_item)

        contours_document = cls(
            contours=contours,
        )

        contours_document.additional_properties = d
        return contours_document

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
