from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.per_case import PerCase


T = TypeVar("T", bound="Validation")


@_attrs_define
class Validation:
    """How the metrics were obtained, in numbers and in a sentence.

    Attributes:
        method (str):
        cases (int):
        liver_dice_per_case (float): mean over all cases
        tumor_dice_per_case (float): mean over the cases that have tumour
        cases_with_tumor (int):
        per_case (PerCase | Unset): Dice by case; tumour null where there is none
    """

    method: str
    cases: int
    liver_dice_per_case: float
    tumor_dice_per_case: float
    cases_with_tumor: int
    per_case: PerCase | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        method = self.method

        cases = self.cases

        liver_dice_per_case = self.liver_dice_per_case

        tumor_dice_per_case = self.tumor_dice_per_case

        cases_with_tumor = self.cases_with_tumor

        per_case: dict[str, Any] | Unset = UNSET
        if not isinstance(self.per_case, Unset):
            per_case = self.per_case.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "method": method,
                "cases": cases,
                "liver_dice_per_case": liver_dice_per_case,
                "tumor_dice_per_case": tumor_dice_per_case,
                "cases_with_tumor": cases_with_tumor,
            }
        )
        if per_case is not UNSET:
            field_dict["per_case"] = per_case

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.per_case import PerCase  # noqa: PLC0415

        d = dict(src_dict)
        method = d.pop("method")

        cases = d.pop("cases")

        liver_dice_per_case = d.pop("liver_dice_per_case")

        tumor_dice_per_case = d.pop("tumor_dice_per_case")

        cases_with_tumor = d.pop("cases_with_tumor")

        _per_case = d.pop("per_case", UNSET)
        per_case: PerCase | Unset
        if isinstance(_per_case, Unset):
            per_case = UNSET
        else:
            per_case = PerCase.from_dict(_per_case)

        validation = cls(
            method=method,
            cases=cases,
            liver_dice_per_case=liver_dice_per_case,
            tumor_dice_per_case=tumor_dice_per_case,
            cases_with_tumor=cases_with_tumor,
            per_case=per_case,
        )

        validation.additional_properties = d
        return validation

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
