"""Balanced, augmented batches of any epoch, whatever the order in which they are made."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import cv2
import keras
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from service.volume import LIVER_LABEL, TUMOR_LABEL, HounsfieldWindow
from training.augment import Warp, change_intensity, draw_crop
from training.config import TrainingConfig
from training.context import Surroundings, is_alone
from training.data import LabelledSlice
from training.drawn_livers import change_lesion_contrast, draw_lesions, shift_organ
from training.drawn_veins import draw_veins
from training.grid import GridPart

CLASSES = 3
"""Background, liver, tumour."""

Batch = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Images and one-hot classes."""


class EmptyKind(ValueError):
    """The training cases hold no slice of a kind that every batch is to have."""


class _CaseBalanced:
    """Draws a case with a chance that grows as the root of its slices, then one of its slices.

    Drawn by slice, three cases would fill nearly every batch; drawn by case alone, a case with two
    slices would be seen as often as one with a hundred.
    """

    def __init__(self, slices: Sequence[LabelledSlice]) -> None:
        by_case: dict[str, list[LabelledSlice]] = defaultdict(list)
        for item in slices:
            by_case[item.case].append(item)
        self._cases = list(by_case.values())
        roots = np.sqrt([len(case) for case in self._cases])
        self._chances = roots / roots.sum()

    def draw(self, rng: np.random.Generator) -> LabelledSlice:
        case = self._cases[rng.choice(len(self._cases), p=self._chances)]
        return case[rng.integers(len(case))]


def in_window(hu: NDArray[np.int16], window: HounsfieldWindow) -> NDArray[np.float32]:
    """Hounsfield units as parts of the window, float32 in 0 to 1."""
    scaled = (hu.astype(np.float32) - window.lower_hu) / window.width_hu
    return np.asarray(np.clip(scaled, 0, 1), dtype=np.float32)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Workers are threads enough: those of BLAS and OpenCV would take the cores that the network
    learns on, and BLAS' even spin while they wait.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, "blas"):
            yield
    finally:
        cv2.setNumThreads(before)


class SliceBatches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras carries no types
    """The batches of one epoch at a time; a batch depends on seed, epoch and index only.

    A batch is (images, classes): float32 [batch, side, side, context] in window units, and float32
    one-hot [batch, side, side, 3]. The side is the configuration's crop in its first epochs, then
    its grid. Raises `EmptyKind`.
    """

    def __init__(
        self, slices: Sequence[LabelledSlice], config: TrainingConfig, workers: int = 1
    ) -> None:
        super().__init__(workers=workers)
        self.epoch = 0
        self.config = config
        self._surroundings = Surroundings(slices)
        sampling = config.sampling
        kinds = (
            ("tumour", sampling.with_tumor, [s for s in slices if s.tumor_px]),
            (
                "liver and no tumour",
                sampling.liver_only,
                [s for s in slices if s.liver_px and not s.tumor_px],
            ),
            ("no liver", sampling.without_liver, [s for s in slices if not s.liver_px]),
        )
        for name, count, kind in kinds:
            if count and not kind:
                raise EmptyKind(f"expected slices with {name} among the training cases, found none")
        self._samplers = [(count, _CaseBalanced(kind)) for _, count, kind in kinds if count]

    def __len__(self) -> int:
        return self.config.steps_per_epoch

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng((self.config.seed, self.epoch, index))
        drawn = [sampler.draw(rng) for count, sampler in self._samplers for _ in range(count)]
        images, classes = zip(*(self.sample(item, rng) for item in drawn), strict=True)
        return np.stack(images), np.stack(classes)

    def on_epoch_end(self) -> None:
        self.epoch += 1

    def __iter__(self) -> Iterator[Batch]:
        """All batches of the epoch in order, made by `workers` threads a little ahead."""
        with _one_thread_each(), ThreadPoolExecutor(self.workers) as pool:
            ahead: list[Future[Batch]] = []
            for index in range(len(self)):
                ahead.append(pool.submit(self.__getitem__, index))
                if len(ahead) > self.workers:
                    yield ahead.pop(0).result()
            for future in ahead:
                yield future.result()

    def sample(self, item: LabelledSlice, rng: np.random.Generator) -> Batch:
        """One slice changed at random: image [side, side, context] and classes [side, side, 3]."""
        config, augment = self.config, self.config.augment
        planes = in_window(self._surroundings.drawn(item, config, rng), config.window)
        source = item.labels()
        warp = Warp.draw(rng, source.shape, augment)
        part = GridPart.whole(source.shape, config.grid)
        if self.epoch < config.crop_epochs:
            crop = draw_crop(rng, source, warp, config.grid, config.crop)
            part = GridPart.of(source.shape, config.grid, crop)
        structures = np.stack([source == LIVER_LABEL, source == TUMOR_LABEL], axis=-1)
        image = part.resampled(warp.apply(planes, part.pixels))
        labels = _labels(part.resampled(warp.apply(structures.astype(np.float32), part.pixels)))
        if is_alone(image):  # neighbours would not show what is changed here
            image, labels = self._with_another_liver(item, image, labels, rng)
        image = change_intensity(image, rng, augment)
        return image, np.eye(CLASSES, dtype=np.float32)[labels]

    def _with_another_liver(
        self,
        item: LabelledSlice,
        image: NDArray[np.float32],
        labels: NDArray[np.uint8],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        augment = self.config.augment
        drawn, veins = augment.synthetic_lesions, augment.synthetic_veins
        plane = change_lesion_contrast(image[..., 0], labels, rng, augment.lesion_contrast)
        plane = shift_organ(plane, labels, rng, augment.organ_shift)
        if veins.probability and item.liver_px and rng.random() < veins.probability:
            plane = draw_veins(plane, labels, rng, veins)
        # Last, so that the lesions show in a liver that has become white, too.
        if not item.tumor_px and item.liver_px and rng.random() < drawn.probability:
            plane, labels = draw_lesions(plane, labels, rng, drawn)
        return np.repeat(plane[..., None], image.shape[-1], axis=-1), labels


def _labels(structures: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The largest share of each pixel; background is what liver and tumour leave, and has the
    pixel where shares are equal, then the liver.
    """
    liver, tumor = cv2.split(structures)
    background = 1 - (liver + tumor)
    labels: NDArray[np.uint8] = (liver > background).astype(np.uint8)
    labels[tumor > np.maximum(liver, background)] = TUMOR_LABEL
    return labels
