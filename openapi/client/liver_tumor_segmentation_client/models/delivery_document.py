from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.delivery_document_objects_item import DeliveryDocumentObjectsItem

if TYPE_CHECKING:
    from ..models.receipt import Receipt


T = TypeVar("T", bound="DeliveryDocument")


@_attrs_define
class DeliveryDocument:
    """What became of the objects that were to be sent to a PACS node.

    `complete` is null until all were tried, false where the node did not take one.

        Attributes:
            destination (str):
            objects (list[DeliveryDocumentObjectsItem]):
            complete (bool | None):
            receipts (list[Receipt]):
    """

    destination: str
    objects: list[DeliveryDocumentObjectsItem]
    complete: bool | None
    receipts: list[Receipt]
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        destination = self.destination

        objects = []
        for objects_item_data in self.objects:
            objects_item = objects_item_data.value
            objects.append(objects_item)

        complete: bool | None
        complete = self.complete

        receipts = []
        for receipts_item_data in self.receipts:
            receipts_item = receipts_item_data.to_dict()
            receipts.append(receipts_item)

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "destination": destination,
                "objects": objects,
                "complete": complete,
                "receipts": receipts,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.receipt import Receipt  # noqa: PLC0415

        d = dict(src_dict)
        destination = d.pop("destination")

        objects = []
        _objects = d.pop("objects")
        for objects_item_data in _objects:
            objects_item = DeliveryDocumentObjectsItem(objects_item_data)

            objects.append(objects_item)

        def _parse_complete(data: object) -> bool | None:
            if data is None:
                return data
            return cast(bool | None, data)

        complete = _parse_complete(d.pop("complete"))

        receipts = []
        _receipts = d.pop("receipts")
        for receipts_item_data in _receipts:
            receipts_item = Receipt.from_dict(receipts_item_data)

            receipts.append(receipts_item)

        delivery_document = cls(
            destination=destination,
            objects=objects,
            complete=complete,
            receipts=receipts,
        )

        delivery_document.additional_properties = d
        return delivery_document

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
