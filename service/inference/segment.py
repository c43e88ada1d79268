"""A scan to labels on the scan's own grid, whatever its orientation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from highdicom import Volume
from numpy.typing import NDArray

from service.errors import NoGeometry
from service.inference.contract import Context, ModelContract
from service.inference.postprocess import Grid, Removal, Rules, postprocess
from service.inference.session import Labelled
from service.notices import Notice
from service.volume import TUMOR_LABEL, Canonical, Scan, to_canonical

Progress = Callable[[int, int], None]
"""Called with slices done and slices in all."""

_LONGEST_SIDE_PX = 4096
"""Of a slice with oblong pixels once they are square; bounds the memory of a batch."""

_SQUARE_TOLERANCE = 0.02
"""Pixels whose sides differ by less count as square, as they did in training."""


class Segmenter(Protocol):
    """What labels batches of slices: a model's session, or a fake in tests."""

    @property
    def contract(self) -> ModelContract: ...

    @property
    def sha256(self) -> str: ...

    @property
    def provider(self) -> str: ...

    @property
    def device(self) -> str: ...

    def run(self, hu: NDArray[np.int16]) -> Labelled:
        """Label int16 Hounsfield units [slices, rows, columns, context]."""
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
    batch_slices: int,
    progress: Progress | None = None,
) -> Segmentation:
    """Turn the scan to the model's orientation, label its slices, clean up, and turn back."""
    canonical = to_canonical(scan.volume)
    labelled = _label(canonical, model, batch_slices, progress)
    labels, removals = postprocess(labelled.labels, _grid(scan, canonical, model.contract), rules)
    notices = [*_field_of_view(scan, canonical, model.contract)]
    if not labels.any():
        notices.append(Notice("no_liver_found", "The model found no liver in the image."))
    return Segmentation(
        scan=scan,
        labels=canonical.to_source(labels),
        tumor_probability=canonical.to_source(labelled.tumor_probability),
        removals=removals,
        notices=tuple(notices),
    )


def _label(
    canonical: Canonical, model: Segmenter, batch_slices: int, progress: Progress | None
) -> Labelled:
    """Label all slices; both arrays take memory only where they are not 0."""
    hu = np.asarray(canonical.volume.array, dtype=np.int16)
    labels = np.zeros(hu.shape, dtype=np.uint8)
    probability = np.zeros(hu.shape, dtype=np.uint8)
    square = _SquarePixels.of(canonical.volume)
    neighbours = _neighbours(len(hu), canonical.volume.spacing[0], model.contract.context)
    for batch in _batches(len(hu), batch_slices):
        answer = model.run(square.stretch(hu[neighbours[batch]]))
        found = square.shrink(answer.labels)
        _write_rows(found, labels[batch])
        tumor = found == TUMOR_LABEL
        if tumor.any():
            probability[batch][tumor] = square.shrink(answer.tumor_probability)[tumor]
        if progress is not None:
            progress(batch.stop, len(hu))
    return Labelled(labels, probability)


def _write_rows(found: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Write the rows that hold a label over zeros; memory of the others is never taken."""
    for source, target in zip(found, labels, strict=True):
        rows = np.flatnonzero(source.any(axis=1))
        if len(rows):
            target[rows[0] : rows[-1] + 1] = source[rows[0] : rows[-1] + 1]


def _batches(slices: int, batch_slices: int) -> Iterator[slice]:
    for start in range(0, slices, batch_slices):
        yield slice(start, min(start + batch_slices, slices))


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
