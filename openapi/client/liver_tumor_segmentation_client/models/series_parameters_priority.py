from enum import StrEnum


class SeriesParametersPriority(StrEnum):
    ROUTINE = "routine"
    STAT = "stat"

    def __str__(self) -> str:
        return str(self.value)
