"""Slices with labels, from the folder of LiTS slices, balanced into batches.

The folder holds `manifest.csv` and, per volume, `SSS.webp` (8-bit grey through the data set's
window) and `SSS.png` (0 background, 1 liver, 2 tumour).
"""

import csv
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.volume import HounsfieldWindow
from training.augment import Warp, change_intensity, draw_crop
from training.config import TrainingConfig
from training.grid import to_grid

CLASSES = 3
"""Background, liver, tumour."""

Batch = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Images and one-hot classes."""

SOURCE_WINDOW = HounsfieldWindow(lower_hu=-40, upper_hu=160)
"""What grey 0 and 255 stand for in the slice folder."""


@dataclass(frozen=True)
class LabelledSlice:
    """One slice of the folder; `liver_px` counts tumour too."""

    folder: Path
    case: str
    index: int
    split: str
    liver_px: int
    tumor_px: int

    def hu(self) -> NDArray[np.int16]:
        """Hounsfield units, int16 [rows, columns], clipped to the folder's window."""
        grey = _read_grey(self.folder / self.case / f"{self.index:03d}.webp")
        scale = SOURCE_WINDOW.width_hu / 255
        return np.rint(grey * scale + SOURCE_WINDOW.lower_hu).astype(np.int16)

    def labels(self) -> NDArray[np.uint8]:
        """Labels, uint8 [rows, columns]: 0 background, 1 liver, 2 tumour."""
        return _read_grey(self.folder / self.case / f"{self.index:03d}.png")


def _read_grey(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise FileNotFoundError(f"no readable image at {path}")
    return np.asarray(image, dtype=np.uint8)


def read_manifest(folder: Path) -> list[LabelledSlice]:
    """Every slice that the manifest names, in its order. Raises FileNotFoundError without one."""
    with (folder / "manifest.csv").open(newline="") as file:
        return [
            LabelledSlice(
                folder=folder,
                case=row["volume"],
                index=int(row["slice"]),
                split=row["split"],
                liver_px=int(row["liver_or_tumour_pixels"]),
                tumor_px=int(row["tumour_pixels"]),
            )
            for row in csv.DictReader(file)
        ]


def by_case(slices: list[LabelledSlice]) -> dict[str, list[LabelledSlice]]:
    """Slices of each case, in ascending slice number."""
    cases: dict[str, list[LabelledSlice]] = defaultdict(list)
    for item in sorted(slices, key=lambda item: (item.case, item.index)):
        cases[item.case].append(item)
    return dict(cases)


class _CaseBalanced:
    """Draws a case with a chance that grows as the root of its slices, then one of its slices.

    Drawn by slice, three cases would fill nearly every batch; drawn by case alone, a case with two
    slices would be seen as often as one with a hundred.
    """

    def __init__(self, slices: list[LabelledSlice]) -> None:
        if not slices:
            raise ValueError("no slice of this kind to draw from")
        self._cases = list(by_case(slices).values())
        roots = np.sqrt([len(case) for case in self._cases])
        self._chances = roots / roots.sum()

    def draw(self, rng: np.random.Generator) -> LabelledSlice:
        case = self._cases[rng.choice(len(self._cases), p=self._chances)]
        return case[rng.integers(len(case))]


def in_window(hu: NDArray[np.int16], window: HounsfieldWindow) -> NDArray[np.float32]:
    """Hounsfield units as parts of the window, float32 in 0 to 1."""
    scaled = (hu.astype(np.float32) - window.lower_hu) / window.width_hu
    return np.clip(scaled, 0, 1).astype(np.float32)


class SliceBatches:
    """Augmented batches of any epoch; a batch depends on seed, epoch and index only.

    A batch is (images, classes): float32 [batch, side, side, 1] in window units, and float32
    one-hot [batch, side, side, 3]. The side is the configuration's crop in its first epochs, then
    its grid.
    """

    def __init__(self, slices: list[LabelledSlice], config: TrainingConfig) -> None:
        self._config = config
        sampling = config.sampling
        kinds = (
            (sampling.with_tumor, [s for s in slices if s.tumor_px > 0]),
            (sampling.liver_only, [s for s in slices if s.liver_px > 0 and s.tumor_px == 0]),
            (sampling.without_liver, [s for s in slices if s.liver_px == 0]),
        )
        self._samplers = [(count, _CaseBalanced(kind)) for count, kind in kinds if count]

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The epoch's batches in order, each made while the one before it is in use."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            ahead = pool.submit(self.batch, epoch, 0)
            for index in range(1, self._config.steps_per_epoch):
                ready, ahead = ahead, pool.submit(self.batch, epoch, index)
                yield ready.result()
            yield ahead.result()

    def batch(self, epoch: int, index: int) -> Batch:
        rng = np.random.default_rng((self._config.seed, epoch, index))
        drawn = [sampler.draw(rng) for count, sampler in self._samplers for _ in range(count)]
        images, classes = zip(*(self._sample(item, epoch, rng) for item in drawn), strict=True)
        return np.stack(images), np.stack(classes)

    def _sample(self, item: LabelledSlice, epoch: int, rng: np.random.Generator) -> Batch:
        config = self._config
        image = in_window(item.hu(), config.window)[..., None]
        one_hot = np.eye(CLASSES, dtype=np.float32)[item.labels()]
        warp = Warp.draw(rng, image.shape[:2], config.augment)
        # OpenCV fills with 0 what comes in from outside, where the background should be 1: it is
        # what the other two classes leave.
        structures = to_grid(warp.apply(one_hot[..., 1:]), config.grid)
        background = 1 - structures.sum(axis=-1, keepdims=True)
        shares = np.concatenate([background, structures], axis=-1)
        classes = np.eye(CLASSES, dtype=np.float32)[shares.argmax(axis=-1)]
        image = change_intensity(to_grid(warp.apply(image), config.grid), rng, config.augment)
        if epoch < config.crop_epochs:
            window = draw_crop(rng, classes, config.crop)
            image, classes = image[window], classes[window]
        return image, classes
