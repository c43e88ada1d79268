from enum import StrEnum


class MaskDocumentMediaType(StrEnum):
    APPLICATIONGZIP = "application/gzip"
    IMAGEPNG = "image/png"

    def __str__(self) -> str:
        return str(self.value)
