from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.removal_document_rule import RemovalDocumentRule

T = TypeVar("T", bound="RemovalDocument")


@_attrs_define
class RemovalDocument:
    """What one post-processing rule took out of the network's labels, or why it did not run.

    Attributes:
        rule (RemovalDocumentRule):
        applied (bool):
        reason (None | str):
        components (int):
        voxels (int):
    """

    rule: RemovalDocumentRule
    applied: bool
    reason: None | str
    components: int
    voxels: int
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        rule = self.rule.value

        applied = self.applied

        reason: None | str
        reason = self.reason

        components = self.components

        voxels = self.voxels

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "rule": rule,
                "applied": applied,
                "reason": reason,
                "components": components,
                "voxels": voxels,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        rule = RemovalDocumentRule(d.pop("rule"))

        applied = d.pop("applied")

        def _parse_reason(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        reason = _parse_reason(d.pop("reason"))

        components = d.pop("components")

        voxels = d.pop("voxels")

        removal_document = cls(
            rule=rule,
            applied=applied,
            reason=reason,
            components=components,
            voxels=voxels,
        )

        removal_document.additional_properties = d
        return removal_document

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
