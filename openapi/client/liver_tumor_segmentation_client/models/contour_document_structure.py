from enum import StrEnum


class ContourDocumentStructure(StrEnum):
    LESION = "lesion"
    LIVER = "liver"

    def __str__(self) -> str:
        return str(self.value)
