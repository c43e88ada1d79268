"""What is taken back from the network's labels: fragments, distant tumour, specks.

Each rule returns the labels without what it removed, and says what that was. All work on the
canonical grid, uint8 [slice, row, column]: 0 background, 1 liver, 2 tumour.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cc3d
import cv2
import edt
import numpy as np
from numpy.typing import NDArray

from service.volume import LIVER_LABEL, TUMOR_LABEL

MIN_SLICES = 5
"""Slices from which "the largest piece" means the organ: in a single slice it need not."""

FRAGMENT_SHARE = 0.05
"""Pieces of liver with tumour under this share of the largest are dropped."""

MAX_TUMOR_DISTANCE_MM = 5.0
"""A tumour whose nearest voxel is farther than this from the filled liver is dropped."""

CONNECTIVITY = 26

Labels = NDArray[np.uint8]
Rule = Literal["liver_fragments", "distant_tumor", "small_lesions"]


@dataclass(frozen=True)
class Rules:
    """Which rules a request wants; all of them unless it says otherwise."""

    liver_fragments: bool = True
    distant_tumor: bool = True
    small_lesions: bool = True


@dataclass(frozen=True)
class Removal:
    """What one rule did: `reason` says why it was not applied, else None."""

    rule: Rule
    applied: bool
    reason: str | None = None
    components: int = 0
    voxels: int = 0


@dataclass(frozen=True)
class Grid:
    """What the rules need of the grid: spacing in mm (slice, row, column), None where unknown."""

    spacing_mm: tuple[float, float, float] | None
    min_lesion_mm3: float
    min_lesion_px: int

    @property
    def min_lesion_voxels(self) -> float:
        if self.spacing_mm is None:
            return self.min_lesion_px
        return self.min_lesion_mm3 / float(np.prod(self.spacing_mm))


def postprocess(labels: Labels, grid: Grid, rules: Rules) -> tuple[Labels, tuple[Removal, ...]]:
    """Apply the rules in their order; the given labels stay as they are."""
    steps: tuple[tuple[Rule, bool, bool, Callable[[Labels, Grid], _Step]], ...] = (
        ("liver_fragments", rules.liver_fragments, True, _drop_liver_fragments),
        ("distant_tumor", rules.distant_tumor, True, _drop_distant_tumor),
        ("small_lesions", rules.small_lesions, False, _drop_small_lesions),
    )
    is_volume = grid.spacing_mm is not None and labels.shape[0] >= MIN_SLICES
    removals = []
    for rule, wanted, needs_volume, apply in steps:
        if not wanted:
            removals.append(Removal(rule, False, "switched off by the request"))
        elif needs_volume and not is_volume:
            reason = f"needs {MIN_SLICES} contiguous slices of known spacing"
            removals.append(Removal(rule, False, reason))
        else:
            step = apply(labels, grid)
            removals.append(
                Removal(rule, True, None, step.components, int((step.labels != labels).sum()))
            )
            labels = step.labels
    return labels, tuple(removals)


@dataclass(frozen=True)
class _Step:
    labels: Labels
    components: int


def components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """26-connected components of [slice, row, column], and voxels by component (0: background)."""
    found = cc3d.connected_components(mask, connectivity=CONNECTIVITY)
    return found, np.asarray(cc3d.statistics(found)["voxel_counts"])


def _drop_liver_fragments(labels: Labels, _: Grid) -> _Step:
    pieces, sizes = components(labels >= LIVER_LABEL)
    if len(sizes) <= 2:
        return _Step(labels, 0)
    dropped = sizes < FRAGMENT_SHARE * sizes[1:].max()
    dropped[0] = False
    return _Step(np.where(dropped[pieces], 0, labels).astype(np.uint8), int(dropped.sum()))


def _drop_distant_tumor(labels: Labels, grid: Grid) -> _Step:
    """A lesion goes as a whole, and only if all of it is far: a large one reaches far inward."""
    lesions, sizes = components(labels == TUMOR_LABEL)
    liver = labels == LIVER_LABEL
    if len(sizes) <= 1 or grid.spacing_mm is None:
        return _Step(labels, 0)
    if not liver.any():  # a liver that is all tumour has nothing to be far from
        return _Step(labels, 0)
    distance_mm = edt.edt(~_filled(liver), anisotropy=grid.spacing_mm, black_border=False)
    nearest = np.full(len(sizes), np.inf)
    tumor = lesions > 0
    np.minimum.at(nearest, lesions[tumor], distance_mm[tumor])
    dropped = nearest > MAX_TUMOR_DISTANCE_MM
    dropped[0] = False  # the background
    return _Step(np.where(dropped[lesions], 0, labels).astype(np.uint8), int(dropped.sum()))


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with the holes of each slice filled."""
    filled = np.zeros(mask.shape, dtype=np.uint8)
    for source, target in zip(mask.astype(np.uint8), filled, strict=True):
        outlines, _ = cv2.findContours(source, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(target, outlines, -1, 1, cv2.FILLED)
    return filled.astype(bool)


def _drop_small_lesions(labels: Labels, grid: Grid) -> _Step:
    """A speck that touches liver becomes liver; one that lies alone becomes background."""
    lesions, sizes = components(labels == TUMOR_LABEL)
    dropped = sizes < grid.min_lesion_voxels
    dropped[0] = False
    if not dropped.any():
        return _Step(labels, 0)
    touching = np.zeros(len(sizes), dtype=bool)
    near_liver = _grown(labels == LIVER_LABEL)
    touching[np.unique(lesions[near_liver])] = True
    becomes = np.where(touching, LIVER_LABEL, 0).astype(np.uint8)
    specks = dropped[lesions]
    return _Step(np.where(specks, becomes[lesions], labels).astype(np.uint8), int(dropped.sum()))


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask grown by one voxel to its 26 neighbours."""
    in_plane = np.stack(
        [cv2.dilate(plane, np.ones((3, 3), np.uint8)) for plane in mask.astype(np.uint8)]
    )
    grown = in_plane.copy()
    grown[1:] |= in_plane[:-1]
    grown[:-1] |= in_plane[1:]
    return grown.astype(bool)
