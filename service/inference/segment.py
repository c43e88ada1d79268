"""A scan to labels on the scan's own grid, whatever its orientation."""

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from highdicom import Volume
from numpy.typing import NDArray

from service.errors import NoGeometry
from service.inference.contract import NO_LIMITS, Context, ModelContract
from service.inference.postprocess import Grid, Removal, Rules, postprocess
from service.inference.work import Labelled, Loaded, Progress, Work
from service.irregular import RegularGrid
from service.notices import Notice
from service.stopping import StopSignal
from service.volume import AIR_HU, TUMOR_LABEL, Canonical, Scan, to_canonical

_LONGEST_SIDE_PX = 4096
"""Of a slice with oblong pixels once they are square; bounds the memory of a batch."""

_SQUARE_TOLERANCE = 0.02
"""Pixels whose sides differ by less count as square, as they did in training."""


class Segmenter(Loaded, Protocol):
    """What labels the slices of a request: the batcher around a model, or a fake in tests."""

    def label(self, work: Work) -> None:
        """Read all slices of the work and write their labels."""
        ...


@dataclass(frozen=True)
class Segmentation:
    """Labels and tumour probability on the scan's grid, uint8 [slice, row, column].

    A probability of 1 is 255; it is kept where the model found tumour, and 0 elsewhere.
    """

    scan: Scan
    labels: Volume
    tumor_probability: Volume
    removals: tuple[Removal, ...]
    notices: tuple[Notice, ...]


def segment(
    scan: Scan,
    model: Segmenter,
    rules: Rules,
    stop: StopSignal | None = None,
    progress: Progress | None = None,
) -> Segmentation:
    """Turn the scan to the model's orientation, label its slices, clean up, and turn back.

    Of an irregular scan the model and the rules see a regular grid, and the labels go back to the
    source's slices.
    """
    labelled = label(scan, model, stop, progress)
    return clean_up(scan, labelled, model.contract, rules)


def label(
    scan: Scan,
    model: Segmenter,
    stop: StopSignal | None = None,
    progress: Progress | None = None,
    priority: int = 1,
) -> Labelled:
    """What the model says of each slice, on the canonical grid, before any rule.

    Both arrays take memory only where they are not 0.
    """
    canonical = to_canonical(_regular_volume(scan)).volume
    hu = np.asarray(canonical.array, dtype=np.int16)
    labelled = Labelled(np.zeros(hu.shape, np.uint8), np.zeros(hu.shape, np.uint8))
    square = _SquarePixels.of(canonical)
    context = model.contract.context
    neighbours = _neighbours(len(hu), canonical.spacing[0], context)

    def write(batch: slice, answer: Labelled) -> None:
        found = square.shrink(answer.labels)
        _write_rows(found, labelled.labels[batch])
        tumor = found == TUMOR_LABEL
        if tumor.any():
            probability = square.shrink(answer.tumor_probability)
            labelled.tumor_probability[batch][tumor] = probability[tumor]

    work = Work(
        slices=len(hu),
        shape=(*(square.size or hu.shape[1:]), context.slices),
        read=lambda batch: square.stretch(hu[neighbours[batch]]),
        write=write,
        stop=stop or StopSignal(),
        progress=progress,
        priority=priority,
    )
    model.label(work)
    return labelled


def clean_up(scan: Scan, labelled: Labelled, contract: ModelContract, rules: Rules) -> Segmentation:
    """Apply the rules to the model's labels, and turn them back to the scan's own grid."""
    regular = _regular_grid(scan)
    canonical = to_canonical(scan.volume if regular is None else _empty_volume(regular))
    hu = None
    asks = rules.unlikely_lesions and contract.lesion_limits != NO_LIMITS
    if asks and any(TUMOR_LABEL in plane for plane in labelled.labels):  # no mask of all voxels
        seen = canonical if regular is None else to_canonical(_regular_volume(scan))
        hu = np.asarray(seen.volume.array, dtype=np.int16)
    labels, removals = postprocess(labelled.labels, _grid(scan, canonical, contract), rules, hu)
    notices = [*_field_of_view(scan, canonical, contract)]
    if not labels.any():
        notices.append(Notice("no_liver_found", "The model found no liver in the image."))
    return Segmentation(
        scan=scan,
        labels=_to_source(scan, regular, canonical.to_source(labels)),
        tumor_probability=_to_source(
            scan, regular, canonical.to_source(labelled.tumor_probability)
        ),
        removals=removals,
        notices=tuple(notices),
    )


def _regular_grid(scan: Scan) -> RegularGrid | None:
    """What the model sees of an irregular scan; None for a regular one, which is its own grid."""
    if scan.irregular is None:
        return None
    _, rows, columns = scan.volume.spatial_shape
    return scan.irregular.grid((rows, columns))


