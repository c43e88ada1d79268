from enum import StrEnum


class SeriesParametersObjectsItem(StrEnum):
    LABELMAP = "labelmap"
    OVERLAYS = "overlays"
    RTSTRUCT = "rtstruct"
    SEG = "seg"
    SR = "sr"

    def __str__(self) -> str:
        return str(self.value)
