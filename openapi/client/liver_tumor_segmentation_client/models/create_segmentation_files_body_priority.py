from enum import StrEnum


class CreateSegmentationFilesBodyPriority(StrEnum):
    ROUTINE = "routine"
    STAT = "stat"

    def __str__(self) -> str:
        return str(self.value)