def _regular_volume(scan: Scan) -> Volume:
    grid = _regular_grid(scan)
    if grid is None:
        return scan.volume
    hu = grid.interpolate(np.asarray(scan.volume.array), AIR_HU)
    return Volume(hu, grid.affine, "PATIENT")


def _empty_volume(grid: RegularGrid) -> Volume:
    """The grid's geometry; its values take no memory."""
    return Volume(np.broadcast_to(np.uint8(0), grid.shape), grid.affine, "PATIENT")


def _to_source(scan: Scan, regular: RegularGrid | None, labels: Volume) -> Volume:
    if regular is None:
        return labels
    return scan.volume.with_array(regular.to_source(np.asarray(labels.array)))


def _write_rows(found: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Write the rows that hold a label over zeros; memory of the others is never taken."""
    for source, target in zip(found, labels, strict=True):
        rows = np.flatnonzero(source.any(axis=1))
        if len(rows):
            target[rows[0] : rows[-1] + 1] = source[rows[0] : rows[-1] + 1]


def _neighbours(slices: int, spacing_mm: float, context: Context) -> NDArray[np.intp]:
    """Slice numbers [slices, context] that the model sees for each slice; the ends repeat."""
    half = context.slices // 2
    step = 0.0 if context.distance_mm is None else context.distance_mm / spacing_mm
    offsets = np.rint(np.arange(-half, half + 1) * step).astype(np.intp)
    neighbours = np.arange(slices, dtype=np.intp)[:, None] + offsets[None, :]
    return np.asarray(np.clip(neighbours, 0, slices - 1))


@dataclass(frozen=True)
class _SquarePixels:
    """Slices stretched so that pixels become square, as the network knows them.

    A sagittal or coronal series has thick slices, which become oblong pixels of the axial slices.
    `size` is that of the stretched slice, None where pixels are square already; `rows` and
    `columns` name the stretched pixel at the centre of each of the source's.
    """

    size: tuple[int, int] | None
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]

    @classmethod
    def of(cls, volume: Volume) -> "_SquarePixels":
        _, row_mm, column_mm = volume.spacing
        _, rows, columns = volume.spatial_shape
        pixel_mm = min(row_mm, column_mm)
        size = (round(rows * row_mm / pixel_mm), round(columns * column_mm / pixel_mm))
        if max(row_mm, column_mm) / pixel_mm - 1 < _SQUARE_TOLERANCE:
            return cls(None, np.arange(rows), np.arange(columns))
        if max(size) > _LONGEST_SIDE_PX:
            raise NoGeometry(
                f"Expected pixels that make at most {_LONGEST_SIDE_PX} square ones a side, found "
                f"{row_mm:.3g} x {column_mm:.3g} mm."
            )
        return cls(size, _centres(rows, size[0]), _centres(columns, size[1]))

    def stretch(self, hu: NDArray[np.int16]) -> NDArray[np.int16]:
        """From [slice, context, row, column] to the model's [slice, row, column, context]."""
        slices = np.moveaxis(hu, 1, -1)
        if self.size is None:
            return np.ascontiguousarray(slices)
        shape = (self.size[1], self.size[0])
        stretched = [
            cv2.resize(np.ascontiguousarray(item), shape, interpolation=cv2.INTER_LINEAR)
            for item in slices
        ]
        return np.stack(stretched).reshape(len(slices), *self.size, slices.shape[-1])

    def shrink(self, answer: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The answer at the centres of the source's pixels; nothing is averaged."""
        if self.size is None:
            return answer
        return answer[:, self.rows[:, None], self.columns[None, :]]


def _centres(source: int, stretched: int) -> NDArray[np.intp]:
    """For each of `source` pixels the one of `stretched` pixels that holds its centre."""
    return ((np.arange(source) + 0.5) * stretched / source).astype(np.intp)


def _grid(scan: Scan, canonical: Canonical, contract: ModelContract) -> Grid:
    known = scan.source.voxel_volume_mm3 is not None
    slice_mm, row_mm, column_mm = (float(value) for value in canonical.volume.spacing)
    return Grid(
        spacing_mm=(slice_mm, row_mm, column_mm) if known else None,
        min_lesion_mm3=contract.min_lesion_mm3,
        min_lesion_px=contract.min_lesion_px,
        lesion_limits=contract.lesion_limits,
    )


def _field_of_view(scan: Scan, canonical: Canonical, contract: ModelContract) -> tuple[Notice, ...]:
    if scan.source.pixel_spacing_mm is None:
        return ()
    _, height_mm, width_mm = canonical.volume.physical_extent
    side_mm, seen = max(height_mm, width_mm), contract.field_of_view
    if seen.smallest_mm <= side_mm <= seen.largest_mm:
        return ()
    text = (
        f"The field of view of {side_mm:.0f} mm is outside the {seen.smallest_mm:.0f} to "
        f"{seen.largest_mm:.0f} mm of the training data."
    )
    return (Notice("field_of_view_unusual", text),)
