from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define

from ..models.series_parameters_objects_item import SeriesParametersObjectsItem
from ..models.series_parameters_priority import SeriesParametersPriority
from ..types import UNSET, Unset

T = TypeVar("T", bound="SeriesParameters")


@_attrs_define
class SeriesParameters:
    """The body of `POST /v1/segmentations/dicomweb`: a series of a PACS, and what goes back.

    Attributes:
        series_instance_uid (str):
        origin (str): Name of the PACS node of the settings that has it.
        study_instance_uid (str):
        resample (bool | Unset): Take a tilted or unevenly spaced axial series, which is refused otherwise. Default:
            False.
        pixel_spacing_mm (float | None | Unset): Pixel side of images; DICOM and NIfTI know theirs.
        window_lower_hu (float | None | Unset): What grey 0 of an image stands for; with window_upper_hu.
        window_upper_hu (float | None | Unset): What grey 255 of an 8-bit image, 65535 of a 16-bit one, stands for; with
            window_lower_hu. 16-bit images need both.
        drop_liver_fragments (bool | Unset): Drop pieces of liver under 5 % of the largest, and all where that is under
            1 mL, in volumes. Default: True.
        drop_distant_tumor (bool | Unset): Drop tumour farther than 5 mm from the filled liver, in volumes. Default:
            True.
        drop_small_lesions (bool | Unset): Drop lesions under the model's smallest size. Default: True.
        drop_unlikely_lesions (bool | Unset): Drop lesions that the model's limits take for none: hardly surrounded by
            liver, of fluid, or no different from the liver around them. Default: True.
        priority (SeriesParametersPriority | Unset): `stat` comes before all `routine` ones that have not begun.
            Default: SeriesParametersPriority.ROUTINE.
        deadline_s (float | None | Unset): Seconds from now after which the segmentation fails if it is not done.
        destination (None | str | Unset): The node that the objects are sent to; by default the origin.
        objects (list[SeriesParametersObjectsItem] | Unset): Which objects are sent, none if empty; sr needs seg.
    """

    series_instance_uid: str
    origin: str
    study_instance_uid: str
    resample: bool | Unset = False
    pixel_spacing_mm: float | None | Unset = UNSET
    window_lower_hu: float | None | Unset = UNSET
    window_upper_hu: float | None | Unset = UNSET
    drop_liver_fragments: bool | Unset = True
    drop_distant_tumor: bool | Unset = True
    drop_small_lesions: bool | Unset = True
    drop_unlikely_lesions: bool | Unset = True
    priority: SeriesParametersPriority | Unset = SeriesParametersPriority.ROUTINE
    deadline_s: float | None | Unset = UNSET
    destination: None | str | Unset = UNSET
    objects: list[SeriesParametersObjectsItem] | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        series_instance_uid = self.series_instance_uid

        origin = self.origin

        study_instance_uid = self.study_instance_uid

        resample = self.resample

        pixel_spacing_mm: float | None | Unset
        if isinstance(self.pixel_spacing_mm, Unset):
            pixel_spacing_mm = UNSET
        else:
            pixel_spacing_mm = self.pixel_spacing_mm

        window_lower_hu: float | None | Unset
        if isinstance(self.window_lower_hu, Unset):
            window_lower_hu = UNSET
        else:
            window_lower_hu = self.window_lower_hu

        window_upper_hu: float | None | Unset
        if isinstance(self.window_upper_hu, Unset):
            window_upper_hu = UNSET
        else:
            window_upper_hu = self.window_upper_hu

        drop_liver_fragments = self.drop_liver_fragments

        drop_distant_tumor = self.drop_distant_tumor

        drop_small_lesions = self.drop_small_lesions

        drop_unlikely_lesions = self.drop_unlikely_lesions

        priority: str | Unset = UNSET
        if not isinstance(self.priority, Unset):
            priority = self.priority.value

        deadline_s: float | None | Unset
        if isinstance(self.deadline_s, Unset):
            deadline_s = UNSET
        else:
            deadline_s = self.deadline_s

        destination: None | str | Unset
        if isinstance(self.destination, Unset):
            destination = UNSET
        else:
            destination = self.destination

        objects: list[str] | Unset = UNSET
        if not isinstance(self.objects, Unset):
            objects = []
            for objects_item_data in self.objects:
                objects_item = objects_item_data.value
                objects.append(objects_item)

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "series_instance_uid": series_instance_uid,
                "origin": origin,
                "study_instance_uid": study_instance_uid,
            }
        )
        if resample is not UNSET:
            field_dict["resample"] = resample
        if pixel_spacing_mm is not UNSET:
            field_dict["pixel_spacing_mm"] = pixel_spacing_mm
        if window_lower_hu is not UNSET:
            field_dict["window_lower_hu"] = window_lower_hu
        if window_upper_hu is not UNSET:
            field_dict["window_upper_hu"] = window_upper_hu
        if drop_liver_fragments is not UNSET:
            field_dict["drop_liver_fragments"] = drop_liver_fragments
        if drop_distant_tumor is not UNSET:
            field_dict["drop_distant_tumor"] = drop_distant_tumor
        if drop_small_lesions is not UNSET:
            field_dict["drop_small_lesions"] = drop_small_lesions
        if drop_unlikely_lesions is not UNSET:
            field_dict["drop_unlikely_lesions"] = drop_unlikely_lesions
        if priority is not UNSET:
            field_dict["priority"] = priority
        if deadline_s is not UNSET:
            field_dict["deadline_s"] = deadline_s
        if destination is not UNSET:
            field_dict["destination"] = destination
        if objects is not UNSET:
            field_dict["objects"] = objects

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        series_instance_uid = d.pop("series_instance_uid")

        origin = d.pop("origin")

        study_instance_uid = d.pop("study_instance_uid")

        resample = d.pop("resample", UNSET)

        def _parse_pixel_spacing_mm(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(float | None | Unset, data)

        pixel_spacing_mm = _parse_pixel_spacing_mm(d.pop("pixel_spacing_mm", UNSET))

        def _parse_window_lower_hu(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(float | None | Unset, data)

        window_lower_hu = _parse_window_lower_hu(d.pop("window_lower_hu", UNSET))

        def _parse_window_upper_hu(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(float | None | Unset, data)

        window_upper_hu = _parse_window_upper_hu(d.pop("window_upper_hu", UNSET))

        drop_liver_fragments = d.pop("drop_liver_fragments", UNSET)

        drop_distant_tumor = d.pop("drop_distant_tumor", UNSET)

        drop_small_lesions = d.pop("drop_small_lesions", UNSET)

        drop_unlikely_lesions = d.pop("drop_unlikely_lesions", UNSET)

        _priority = d.pop("priority", UNSET)
        priority: SeriesParametersPriority | Unset
        if isinstance(_priority, Unset):
            priority = UNSET
        else:
            priority = SeriesParametersPriority(_priority)

        def _parse_deadline_s(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(float | None | Unset, data)

        deadline_s = _parse_deadline_s(d.pop("deadline_s", UNSET))

        def _parse_destination(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(None | str | Unset, data)

        destination = _parse_destination(d.pop("destination", UNSET))

        _objects = d.pop("objects", UNSET)
        objects: list[SeriesParametersObjectsItem] | Unset = UNSET
        if _objects is not UNSET:
            objects = []
            for objects_item_data in _objects:
                objects_item = SeriesParametersObjectsItem(objects_item_data)

                objects.append(objects_item)

        series_parameters = cls(
            series_instance_uid=series_instance_uid,
            origin=origin,
            study_instance_uid=study_instance_uid,
            resample=resample,
            pixel_spacing_mm=pixel_spacing_mm,
            window_lower_hu=window_lower_hu,
            window_upper_hu=window_upper_hu,
            drop_liver_fragments=drop_liver_fragments,
            drop_distant_tumor=drop_distant_tumor,
            drop_small_lesions=drop_small_lesions,
            drop_unlikely_lesions=drop_unlikely_lesions,
            priority=priority,
            deadline_s=deadline_s,
            destination=destination,
            objects=objects,
        )

        return series_parameters
