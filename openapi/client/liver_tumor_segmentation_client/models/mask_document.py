from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.mask_document_media_type import MaskDocumentMediaType

T = TypeVar("T", bound="MaskDocument")


@_attrs_define
class MaskDocument:
    """The labels as a file: 0 background, 1 liver without lesions, 2 tumour.

    Attributes:
        media_type (MaskDocumentMediaType): PNG for one image, gzipped NIfTI for a volume or a stack of images
        base64 (str):
    """

    media_type: MaskDocumentMediaType
    base64: str
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        media_type = self.media_type.value

        base64 = self.base64

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "media_type": media_type,
                "base64": base64,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        media_type = MaskDocumentMediaType(d.pop("media_type"))

        base64 = d.pop("base64")

        mask_document = cls(
            media_type=media_type,
            base64=base64,
        )

        mask_document.additional_properties = d
        return mask_document

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
