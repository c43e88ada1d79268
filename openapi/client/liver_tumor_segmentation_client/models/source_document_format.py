from enum import StrEnum


class SourceDocumentFormat(StrEnum):
    BMP = "bmp"
    DICOM = "dicom"
    JPEG = "jpeg"
    NIFTI = "nifti"
    PNG = "png"
    TIFF = "tiff"

    def __str__(self) -> str:
        return str(self.value)
