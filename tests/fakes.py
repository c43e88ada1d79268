"""Segmenters whose answer is known, and the contract they go by."""

from collections.abc import Callable

import numpy as np

from service.inference.contract import (
    Context,
    FieldOfView,
    ModelContract,
    SelfTest,
    TrainingData,
    Validation,
)
from service.inference.work import Labelled, Work
from service.volume import LIVER_LABEL, TUMOR_LABEL, HounsfieldWindow


def make_contract(**changes: object) -> ModelContract:
    """A valid contract; `changes` replace its fields."""
    fields = {
        "name": "fake",
        "version": "1.0",
        "description": "labels by Hounsfield unit",
        "license": "Apache-2.0",
        "modality": "CT",
        "architecture": "none",
        "precision": "exact",
        "grid": 256,
        "window": HounsfieldWindow(lower_hu=-40, upper_hu=160),
        "field_of_view": FieldOfView(smallest_mm=287, largest_mm=512),
        "min_lesion_mm3": 30,
        "min_lesion_px": 10,
        "training_data": TrainingData(name="none", license="none", cases=0, slices=0),
        "validation": Validation(
            method="none", cases=0, liver_dice_per_case=0, tumor_dice_per_case=0, cases_with_tumor=0
        ),
        "self_test": SelfTest(
            seed=7, size=64, slices=3, liver_voxels=0, tumor_voxels=0, tolerance=0.05
        ),
    }
    return ModelContract.model_validate({**fields, **changes})


class FakeSegmenter:
    """A model and a segmenter: labels int16 HU by a rule, and keeps what it was handed."""

    sha256 = "0" * 64
    provider = "FakeExecutionProvider"
    device = "fake"
    lanes = 1
    fills_batches = False

    def __init__(
        self,
        rule: Callable[[np.ndarray], np.ndarray],
        contract: ModelContract | None = None,
        batch_slices: int = 36,
    ) -> None:
        self.contract = contract or make_contract()
        self._batch_slices = batch_slices
        self.handed: list[np.ndarray] = []
        self._rule = rule

    def run(self, hu: np.ndarray) -> Labelled:
        self.handed.append(hu.copy())
        labels = self._rule(hu[..., hu.shape[-1] // 2]).astype(np.uint8)
        return Labelled(labels, np.where(labels == TUMOR_LABEL, 204, 13).astype(np.uint8))

    def label(self, work: Work) -> None:
        """As a batcher with one request: in order, in batches."""
        for start in range(0, work.slices, self._batch_slices):
            batch = slice(start, min(start + self._batch_slices, work.slices))
            work.write(batch, self.run(work.read(batch)))
            if work.progress is not None:
                work.progress(batch.stop, work.slices)


def by_threshold(hu: np.ndarray) -> np.ndarray:
    """Labels of a phantom without noise: its liver is 108 HU, its lesions are 52 HU."""
    liver = (hu > 104) & (hu < 112)
    tumor = (hu > 48) & (hu < 56)
    return np.where(tumor, TUMOR_LABEL, np.where(liver, LIVER_LABEL, 0))


def right_half(hu: np.ndarray) -> np.ndarray:
    """Tumour in the patient's right half, which the canonical orientation shows on the left."""
    labels = np.zeros(hu.shape, dtype=np.uint8)
    labels[:, :, : hu.shape[2] // 2] = TUMOR_LABEL
    return labels


def middle_of_context(contract_slices: int, distance_mm: float) -> ModelContract:
    """A contract that asks for neighbours."""
    return make_contract(context=Context(slices=contract_slices, distance_mm=distance_mm))
