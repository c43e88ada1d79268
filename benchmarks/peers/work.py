"""What both peers do with a request: decode it plainly, run the model in batches, count voxels.

That is less than the service does for the same request: nothing is checked, no lesion is measured,
and no outline is traced.
"""

import io
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydicom import dcmread

MODEL = Path(__file__).parents[2] / "models" / "liver-tumor.onnx"
BATCH_SLICES = 4
"""As the service's default."""

LIVER, TUMOR = 1, 2


@dataclass(frozen=True)
class Scan:
    """int16 HU [slices, rows, columns]; a voxel of an image has no volume."""

    hu: NDArray[np.int16]
    voxel_ml: float | None


class Model:
    """The resident session, with the options that the service gives it on such a CPU."""

    def __init__(self, threads: int = 0) -> None:
        """`threads` of one run; 0 is all cores."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            MODEL.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        contract = self._session.get_modelmeta().custom_metadata_map["segmentation_contract"]
        self.window: dict[str, float] = json.loads(contract)["window"]

    def label(self, hu: NDArray[np.int16]) -> NDArray[np.uint8]:
        """Labels [slices, rows, columns] of int16 HU of the same shape."""
        return np.concatenate([self._run(batch) for batch in batches(hu)])

    def _run(self, hu: NDArray[np.int16]) -> NDArray[np.uint8]:
        labels = self._session.run(["labels"], {"hu": np.ascontiguousarray(hu[..., None])})[0]
        return np.asarray(labels, dtype=np.uint8)


def batches(hu: NDArray[np.int16]) -> Iterator[NDArray[np.int16]]:
    """The slices in batches of BATCH_SLICES; the last may be smaller."""
    for start in range(0, len(hu), BATCH_SLICES):
        yield hu[start : start + BATCH_SLICES]


def decode(data: bytes, window: dict[str, float]) -> Scan:
    """A zip of a DICOM series, else a picture."""
    return _series(data) if data.startswith(b"PK") else _picture(data, window)


def summary(labels: NDArray[np.uint8], voxel_ml: float | None) -> dict[str, Any]:
    """The answer: voxels, and volumes where a voxel has one."""
    voxels = {"liver": int((labels >= LIVER).sum()), "tumor": int((labels == TUMOR).sum())}
    return {
        f"{name}_{unit}": count if unit == "voxels" else voxel_ml and count * voxel_ml
        for name, count in voxels.items()
        for unit in ("voxels", "ml")
    }


def threads_each(workers: int) -> int:
    """Threads of each worker's session, so that together they take the cores once."""
    return 0 if workers == 1 else max(1, (os.cpu_count() or 1) // workers)


def _series(data: bytes) -> Scan:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        slices = [dcmread(io.BytesIO(archive.read(name))) for name in names]
    slices.sort(key=lambda item: float(item.ImagePositionPatient[2]))
    hu = np.stack(
        [
            item.pixel_array * np.float32(item.RescaleSlope) + np.float32(item.RescaleIntercept)
            for item in slices
        ]
    ).astype(np.int16)
    first, second = (float(item.ImagePositionPatient[2]) for item in slices[:2])
    row_mm, column_mm = map(float, slices[0].PixelSpacing)
    return Scan(hu, (second - first) * row_mm * column_mm / 1000)


def _picture(data: bytes, window: dict[str, float]) -> Scan:
    grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise ValueError("expected a picture that OpenCV can read, found another file")
    lower, upper = window["lower_hu"], window["upper_hu"]
    hu = lower + grey.astype(np.float32) / 255 * (upper - lower)
    return Scan(np.rint(hu).astype(np.int16)[None], None)
