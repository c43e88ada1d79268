"""Labels to outlines, slice by slice, exact: rasterised back they are the labels.

A vertex is a pixel's centre. A pixel belongs to a polygon if its centre lies inside the exterior or
on it, and not strictly inside a hole: the edge of a hole runs through pixels of the structure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from highdicom import Volume
from numpy.typing import NDArray

from service.volume import LIVER_LABEL, Scan, points_to_patient_mm

Structure = Literal["liver", "lesion"]
"""The liver is the organ with its lesions."""

PixelPoints = NDArray[np.int32]
"""Vertices [n, 2] as (column, row), counted from 0 at pixel centres."""


@dataclass(frozen=True)
class Polygon:
    """One piece of a structure in one slice; its first vertex is not repeated at its end.

    A piece of one or two pixels has as many vertices.
    """

    exterior_px: PixelPoints
    holes_px: tuple[PixelPoints, ...]


@dataclass(frozen=True)
class Contour:
    """All pieces of one structure in one slice; `lesion_id` is None for the liver."""

    slice_index: int
    structure: Structure
    lesion_id: int | None
    polygons: tuple[Polygon, ...]


def trace(labels: Volume, lesion_ids: Volume) -> tuple[Contour, ...]:
    """Outlines of the organ and of every lesion, by slice; nothing for a slice without either."""
    contours = []
    planes = zip(np.asarray(labels.array), np.asarray(lesion_ids.array), strict=True)
    for index, (plane, ids) in enumerate(planes):
        if not plane.any():
            continue
        contours.append(Contour(index, "liver", None, polygons(plane >= LIVER_LABEL)))
        for lesion_id in np.unique(ids[ids > 0]):
            outline = polygons(ids == lesion_id)
            contours.append(Contour(index, "lesion", int(lesion_id), outline))
    return tuple(contours)


def polygons(mask: NDArray[np.bool_]) -> tuple[Polygon, ...]:
    """Polygons of a mask [row, column]; its 8-connected pieces, holes kept, islands apart."""
    outlines, hierarchy = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    if hierarchy is None:
        return ()
    points = [outline.reshape(-1, 2) for outline in outlines]
    parents = hierarchy.reshape(-1, 4)[:, 3]
    return tuple(
        Polygon(exterior, tuple(points[hole] for hole in np.flatnonzero(parents == index)))
        for index, exterior in enumerate(points)
        if parents[index] < 0
    )


def rasterise(pieces: Sequence[Polygon], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask [row, column] that the polygons came from."""
    mask = np.zeros(shape, dtype=np.uint8)
    for piece in pieces:
        one = np.zeros(shape, dtype=np.uint8)
        cv2.fillPoly(one, [piece.exterior_px], 1)
        for hole in piece.holes_px:
            cv2.fillPoly(one, [hole], 0)
        for hole in piece.holes_px:
            cv2.polylines(one, [hole], True, 1)
        mask |= one
    return mask.astype(bool)


def to_patient_mm(scan: Scan, slice_index: int, points: PixelPoints) -> NDArray[np.float64]:
    """LPS millimetres [n, 3] of (column, row) vertices in a slice."""
    indices = np.column_stack([np.full(len(points), slice_index), points[:, 1], points[:, 0]])
    return points_to_patient_mm(scan, indices.astype(np.float64))
