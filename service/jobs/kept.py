"""What is kept of a result: files as they are sent, and arrays of which slices are drawn later."""

import dataclasses
import zlib
from datetime import datetime

import numpy as np
from highdicom import Volume
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from service.encode.nifti import image_nii_gz
from service.encode.png import mask_png, overlay_pngs
from service.errors import NotFound
from service.inference.segment import Segmentation
from service.inference.work import Labelled
from service.irregular import Irregular
from service.jobs.records import key
from service.pipeline import Result, documents
from service.store import Store
from service.volume import (
    HounsfieldWindow,
    LengthUnit,
    NiftiGrid,
    Scan,
    SourceFormat,
    SourceReference,
)

RESULT = "result.json"
"""Of the documents the one that says what was found."""

_SCENE = "scene.json"
_IMAGE = "image.int16"
_LABELS = "labels.uint8"


class _Grid(BaseModel):
    """A `NiftiGrid`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    affine_ras: list[list[float]]
    unit: LengthUnit
    placed: bool
    reversed_slices: bool
    shape: tuple[int, ...]

    @classmethod
    def of(cls, grid: NiftiGrid) -> "_Grid":
        fields = {**vars(grid), "affine_ras": grid.affine_ras.tolist()}
        return cls.model_validate(fields)

    def restored(self) -> NiftiGrid:
        return NiftiGrid(**{**vars(self), "affine_ras": np.array(self.affine_ras)})


class _Scene(BaseModel):
    """What beside the voxels is needed to draw a scan and to write it as NIfTI."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: SourceFormat
    affine: list[list[float]]
    shape: tuple[int, int, int]
    grid: _Grid | None
    slice_positions_mm: list[list[float]] | None
    window: HounsfieldWindow

    @classmethod
    def of(cls, result: Result) -> "_Scene":
        scan = result.segmentation.scan
        grid = scan.source.grid
        slices, rows, columns = scan.volume.spatial_shape
        return cls(
            format=scan.source.format,
            affine=scan.volume.affine.tolist(),
            shape=(slices, rows, columns),
            grid=grid and _Grid.of(grid),
            slice_positions_mm=scan.irregular and scan.irregular.positions_mm.tolist(),
            window=result.model.contract.window,
        )

    def segmentation(self, hu: NDArray[np.int16], labels: NDArray[np.uint8]) -> Segmentation:
        """These slices and their labels; headers, and what only measuring needs, are not kept."""
        grid = None if self.grid is None else self.grid.restored()
        affine, positions = np.array(self.affine), self.slice_positions_mm
        irregular = None if positions is None else Irregular(np.array(positions), affine)
        source = SourceReference(self.format, None, None, grid=grid)
        volume = Volume(hu, affine, "PATIENT")
        scan = Scan(volume, source, irregular=irregular)
        drawn = volume.with_array(labels)
        return Segmentation(scan, drawn, drawn, (), ())


def keep(store: Store, job_id: str, result: Result, made_at: datetime) -> None:
    """Store a result's documents and arrays; the same result and date give the same bytes."""
    timeless = dataclasses.replace(result, timings_s={})  # the job's outcome holds its timings
    for name, content in documents(timeless, made_at):
        store.put(key(job_id, name), content)
    segmentation = result.segmentation
    store.put(key(job_id, _IMAGE), _bytes(segmentation.scan.volume.array))
    store.put(key(job_id, _LABELS), _bytes(segmentation.labels.array))
    store.put(key(job_id, _SCENE), _Scene.of(result).model_dump_json().encode())


class Kept:
    """The pictures and volumes of one finished job, made from what was kept."""

    def __init__(self, store: Store, job_id: str) -> None:
        """Raises `NotFound` where nothing is kept under this id."""
        self._store, self._id = store, job_id
        scene = store.get(key(job_id, _SCENE))
        if scene is None:
            raise NotFound("Expected a segmentation with a result, found none.")
        self._scene = _Scene.model_validate_json(scene)

    def mask_png(self, index: int) -> bytes:
        """The labels of one slice. Raises `NotFound` for a slice that is not there."""
        return mask_png(self._slice(index).labels, 0)

    def overlay_png(self, index: int) -> bytes:
        """One slice with its outlines. Raises `NotFound` for a slice that is not there."""
        return next(overlay_pngs(self._slice(index), self._scene.window))

    def image_nii_gz(self) -> bytes:
        """The whole scan as NIfTI, on the grid of its mask."""
        hu = np.frombuffer(self._object(_IMAGE), np.int16).reshape(self._scene.shape)
        return image_nii_gz(self._scene.segmentation(hu, np.zeros(hu.shape, np.uint8)).scan)

    def _slice(self, index: int) -> Segmentation:
        slices, rows, columns = self._scene.shape
        if not 0 <= index < slices:
            raise NotFound(f"Expected a slice from 0 to {slices - 1}, found another number.")
        size, shape = rows * columns, (1, rows, columns)
        hu = self._object(_IMAGE, 2 * size * index, 2 * size)
        labels = self._object(_LABELS, size * index, size)
        return self._scene.segmentation(
            np.frombuffer(hu, np.int16).reshape(shape),
            np.frombuffer(labels, np.uint8).reshape(shape),
        )

    def _object(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        name = key(self._id, name)
        found = (
            self._store.get(name) if length is None else self._store.get_range(name, start, length)
        )
        if found is None:  # deleted since the scene was read
            raise NotFound("Expected a segmentation with a result, found it deleted.")
        return found


def pack(labelled: Labelled) -> bytes:
    """The model's labels as they are kept between two steps of a job."""
    shape = np.array(labelled.labels.shape, np.int64).tobytes()
    arrays = (labelled.labels, labelled.tumor_probability)
    return zlib.compress(shape + b"".join(map(_bytes, arrays)), level=1)


def unpack(data: bytes) -> Labelled:
    """What `pack` packed."""
    values = zlib.decompress(data)
    shape = np.frombuffer(values[:24], np.int64)
    labels, probability = np.frombuffer(values[24:], np.uint8).reshape(2, *shape)
    return Labelled(labels, probability)


def _bytes(array: NDArray[np.generic]) -> bytes:
    return np.ascontiguousarray(array).tobytes()
