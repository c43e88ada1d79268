from enum import StrEnum


class RemovalDocumentRule(StrEnum):
    DISTANT_TUMOR = "distant_tumor"
    LIVER_FRAGMENTS = "liver_fragments"
    SMALL_LESIONS = "small_lesions"
    UNLIKELY_LESIONS = "unlikely_lesions"

    def __str__(self) -> str:
        return str(self.value)
