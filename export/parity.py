"""How far two stages of an export agree on the same slices."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.runners import Runner
from service.inference.contract import SelfTest
from service.phantom import abdomen_hu

SHAPES = ((512, 512), (511, 384), (300, 517), (64, 64), (1024, 768))
"""Rows and columns at which stages are compared: odd, oblong, smaller and larger than the grid."""


class ParityError(ValueError):
    """Two stages of the export differ by more than they may."""


@dataclass(frozen=True)
class Difference:
    """What two stages say of the same slices."""

    label_agreement: float
    """Part of the pixels with the same label."""
    organ_dice: float
    """Dice between their organs (label >= 1), pooled over all slices; 1 where both find none."""
    tumor_dice: float
    """The same for tumour."""
    largest_probability_difference: int
    """Between their tumour probabilities, in steps of 1/255."""

    def __str__(self) -> str:
        return (
            f"labels agree on {self.label_agreement:.6f} of the pixels "
            f"(Dice: organ {self.organ_dice:.4f}, tumour {self.tumor_dice:.4f}), "
            f"tumour probability within {self.largest_probability_difference}/255"
        )


@dataclass(frozen=True)
class Tolerance:
    """The most that two stages may differ."""

    label_agreement: float
    organ_dice: float = 0.0
    largest_probability_difference: int = 255

    def check(self, found: Difference, stages: str) -> None:
        """Raises ParityError where `found` is beyond this."""
        if (
            found.label_agreement < self.label_agreement
            or found.organ_dice < self.organ_dice
            or found.largest_probability_difference > self.largest_probability_difference
        ):
            raise ParityError(f"{stages}: expected {self}, found: {found}")


def compare(first: Runner, second: Runner, scans_hu: Iterable[NDArray[np.int16]]) -> Difference:
    """Compare on scans of any sizes, each int16 HU [slices, rows, columns]."""
    pairs = [(first(hu), second(hu)) for hu in scans_hu]
    ours = np.concatenate([one.labels.ravel() for one, _ in pairs])
    theirs = np.concatenate([other.labels.ravel() for _, other in pairs])
    return Difference(
        label_agreement=float(np.mean(ours == theirs)),
        organ_dice=_overlap(ours >= 1, theirs >= 1),
        tumor_dice=_overlap(ours == 2, theirs == 2),
        largest_probability_difference=max(
            int(
                np.abs(
                    one.tumor_probability.astype(np.int16)
                    - other.tumor_probability.astype(np.int16)
                ).max()
            )
            for one, other in pairs
        ),
    )


def _overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def phantom_scans(slices: int = 3) -> list[NDArray[np.int16]]:
    """The synthetic abdomen at every one of `SHAPES`, cut from the middle of a square."""
    return [_middle(abdomen_hu(1, slices, max(shape)), shape) for shape in SHAPES]


def _middle(hu: NDArray[np.int16], shape: tuple[int, int]) -> NDArray[np.int16]:
    top, left = ((have - want) // 2 for have, want in zip(hu.shape[1:], shape, strict=True))
    return hu[:, top : top + shape[0], left : left + shape[1]]


def self_test(runner: Runner, seed: int, size: int, slices: int, tolerance: float) -> SelfTest:
    """The self-test with the voxel counts that this runner gives."""
    labels = runner(abdomen_hu(seed, slices, size)).labels
    return SelfTest(
        seed=seed,
        size=size,
        slices=slices,
        liver_voxels=int((labels >= 1).sum()),
        tumor_voxels=int((labels == 2).sum()),
        tolerance=tolerance,
    )


def check_self_test(runner: Runner, expected: SelfTest) -> SelfTest:
    """What the runner gives in place of `expected`.

    Raises ParityError where the service would refuse it.
    """
    found = self_test(runner, expected.seed, expected.size, expected.slices, expected.tolerance)
    if not expected.accepts(found.liver_voxels, found.tumor_voxels):
        raise ParityError(f"self-test: expected {expected}, found {found}")
    return found
