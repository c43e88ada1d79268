"""Labelled cases without files, and predictions of them with known errors."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.phantom import Phantom
from service.volume import LIVER_LABEL, TUMOR_LABEL
from training.data import Case, LabelledSlice
from training.prediction import Prediction

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Arrays:
    """Slices by their numbers, in memory."""

    hu_by_number: dict[int, NDArray[np.int16]]
    labels_by_number: dict[int, Labels]

    def hu(self, index: int) -> NDArray[np.int16]:
        return self.hu_by_number[index]

    def labels(self, index: int) -> Labels:
        return self.labels_by_number[index]


def make_case(
    name: str,
    labels: Labels,
    hu: NDArray[np.int16] | None = None,
    numbers: Sequence[int] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    split: str | None = None,
) -> Case:
    """A case of labels [slices, rows, columns]; HU are 100 times the label unless given."""
    numbers = range(len(labels)) if numbers is None else numbers
    hu = (labels * 100).astype(np.int16) if hu is None else hu
    pixels = Arrays(dict(zip(numbers, hu, strict=True)), dict(zip(numbers, labels, strict=True)))
    slices = tuple(
        LabelledSlice(name, number, int((plane > 0).sum()), int((plane == 2).sum()), pixels)
        for number, plane in zip(numbers, labels, strict=True)
    )
    sha256 = hashlib.sha256(labels.tobytes()).hexdigest()
    return Case(name, slices, sha256, spacing_mm, split)


def phantom_case(name: str, seed: int, lesions: int = 3) -> Case:
    """A synthetic abdomen: 36 slices of 64 x 64, 5 x 6.25 x 6.25 mm."""
    hu, labels = Phantom.draw(seed, lesions).sample(36, 64, seed)
    slice_mm, row_mm, column_mm = (float(value) for value in hu.spacing)
    return make_case(
        name,
        np.asarray(labels.array),
        np.asarray(hu.array),
        spacing_mm=(slice_mm, row_mm, column_mm),
    )


def said(labels: Labels) -> Prediction:
    """A prediction that is sure of its labels."""
    return Prediction(
        labels=labels,
        tumor_probability=np.where(labels == TUMOR_LABEL, 255, 0).astype(np.uint8),
        organ_probability=np.where(labels >= LIVER_LABEL, 255, 0).astype(np.uint8),
    )
