"""What is taken back from the network's labels: fragments, distant tumour, specks, no lesions.

Each rule returns the labels without what it removed, and says what that was. All work on the
canonical grid, uint8 [slice, row, column]: 0 background, 1 liver, 2 tumour.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import cc3d
import cv2
import edt
import numpy as np
from numpy.typing import NDArray

from service.boxes import Box, box_of, everything, grown, size_of
from service.inference.contract import NO_LIMITS, LesionLimits
from service.inference.lesion_signs import LesionSigns, ring_px
from service.volume import LIVER_LABEL, TUMOR_LABEL

MIN_SLICES = 5
"""Slices from which "the largest piece" means the organ: in a single slice it need not."""

FRAGMENT_SHARE = 0.05
"""Pieces of liver with tumour under this share of the largest are dropped."""

MIN_LIVER_MM3 = 1000.0
"""A volume whose largest piece of liver is smaller shows none: specks in a scan of another part of
the body, or after the liver's removal, are no organ.
"""

MAX_TUMOR_DISTANCE_MM = 5.0
"""A tumour whose nearest voxel is farther than this from the filled liver is dropped."""

CONNECTIVITY = 26

Labels = NDArray[np.uint8]
Pieces = NDArray[np.integer]
Rule = Literal["liver_fragments", "distant_tumor", "small_lesions", "unlikely_lesions"]


@dataclass(frozen=True)
class Rules:
    """Which rules a request wants; all of them unless it says otherwise."""

    liver_fragments: bool = True
    distant_tumor: bool = True
    small_lesions: bool = True
    unlikely_lesions: bool = True


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
    lesion_limits: LesionLimits = NO_LIMITS

    @property
    def min_lesion_voxels(self) -> float:
        if self.spacing_mm is None:
            return self.min_lesion_px
        return self.min_lesion_mm3 / float(np.prod(self.spacing_mm))


def postprocess(
    labels: Labels, grid: Grid, rules: Rules, hu: NDArray[np.int16] | None = None
) -> tuple[Labels, tuple[Removal, ...]]:
    """Apply the rules in their order; the given labels stay as they are.

    `hu`, Hounsfield units of the labels' shape, is what the last rule needs; without limits in the
    grid it is not looked at. The rules see the box around the labels only: outside of it there is
    nothing to remove.
    """
    is_volume = grid.spacing_mm is not None and labels.shape[0] >= MIN_SLICES
    no_volume = None if is_volume else f"needs {MIN_SLICES} contiguous slices of known spacing"
    no_limits = "the model sets no limits" if grid.lesion_limits == NO_LIMITS else None
    box = box_of(labels) or everything(labels)
    no_image = "needs the image" if hu is None and TUMOR_LABEL in labels[box] else None
    image = None if hu is None else hu[box]
    ring = ring_px(labels.shape, grid.spacing_mm)
    steps: tuple[tuple[Rule, bool, str | None, Callable[[Labels, Grid], _Step]], ...] = (
        ("liver_fragments", rules.liver_fragments, no_volume, _drop_liver_fragments),
        ("distant_tumor", rules.distant_tumor, no_volume, _drop_distant_tumor),
        ("small_lesions", rules.small_lesions, None, _drop_small_lesions),
        (
            "unlikely_lesions",
            rules.unlikely_lesions,
            no_limits or no_image,
            lambda labels, grid: _drop_unlikely_lesions(labels, grid, image, ring),
        ),
    )
    kept = labels[box]
    removals = []
    for rule, wanted, not_possible, apply in steps:
        if not wanted:
            removals.append(Removal(rule, False, "switched off by the request"))
        elif not_possible:
            removals.append(Removal(rule, False, not_possible))
        else:
            step = apply(kept, grid)
            removals.append(Removal(rule, True, None, step.components, step.voxels))
            kept = step.labels
    if not any(removal.voxels for removal in removals):
        return labels, tuple(removals)
    cleaned = np.zeros(labels.shape, dtype=np.uint8)
    cleaned[box] = kept
    return cleaned, tuple(removals)


@dataclass(frozen=True)
class _Step:
    """Labels without what a rule removed, and how much that was."""

    labels: Labels
    components: int = 0
    voxels: int = 0


@dataclass(frozen=True)
class _Found:
    """The components of one structure, numbered from 1 inside `box`, and their voxels."""

    box: Box
    numbers: Pieces
    sizes: NDArray[np.intp]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], box: Box) -> "_Found":
        return cls(box, *components(mask[box]))

    def replaced(
        self, labels: Labels, dropped: NDArray[np.bool_], becomes: NDArray[np.uint8]
    ) -> _Step:
        """The labels, those of each dropped component replaced by what it becomes."""
        dropped = np.concatenate([[False], dropped[1:]])  # the background is no component
        if not dropped.any():
            return _Step(labels)
        replaced = labels.copy()
        # By slice, since NumPy makes eight bytes of each number that it looks up.
        for numbers, plane in zip(self.numbers, replaced[self.box], strict=True):
            gone = dropped.take(numbers)
            plane[gone] = becomes[numbers[gone]]
        return _Step(replaced, int(dropped.sum()), int(self.sizes[dropped].sum()))


def components(mask: NDArray[np.bool_]) -> tuple[Pieces, NDArray[np.intp]]:
    """26-connected components of [slice, row, column], and voxels by component (0: background)."""
    # As numbers, not as booleans: for those cc3d reserves too little where components are densest,
    # as in a row of voxel, gap, voxel, and raises an error.
    found, count = cc3d.connected_components(
        mask.view(np.uint8), connectivity=CONNECTIVITY, return_N=True
    )
    sizes = np.zeros(count + 1, dtype=np.intp)
    for plane in found:  # by slice, since NumPy makes eight bytes of each number that it counts
        counted = np.bincount(plane[plane > 0])
        sizes[: len(counted)] += counted
    sizes[0] = mask.size - sizes.sum()
    return found, sizes


def _drop_liver_fragments(labels: Labels, grid: Grid) -> _Step:
    pieces = _Found.of(labels >= LIVER_LABEL, everything(labels))
    largest = pieces.sizes[1:].max(initial=0)
    is_organ = grid.spacing_mm and largest * np.prod(grid.spacing_mm) >= MIN_LIVER_MM3
    dropped = pieces.sizes < (FRAGMENT_SHARE * largest if is_organ else np.inf)
    return pieces.replaced(labels, dropped, np.zeros(len(dropped), dtype=np.uint8))


def _drop_distant_tumor(labels: Labels, grid: Grid) -> _Step:
    """A lesion goes as a whole, and only if all of it is far: a large one reaches far inward."""
    tumor, liver = labels == TUMOR_LABEL, labels == LIVER_LABEL
    box = box_of(tumor)
    # A liver that is all tumour has nothing to be far from.
    if box is None or grid.spacing_mm is None or not liver.any():
        return _Step(labels)
    reach = _reach(grid.spacing_mm)
    lesions = _Found.of(tumor, grown(box, reach, labels.shape))
    slices, rows, columns = lesions.box
    filled = _filled(liver[slices])[:, rows, columns]
    nearest_mm = np.full(len(lesions.sizes), np.inf)
    nearest_mm[lesions.numbers[filled]] = 0
    nearest_mm[0] = 0  # the background is no lesion
    for crop in _crops(lesions.numbers, nearest_mm > 0, reach):
        numbers = lesions.numbers[crop]
        outside = nearest_mm[numbers] > 0
        distance_mm = edt.edt(~filled[crop], anisotropy=grid.spacing_mm, black_border=False)
        np.minimum.at(nearest_mm, numbers[outside], distance_mm[outside])
    dropped = nearest_mm > MAX_TUMOR_DISTANCE_MM
    return lesions.replaced(labels, dropped, np.zeros(len(dropped), dtype=np.uint8))


def _reach(spacing_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    """Voxels along each axis beyond which everything is too far from a lesion."""
    slices, rows, columns = (int(MAX_TUMOR_DISTANCE_MM / step_mm) + 1 for step_mm in spacing_mm)
    return slices, rows, columns


def _crops(
    numbers: Pieces, wanted: NDArray[np.bool_], reach: tuple[int, int, int]
) -> Iterator[Box]:
    """A box for each wanted component with all that is in reach; one for all if that is less."""
    if not wanted.any():
        return
    boxes = cc3d.statistics(numbers)["bounding_boxes"]
    crops = [grown(boxes[number], reach, numbers.shape) for number in np.flatnonzero(wanted)]
    yield from crops if sum(map(size_of, crops)) < numbers.size else [everything(numbers)]


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with the holes of each slice filled."""
    filled = np.zeros(mask.shape, dtype=np.uint8)
    for source, target in zip(mask.astype(np.uint8), filled, strict=True):
        outlines, _ = cv2.findContours(source, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(target, outlines, -1, 1, cv2.FILLED)
    return filled.astype(bool)


def _drop_small_lesions(labels: Labels, grid: Grid) -> _Step:
    """A speck that touches liver becomes liver; one that lies alone becomes background."""
    tumor = labels == TUMOR_LABEL
    box = box_of(tumor)
    if box is None:
        return _Step(labels)
    lesions = _Found.of(tumor, grown(box, (1, 1, 1), labels.shape))
    becomes = np.zeros(len(lesions.sizes), dtype=np.uint8)
    becomes[lesions.numbers[_dilated(labels[lesions.box] == LIVER_LABEL)]] = LIVER_LABEL
    return lesions.replaced(labels, lesions.sizes < grid.min_lesion_voxels, becomes)


def _drop_unlikely_lesions(
    labels: Labels, grid: Grid, hu: NDArray[np.int16] | None, ring: tuple[int, int]
) -> _Step:
    """What lies in the liver becomes liver; what is hardly surrounded by it, background."""
    tumor = labels == TUMOR_LABEL
    if hu is None or not tumor.any():
        return _Step(labels)
    lesions = _Found.of(tumor, everything(labels))
    signs = LesionSigns.of(lesions.numbers, labels, hu, len(lesions.sizes) - 1, ring)
    limits = grid.lesion_limits
    becomes = np.where(signs.outside(limits), 0, LIVER_LABEL).astype(np.uint8)
    return lesions.replaced(labels, signs.unlikely(limits), becomes)


def _dilated(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask grown by one voxel to its 26 neighbours."""
    in_plane = np.stack(
        [cv2.dilate(plane, np.ones((3, 3), np.uint8)) for plane in mask.astype(np.uint8)]
    )
    grown = in_plane.copy()
    grown[1:] |= in_plane[:-1]
    grown[:-1] |= in_plane[1:]
    return grown.astype(bool)
