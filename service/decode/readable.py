"""Files that were checked as far as it goes without their pixels."""

from collections.abc import Callable
from dataclasses import dataclass

from highdicom import Volume

from service.volume import Scan, SourceFormat


@dataclass(frozen=True)
class Readable:
    """Where the voxels will lie, and `read`, which decodes them; it may be called once.

    The values of `geometry` mean nothing. `read` raises `BadRequest` for damaged pixels.
    """

    geometry: Volume
    format: SourceFormat
    read: Callable[[], Scan]

    @property
    def voxels(self) -> int:
        slices, rows, columns = self.geometry.spatial_shape
        return slices * rows * columns
