from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="Links")


@_attrs_define
class Links:
    """Where the parts of a result are; `{slice}` stands for a slice's number, from 0.

    Attributes:
        self_ (str):
        events (str):
        mask_nifti (str):
        mask_dicom (str):
        report_dicom (str):
        rtstruct (str):
        overlays (str):
        report_fhir (str):
        image_nifti (str):
        mask_png (str):
        overlay_png (str):
        preview (str):
        contours (str):
    """

    self_: str
    events: str
    mask_nifti: str
    mask_dicom: str
    report_dicom: str
    rtstruct: str
    overlays: str
    report_fhir: str
    image_nifti: str
    mask_png: str
    overlay_png: str
    preview: str
    contours: str
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        self_ = self.self_

        events = self.events

        mask_nifti = self.mask_nifti

        mask_dicom = self.mask_dicom

        report_dicom = self.report_dicom

        rtstruct = self.rtstruct

        overlays = self.overlays

        report_fhir = self.report_fhir

        image_nifti = self.image_nifti

        mask_png = self.mask_png

        overlay_png = self.overlay_png

        preview = self.preview

        contours = self.contours

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "self": self_,
                "events": events,
                "mask_nifti": mask_nifti,
                "mask_dicom": mask_dicom,
                "report_dicom": report_dicom,
                "rtstruct": rtstruct,
                "overlays": overlays,
                "report_fhir": report_fhir,
                "image_nifti": image_nifti,
                "mask_png": mask_png,
                "overlay_png": overlay_png,
                "preview": preview,
                "contours": contours,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        self_ = d.pop("self")

        events = d.pop("events")

        mask_nifti = d.pop("mask_nifti")

        mask_dicom = d.pop("mask_dicom")

        report_dicom = d.pop("report_dicom")

        rtstruct = d.pop("rtstruct")

        overlays = d.pop("overlays")

        report_fhir = d.pop("report_fhir")

        image_nifti = d.pop("image_nifti")

        mask_png = d.pop("mask_png")

        overlay_png = d.pop("overlay_png")

        preview = d.pop("preview")

        contours = d.pop("contours")

        links = cls(
            self_=self_,
            events=events,
            mask_nifti=mask_nifti,
            mask_dicom=mask_dicom,
            report_dicom=report_dicom,
            rtstruct=rtstruct,
            overlays=overlays,
            report_fhir=report_fhir,
            image_nifti=image_nifti,
            mask_png=mask_png,
            overlay_png=overlay_png,
            preview=preview,
            contours=contours,
        )

        links.additional_properties = d
        return links

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
