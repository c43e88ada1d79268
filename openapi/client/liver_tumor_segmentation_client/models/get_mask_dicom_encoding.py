from enum import StrEnum


class GetMaskDicomEncoding(StrEnum):
    BINARY = "binary"
    LABELMAP = "labelmap"

    def __str__(self) -> str:
        return str(self.value)
