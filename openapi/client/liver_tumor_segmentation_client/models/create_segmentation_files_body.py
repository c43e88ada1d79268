from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any, TypeVar

from attrs import define as _attrs_define

from .. import types
from ..models.create_segmentation_files_body_priority import (
    CreateSegmentationFilesBodyPriority,
)
from ..types import UNSET, File, Unset

T = TypeVar("T", bound="CreateSegmentationFilesBody")


@_attrs_define
class CreateSegmentationFilesBody:
    """
    Attributes:
        files (list[File]): Images or archives of them, each with a file name, which is not read.
        series_instance_uid (str | Unset): Which CT series; by default the axial one with most slices, then thinnest.
        resample (bool | Unset): Take a tilted or unevenly spaced axial series, which is refused otherwise. By default
            false.
        pixel_spacing_mm (float | Unset): Pixel side of images; DICOM and NIfTI know theirs.
        window_lower_hu (float | Unset): What grey 0 of an image stands for; with window_upper_hu.
        window_upper_hu (float | Unset): What grey 255 of an 8-bit image, 65535 of a 16-bit one, stands for; with
            window_lower_hu. 16-bit images need both.
        drop_liver_fragments (bool | Unset): Drop pieces of liver under 5 % of the largest, and all where that is under
            1 mL, in volumes. By default true.
        drop_distant_tumor (bool | Unset): Drop tumour farther than 5 mm from the filled liver, in volumes. By default
            true.
        drop_small_lesions (bool | Unset): Drop lesions under the model's smallest size. By default true.
        drop_unlikely_lesions (bool | Unset): Drop lesions that the model's limits take for none: hardly surrounded by
            liver, of fluid, or no different from the liver around them. By default true.
        priority (CreateSegmentationFilesBodyPriority | Unset): `stat` comes before all `routine` ones that have not
            begun. By default "routine".
        deadline_s (float | Unset): Seconds from now after which the segmentation fails if it is not done.
        destination (str | Unset): Name of the PACS node of the settings that the objects are sent to.
        objects (str | Unset): Which objects, separated by commas; by default seg,sr,rtstruct. sr needs seg.
    """

    files: list[File]
    series_instance_uid: str | Unset = UNSET
    resample: bool | Unset = UNSET
    pixel_spacing_mm: float | Unset = UNSET
    window_lower_hu: float | Unset = UNSET
    window_upper_hu: float | Unset = UNSET
    drop_liver_fragments: bool | Unset = UNSET
    drop_distant_tumor: bool | Unset = UNSET
    drop_small_lesions: bool | Unset = UNSET
    drop_unlikely_lesions: bool | Unset = UNSET
    priority: CreateSegmentationFilesBodyPriority | Unset = UNSET
    deadline_s: float | Unset = UNSET
    destination: str | Unset = UNSET
    objects: str | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        files = []
        for files_item_data in self.files:
            files_item = files_item_data.to_tuple()

            files.append(files_item)

        series_instance_uid = self.series_instance_uid

        resample = self.resample

        pixel_spacing_mm = self.pixel_spacing_mm

        window_lower_hu = self.window_lower_hu

        window_upper_hu = self.window_upper_hu

        drop_liver_fragments = self.drop_liver_fragments

        drop_distant_tumor = self.drop_distant_tumor

        drop_small_lesions = self.drop_small_lesions

        drop_unlikely_lesions = self.drop_unlikely_lesions

        priority: str | Unset = UNSET
        if not isinstance(self.priority, Unset):
            priority = self.priority.value

        deadline_s = self.deadline_s

        destination = self.destination

        objects = self.objects

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "files": files,
            }
        )
        if series_instance_uid is not UNSET:
            field_dict["series_instance_uid"] = series_instance_uid
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

    def to_multipart(self) -> types.RequestFiles:
        files: types.RequestFiles = []

        for files_item_element in self.files:
            files.append(("files", files_item_element.to_tuple()))

        if not isinstance(self.series_instance_uid, Unset):
            files.append(
                (
                    "series_instance_uid",
                    (None, str(self.series_instance_uid).encode(), "text/plain"),
                )
            )

        if not isinstance(self.resample, Unset):
            files.append(("resample", (None, str(self.resample).encode(), "text/plain")))

        if not isinstance(self.pixel_spacing_mm, Unset):
            files.append(
                ("pixel_spacing_mm", (None, str(self.pixel_spacing_mm).encode(), "text/plain"))
            )

        if not isinstance(self.window_lower_hu, Unset):
            files.append(
                ("window_lower_hu", (None, str(self.window_lower_hu).encode(), "text/plain"))
            )

        if not isinstance(self.window_upper_hu, Unset):
            files.append(
                ("window_upper_hu", (None, str(self.window_upper_hu).encode(), "text/plain"))
            )

        if not isinstance(self.drop_liver_fragments, Unset):
            files.append(
                (
                    "drop_liver_fragments",
                    (None, str(self.drop_liver_fragments).encode(), "text/plain"),
                )
            )

        if not isinstance(self.drop_distant_tumor, Unset):
            files.append(
                ("drop_distant_tumor", (None, str(self.drop_distant_tumor).encode(), "text/plain"))
            )

        if not isinstance(self.drop_small_lesions, Unset):
            files.append(
                ("drop_small_lesions", (None, str(self.drop_small_lesions).encode(), "text/plain"))
            )

        if not isinstance(self.drop_unlikely_lesions, Unset):
            files.append(
                (
                    "drop_unlikely_lesions",
                    (None, str(self.drop_unlikely_lesions).encode(), "text/plain"),
                )
            )

        if not isinstance(self.priority, Unset):
            files.append(("priority", (None, str(self.priority.value).encode(), "text/plain")))

        if not isinstance(self.deadline_s, Unset):
            files.append(("deadline_s", (None, str(self.deadline_s).encode(), "text/plain")))

        if not isinstance(self.destination, Unset):
            files.append(("destination", (None, str(self.destination).encode(), "text/plain")))

        if not isinstance(self.objects, Unset):
            files.append(("objects", (None, str(self.objects).encode(), "text/plain")))

        return files

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        files = []
        _files = d.pop("files")
        for files_item_data in _files:
            files_item = File(payload=BytesIO(files_item_data))

            files.append(files_item)

        series_instance_uid = d.pop("series_instance_uid", UNSET)

        resample = d.pop("resample", UNSET)

        pixel_spacing_mm = d.pop("pixel_spacing_mm", UNSET)

        window_lower_hu = d.pop("window_lower_hu", UNSET)

        window_upper_hu = d.pop("window_upper_hu", UNSET)

        drop_liver_fragments = d.pop("drop_liver_fragments", UNSET)

        drop_distant_tumor = d.pop("drop_distant_tumor", UNSET)

        drop_small_lesions = d.pop("drop_small_lesions", UNSET)

        drop_unlikely_lesions = d.pop("drop_unlikely_lesions", UNSET)

        _priority = d.pop("priority", UNSET)
        priority: CreateSegmentationFilesBodyPriority | Unset
        if isinstance(_priority, Unset):
            priority = UNSET
        else:
            priority = CreateSegmentationFilesBodyPriority(_priority)

        deadline_s = d.pop("deadline_s", UNSET)

        destination = d.pop("destination", UNSET)

        objects = d.pop("objects", UNSET)

        create_segmentation_files_body = cls(
            files=files,
            series_instance_uid=series_instance_uid,
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

        return create_segmentation_files_body
