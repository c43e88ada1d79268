"""Contours rasterised back are the labels, exactly."""

import cv2
import numpy as np
import pytest
from highdicom import Volume
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.contours import polygons, rasterise, to_patient_mm, trace
from service.volume import Scan, SourceReference

MASKS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda shape: arrays(bool, shape))


@given(MASKS)
def test_rasterised_back(mask: np.ndarray) -> None:
    """Any mask, holes and islands and single pixels included."""
    assert np.array_equal(rasterise(polygons(mask), mask.shape), mask)


@given(MASKS)
def test_rule_of_the_documentation(mask: np.ndarray) -> None:
    """The stated rule, by geometry alone: centre inside or on the exterior, not inside a hole."""
    found = np.zeros_like(mask)
    for piece in polygons(mask):
        for row, column in np.ndindex(mask.shape):
            point = (float(column), float(row))
            inside = cv2.pointPolygonTest(piece.exterior_px[:, None], point, False) >= 0
            in_hole = any(
                cv2.pointPolygonTest(hole[:, None], point, False) > 0 for hole in piece.holes_px
            )
            found[row, column] |= inside and not in_hole
    assert np.array_equal(found, mask)


def test_ring_with_an_island() -> None:
    """A hole belongs to its exterior, an island in the hole is a polygon of its own."""
    mask = np.ones((9, 9), dtype=bool)
    mask[1:8, 1:8] = False
    mask[4, 4] = True
    ring, island = sorted(polygons(mask), key=lambda piece: -len(piece.exterior_px))
    assert len(ring.holes_px) == 1
    assert island.exterior_px.tolist() == [[4, 4]]
    assert island.holes_px == ()


def test_whole_volume(clean_volume: Volume) -> None:
    """The organ's contours hold its lesions; each lesion's are its own; both rasterise exactly."""
    labels = np.zeros(clean_volume.spatial_shape, dtype=np.uint8)
    labels[3:9, 10:60, 10:60] = 1
    labels[4:6, 20:30, 20:30] = 2
    labels[6, 40:50, 40:43] = 2
    ids = np.where(labels == 2, 1, 0).astype(np.uint16)
    ids[6, 40:50, 40:43] = 2
    contours = trace(clean_volume.with_array(labels), clean_volume.with_array(ids))
    rebuilt = np.zeros_like(ids)
    organ = np.zeros(labels.shape, dtype=bool)
    for contour in contours:
        mask = rasterise(contour.polygons, labels.shape[1:])
        if contour.structure == "liver":
            organ[contour.slice_index] = mask
        else:
            rebuilt[contour.slice_index][mask] = contour.lesion_id
    assert np.array_equal(organ, labels >= 1)
    assert np.array_equal(rebuilt, ids)


def test_patient_coordinates(clean_volume: Volume) -> None:
    """Vertices are pixel centres through the affine, with no half-pixel shift."""
    points = np.array([[0, 0], [95, 10]], dtype=np.int32)
    source = SourceReference("dicom", (1.0, 1.0), 1.0)
    found = to_patient_mm(Scan(clean_volume, source), 3, points)
    origin, spacing = clean_volume.position, clean_volume.spacing
    assert found[0] == pytest.approx((origin[0], origin[1], origin[2] + 3 * spacing[0]))
    assert found[1] - found[0] == pytest.approx((95 * spacing[2], 10 * spacing[1], 0))
