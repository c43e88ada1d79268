from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.source_document_format import SourceDocumentFormat

T = TypeVar("T", bound="SourceDocument")


@_attrs_define
class SourceDocument:
    """What was segmented. Slices count from 0 along the slice normal, from the feet if axial.

    Attributes:
        format_ (SourceDocumentFormat):
        slices (int):
        rows (int):
        columns (int):
        pixel_spacing_mm (list[float] | None): between rows, columns
        slice_spacing_mm (float | None):
        orientation (None | str): where slices, rows and columns point: H F A P L R; null for an image
        study_instance_uid (None | str):
        series_instance_uid (None | str):
        sop_instance_uids (list[str]): by slice, all the same for one multi-frame instance; empty unless DICOM
        frame_numbers (list[int]): by slice, from 1; empty unless DICOM with several frames in an instance
    """

    format_: SourceDocumentFormat
    slices: int
    rows: int
    columns: int
    pixel_spacing_mm: list[float] | None
    slice_spacing_mm: float | None
    orientation: None | str
    study_instance_uid: None | str
    series_instance_uid: None | str
    sop_instance_uids: list[str]
    frame_numbers: list[int]
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        format_ = self.format_.value

        slices = self.slices

        rows = self.rows

        columns = self.columns

        pixel_spacing_mm: list[float] | None
        if isinstance(self.pixel_spacing_mm, list):
            pixel_spacing_mm = []
            for pixel_spacing_mm_type_0_item_data in self.pixel_spacing_mm:
                pixel_spacing_mm_type_0_item: float
                pixel_spacing_mm_type_0_item = pixel_spacing_mm_type_0_item_data
                pixel_spacing_mm.append(pixel_spacing_mm_type_0_item)

        else:
            pixel_spacing_mm = self.pixel_spacing_mm

        slice_spacing_mm: float | None
        slice_spacing_mm = self.slice_spacing_mm

        orientation: None | str
        orientation = self.orientation

        study_instance_uid: None | str
        study_instance_uid = self.study_instance_uid

        series_instance_uid: None | str
        series_instance_uid = self.series_instance_uid

        sop_instance_uids = self.sop_instance_uids

        frame_numbers = self.frame_numbers

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "format": format_,
                "slices": slices,
                "rows": rows,
                "columns": columns,
                "pixel_spacing_mm": pixel_spacing_mm,
                "slice_spacing_mm": slice_spacing_mm,
                "orientation": orientation,
                "study_instance_uid": study_instance_uid,
                "series_instance_uid": series_instance_uid,
                "sop_instance_uids": sop_instance_uids,
                "frame_numbers": frame_numbers,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        format_ = SourceDocumentFormat(d.pop("format"))

        slices = d.pop("slices")

        rows = d.pop("rows")

        columns = d.pop("columns")

        def _parse_pixel_spacing_mm(data: object) -> list[float] | None:
            if data is None:
                return data
            try:
                if not isinstance(data, list):
                    raise TypeError()
                pixel_spacing_mm_type_0 = []
                _pixel_spacing_mm_type_0 = data
                for pixel_spacing_mm_type_0_item_data in _pixel_spacing_mm_type_0:

                    def _parse_pixel_spacing_mm_type_0_item(data: object) -> float:
                        return cast(float, data)

                    pixel_spacing_mm_type_0_item = _parse_pixel_spacing_mm_type_0_item(
                        pixel_spacing_mm_type_0_item_data
                    )

                    pixel_spacing_mm_type_0.append(pixel_spacing_mm_type_0_item)

                return pixel_spacing_mm_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[float] | None, data)

        pixel_spacing_mm = _parse_pixel_spacing_mm(d.pop("pixel_spacing_mm"))

        def _parse_slice_spacing_mm(data: object) -> float | None:
            if data is None:
                return data
            return cast(float | None, data)

        slice_spacing_mm = _parse_slice_spacing_mm(d.pop("slice_spacing_mm"))

        def _parse_orientation(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        orientation = _parse_orientation(d.pop("orientation"))

        def _parse_study_instance_uid(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        study_instance_uid = _parse_study_instance_uid(d.pop("study_instance_uid"))

        def _parse_series_instance_uid(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        series_instance_uid = _parse_series_instance_uid(d.pop("series_instance_uid"))

        sop_instance_uids = cast(list[str], d.pop("sop_instance_uids"))

        frame_numbers = cast(list[int], d.pop("frame_numbers"))

        source_document = cls(
            format_=format_,
            slices=slices,
            rows=rows,
            columns=columns,
            pixel_spacing_mm=pixel_spacing_mm,
            slice_spacing_mm=slice_spacing_mm,
            orientation=orientation,
            study_instance_uid=study_instance_uid,
            series_instance_uid=series_instance_uid,
            sop_instance_uids=sop_instance_uids,
            frame_numbers=frame_numbers,
        )

        source_document.additional_properties = d
        return source_document

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
