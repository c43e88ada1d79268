from enum import StrEnum


class WarningDocumentCode(StrEnum):
    FIELD_OF_VIEW_UNUSUAL = "field_of_view_unusual"
    HU_RANGE_UNUSUAL = "hu_range_unusual"
    NO_LIVER_FOUND = "no_liver_found"
    OBJECTS_LEFT_OUT = "objects_left_out"
    ORIENTATION_UNKNOWN = "orientation_unknown"
    OTHER_ACQUISITIONS = "other_acquisitions"
    OTHER_SERIES = "other_series"
    RESAMPLED = "resampled"
    SENT_TWICE = "sent_twice"
    SPACING_UNKNOWN = "spacing_unknown"
    THICKNESS_UNKNOWN = "thickness_unknown"
    WINDOW_ASSUMED = "window_assumed"

    def __str__(self) -> str:
        return str(self.value)
