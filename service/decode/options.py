"""What a request may say about its images, and the limits they must keep."""

from dataclasses import dataclass

from service.decode.archive import ArchiveLimits
from service.volume import HounsfieldWindow

MAX_SIDE_PX = 4096
"""Rows and columns of a slice: the largest CT has 2048, and class scores take 12 bytes a pixel."""


@dataclass(frozen=True)
class DecodeOptions:
    """Said once a request, for all of its files."""

    archive: ArchiveLimits
    max_voxels: int
    modality: str
    model_window: HounsfieldWindow
    image_window: HounsfieldWindow | None = None
    """What grey 0 and full scale stand for; None takes the model's for 8 bits, with a notice."""
    pixel_spacing_mm: float | None = None
    """Spacing of an image without any; other formats know theirs."""
    series_instance_uid: str | None = None
    resample: bool = False
    """Take a tilted or unevenly spaced series, which is refused otherwise."""
