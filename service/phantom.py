"""A synthetic abdomen with closed-form volumes: for the self-test, the tests and examples.

It is drawn in patient millimetres (LPS, the origin in the middle of the body) from ellipsoids, so
every volume and position is known exactly, on whatever grid it is sampled. Nothing in it is
symmetric: liver and spleen differ, and the lesions lie in general position.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from highdicom import Volume
from numpy.typing import NDArray

from service.volume import LIVER_LABEL, TUMOR_LABEL

FIELD_OF_VIEW_MM = 400.0
HEIGHT_MM = 180.0
"""Side of the square that a slice shows, and the height that the slices cover."""

NOISE_HU = 12.0


@dataclass(frozen=True)
class Ellipsoid:
    """A body in LPS millimetres with its CT value; an infinite semi-axis makes a cylinder."""

    center_mm: tuple[float, float, float]
    semi_axes_mm: tuple[float, float, float]
    hu: int
    label: int = 0

    @property
    def volume_ml(self) -> float:
        return 4 / 3 * math.pi * math.prod(self.semi_axes_mm) / 1000

    def contains(
        self, x: NDArray[np.floating], y: NDArray[np.floating], z: float
    ) -> NDArray[np.bool_]:
        """Whether points of the plane `z` lie inside; `x` and `y` broadcast together."""
        offsets = ((x, 0), (y, 1), (np.float64(z), 2))
        squared = sum(
            ((value - self.center_mm[axis]) / self.semi_axes_mm[axis]) ** 2
            for value, axis in offsets
        )
        return np.asarray(squared <= 1)


_BODY = (
    Ellipsoid((0, 0, 0), (172, 122, math.inf), hu=-95),  # fat under the skin
    Ellipsoid((0, 0, 0), (152, 102, math.inf), hu=45),  # muscle and bowel
    Ellipsoid((0, 66, 0), (21, 19, math.inf), hu=260),  # spine
    Ellipsoid((14, 36, 0), (11, 11, math.inf), hu=165),  # aorta
    Ellipsoid((70, -38, 15), (48, 38, 55), hu=12),  # stomach
    Ellipsoid((108, 30, 15), (27, 42, 50), hu=120),  # spleen
    Ellipsoid((62, 52, -55), (26, 26, 45), hu=150),  # left kidney
    Ellipsoid((-58, 62, -62), (26, 24, 45), hu=150),  # right kidney
)
_LIVER = Ellipsoid((-62, -16, 4), (74, 66, 76), hu=108, label=LIVER_LABEL)


@dataclass(frozen=True)
class Phantom:
    """An abdomen whose liver holds the given lesions, each entirely inside it and apart."""

    lesions: tuple[Ellipsoid, ...]

    @classmethod
    def draw(cls, seed: int, lesions: int = 3) -> "Phantom":
        """A phantom with `lesions` spheres of 9 to 20 mm radius, placed as the seed decides."""
        rng = np.random.default_rng(seed)
        placed: list[Ellipsoid] = []
        while len(placed) < lesions:
            radius = float(rng.uniform(9, 20))
            room = np.asarray(_LIVER.semi_axes_mm) - radius - 3
            direction = rng.normal(size=3)
            direction /= np.linalg.norm(direction)
            center = np.asarray(_LIVER.center_mm) + direction * room * rng.uniform(0.2, 0.9)
            if all(math.dist(center, other.center_mm) > radius + other.semi_axes_mm[0] + 6
                   for other in placed):  # fmt: skip
                x, y, z = (float(value) for value in center)
                sphere = (radius, radius, radius)
                placed.append(Ellipsoid((x, y, z), sphere, hu=52, label=TUMOR_LABEL))
        return cls(tuple(placed))

    @cached_property
    def liver_ml(self) -> float:
        """The organ with its lesions."""
        return _LIVER.volume_ml

    @cached_property
    def tumor_ml(self) -> float:
        return sum(lesion.volume_ml for lesion in self.lesions)

    def sample(
        self, slices: int, size: int, seed: int = 0, noise_hu: float = NOISE_HU
    ) -> tuple[Volume, Volume]:
        """Hounsfield units (int16) and labels (uint8) on an axial grid.

        The seed decides the noise, `noise_hu` its standard deviation. The grid is [slices, size,
        size] over `HEIGHT_MM` and `FIELD_OF_VIEW_MM`, in canonical orientation (towards head, back
        and left); values are those at the voxel centres.
        """
        pixel_mm, slice_mm = FIELD_OF_VIEW_MM / size, HEIGHT_MM / slices
        in_plane = (np.arange(size, dtype=np.float64) + 0.5) * pixel_mm - FIELD_OF_VIEW_MM / 2
        heights = (np.arange(slices, dtype=np.float64) + 0.5) * slice_mm - HEIGHT_MM / 2
        x, y = in_plane[None, :], in_plane[:, None]
        hu = np.full((slices, size, size), -1000, dtype=np.int16)
        labels = np.zeros((slices, size, size), dtype=np.uint8)
        for index, z in enumerate(heights):
            for body in (*_BODY, _LIVER, *self.lesions):
                inside = body.contains(x, y, float(z))
                hu[index][inside] = body.hu
                labels[index][inside] = body.label
        noise = np.random.default_rng(seed).normal(0, noise_hu, hu.shape)
        affine = np.array(
            [
                [0, 0, pixel_mm, in_plane[0]],
                [0, pixel_mm, 0, in_plane[0]],
                [slice_mm, 0, 0, heights[0]],
                [0, 0, 0, 1],
            ]
        )
        hu_volume = Volume((hu + noise).round().astype(np.int16), affine, "PATIENT")
        return hu_volume, hu_volume.with_array(labels)


def abdomen_hu(seed: int, slices: int, size: int) -> NDArray[np.int16]:
    """Hounsfield units [slices, size, size] of the seed's phantom, as the self-test uses them."""
    volume, _ = Phantom.draw(seed).sample(slices, size, seed)
    return np.asarray(volume.array, dtype=np.int16)
