"""What a result says beside its numbers: warnings with stable codes."""

from dataclasses import dataclass
from typing import Literal

NoticeCode = Literal[
    "window_assumed",
    "spacing_unknown",
    "thickness_unknown",
    "hu_range_unusual",
    "orientation_unknown",
    "field_of_view_unusual",
    "objects_left_out",
    "other_series",
    "other_acquisitions",
    "sent_twice",
    "resampled",
    "no_liver_found",
]

NOTICES: dict[NoticeCode, str] = {
    "window_assumed": "An 8-bit image was taken as windowed with the model's Hounsfield window.",
    "spacing_unknown": "The pixel spacing is not known: areas are in pixels, volumes are null.",
    "thickness_unknown": "The slice thickness is not known: volumes are null.",
    "hu_range_unusual": "The values do not look like Hounsfield units.",
    "orientation_unknown": "The file does not say how the patient lies in it.",
    "field_of_view_unusual": "The field of view is outside what the model was trained on.",
    "objects_left_out": "Objects that are no slices of the CT volume were left out.",
    "other_series": "The data holds further CT series, which were not segmented.",
    "other_acquisitions": "The series was acquired several times; one of them was segmented.",
    "sent_twice": "A file came twice and was read once.",
    "resampled": "Tilted or unevenly spaced slices; the model saw a regular volume made from them.",
    "no_liver_found": "The model found no liver.",
}
"""Every code and what it means, as the documentation lists them."""


@dataclass(frozen=True)
class Notice:
    """One warning of one result; the message holds no text of the source's headers."""

    code: NoticeCode
    message: str
