"""What a request may say about its images, and the limits they must keep."""

from dataclasses import dataclass

from service.decode.archive import ArchiveLimits
from service.volume import HounsfieldWindow


@dataclass(frozen=True)
class DecodeOptions:
    """Said once a request, for all of its files."""

    archive: ArchiveLimits
    max_voxels: int
    modality: str
    model_window: HounsfieldWindow
    image_window: HounsfieldWindow | None = None
    """Window of an 8-bit image; None takes the model's, with a notice."""
    pixel_spacing_mm: float | None = None
    """Spacing of an image without any; other formats know theirs."""
    series_instance_uid: str | None = None
    resample: bool = False
    """Take a tilted or unevenly spaced series, which is refused otherwise."""
