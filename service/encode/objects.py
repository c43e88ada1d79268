"""Names of the DICOM objects of a result, as requests and the PACS file write them."""

from collections.abc import Collection
from typing import Literal

ObjectName = Literal["seg", "labelmap", "sr", "rtstruct", "overlays"]

USUAL: tuple[ObjectName, ...] = ("seg", "sr", "rtstruct")
"""What every result of a DICOM source has; the others are made where they are asked for."""

FILES: dict[ObjectName, str] = {
    "seg": "mask.dcm",
    "labelmap": "labelmap.dcm",
    "sr": "report.dcm",
    "rtstruct": "rtstruct.dcm",
    "overlays": "overlays",
}
"""Where an object lies among a result's files; `overlays` is a folder, with a file for a slice."""


def check_objects(objects: Collection[str]) -> None:
    """Raise `ValueError` unless these can be delivered together."""
    if not objects:
        raise ValueError("name at least one object")
    if len(set(objects)) != len(objects):
        raise ValueError("name each object once")
    if "sr" in objects and "seg" not in objects:
        raise ValueError("sr needs seg beside it, since the report refers to its segments")
