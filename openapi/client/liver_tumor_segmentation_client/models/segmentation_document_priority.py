from enum import StrEnum


class SegmentationDocumentPriority(StrEnum):
    ROUTINE = "routine"
    STAT = "stat"

    def __str__(self) -> str:
        return str(self.value)
