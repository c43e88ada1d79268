"""What is kept of a scan beside its voxels: pictures and objects can be made of it later."""

from datetime import datetime
from typing import Self

import numpy as np
from highdicom import Volume
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from pydicom import Dataset

from service.encode.provenance import Algorithm, Provenance
from service.encode.source_headers import headers
from service.inference.segment import Segmentation
from service.irregular import Irregular
from service.notices import Notice
from service.pipeline import Result
from service.volume import (
    HounsfieldWindow,
    LengthUnit,
    NiftiGrid,
    Scan,
    SourceFormat,
    SourceReference,
)


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


class Headers(BaseModel):
    """What DICOM objects repeat of their source, made valid: as DICOM JSON (PS3.18 F).

    Of what pictures and objects are made from later, only this names the patient.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    common: dict[str, object]
    slices: tuple[dict[str, object], ...]
    """Of each slice what differs: class, instance and position."""

    @classmethod
    def of(cls, scan: Scan, fingerprint: str) -> Self | None:
        """None unless the source was DICOM."""
        if not scan.source.datasets:
            return None
        written = headers(scan, fingerprint)
        slices = []
        for header, source in zip(written, scan.source.datasets, strict=True):
            own = Dataset()
            own.SOPClassUID, own.SOPInstanceUID = source.SOPClassUID, str(source.SOPInstanceUID)
            own.ImagePositionPatient = header.ImagePositionPatient
            slices.append(own.to_json_dict())
        return cls(common=written[0].to_json_dict(), slices=tuple(slices))

    def restored(self) -> tuple[Dataset, ...]:
        common = Dataset.from_json(self.common)
        datasets = []
        for own in self.slices:
            dataset = Dataset()
            dataset.update(common)
            dataset.update(Dataset.from_json(own))
            datasets.append(dataset)
        return tuple(datasets)


class Scene(BaseModel):
    """A scan without its voxels, and which result was made of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: SourceFormat
    affine: list[list[float]]
    shape: tuple[int, int, int]
    pixel_spacing_mm: tuple[float, float] | None
    slice_spacing_mm: float | None
    grid: _Grid | None
    frame_numbers: tuple[int, ...]
    slice_positions_mm: list[list[float]] | None
    notices: tuple[Notice, ...]
    window: HounsfieldWindow
    algorithm: Algorithm
    fingerprint: str
    made_at: datetime

    @classmethod
    def of(cls, result: Result, made_at: datetime) -> Self:
        scan = result.segmentation.scan
        source, grid = scan.source, scan.source.grid
        slices, rows, columns = scan.volume.spatial_shape
        return cls(
            format=source.format,
            affine=scan.volume.affine.tolist(),
            shape=(slices, rows, columns),
            pixel_spacing_mm=source.pixel_spacing_mm,
            slice_spacing_mm=source.slice_spacing_mm,
            grid=grid and _Grid.of(grid),
            frame_numbers=source.frame_numbers,
            slice_positions_mm=scan.irregular and scan.irregular.positions_mm.tolist(),
            notices=scan.notices,
            window=result.model.contract.window,
            algorithm=Algorithm.of(result.model),
            fingerprint=result.fingerprint,
            made_at=made_at,
        )

    @property
    def provenance(self) -> Provenance:
        return Provenance(self.algorithm, self.fingerprint, self.made_at)

    def slice(self, hu: NDArray[np.int16], labels: NDArray[np.uint8]) -> Segmentation:
        """One slice [1, row, column] to be drawn, without headers."""
        return self.whole(hu, labels, ())

    def whole(
        self, hu: NDArray[np.int16], labels: NDArray[np.uint8], datasets: tuple[Dataset, ...]
    ) -> Segmentation:
        """All slices; what only measuring needs, the tumour's probability, is not kept."""
        affine, positions = np.array(self.affine), self.slice_positions_mm
        source = SourceReference(
            self.format,
            self.pixel_spacing_mm,
            self.slice_spacing_mm,
            datasets,
            self.frame_numbers if datasets else (),
            None if self.grid is None else self.grid.restored(),
        )
        irregular = None if positions is None else Irregular(np.array(positions), affine)
        volume = Volume(hu, affine, "PATIENT")
        scan = Scan(volume, source, self.notices, irregular)
        drawn = volume.with_array(labels)
        return Segmentation(scan, drawn, drawn, (), ())
