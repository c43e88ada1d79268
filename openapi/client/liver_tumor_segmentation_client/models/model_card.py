from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.model_contract import ModelContract
    from ..models.model_document import ModelDocument


T = TypeVar("T", bound="ModelCard")


@_attrs_define
class ModelCard:
    """A model as it runs here, and everything it says of itself.

    Attributes:
        model (ModelDocument): Which model answered, on which device: read from the live session, not from the settings.
        contract (ModelContract): Everything that the service, its callers and its results need to know of a model.
    """

    model: ModelDocument
    contract: ModelContract
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        model = self.model.to_dict()

        contract = self.contract.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "model": model,
                "contract": contract,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.model_contract import ModelContract  # noqa: PLC0415
        from ..models.model_document import ModelDocument  # noqa: PLC0415

        d = dict(src_dict)
        model = ModelDocument.from_dict(d.pop("model"))

        contract = ModelContract.from_dict(d.pop("contract"))

        model_card = cls(
            model=model,
            contract=contract,
        )

        model_card.additional_properties = d
        return model_card

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
