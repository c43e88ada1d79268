"""Looks at held-out cases while a network learns."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import keras
import numpy as np

from training.config import TrainingConfig
from training.context import case_as_seen
from training.data import Dataset
from training.evaluation.metrics import dice
from training.network import finest
from training.predict import NetworkPredictor
from training.run_folder import RunFolder


class Looks:
    """Looks every few epochs, keeps the network that did best, and says when it is enough.

    Without `choose` it only looks: what is measured on the same cases must not be chosen on them.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: RunFolder,
        held_out: Dataset | None,
        choose: bool = True,
    ) -> None:
        self._choose = choose
        self._config = config
        self._folder = folder
        self._held_out = held_out
        self._network: keras.Model | None = None  # of the same weights as the one that learns
        self._history = [_merit(line) for line in folder.logged() if "liver_dice" in line]

    @property
    def enough(self) -> bool:
        patience = self._config.validation.patience
        if not self._choose or patience is None or len(self._history) <= patience:
            return False
        return max(self._history[-patience:]) <= max(self._history[:-patience])

    def after(self, epoch: int, model: keras.Model) -> dict[str, float]:
        """Mean Dice per case; nothing where it is not yet time to look."""
        every = self._config.validation.every_epochs
        if self._held_out is None or not every or (epoch + 1) % every:
            return {}
        with averaged_weights(model):
            network = self._network = self._network or finest(model)
            seen = mean_dice(self._config, network, self._held_out)
            if self._choose and all(_merit(seen) > earlier for earlier in self._history):
                self._folder.save(network, self._folder.best_path)
        self._history.append(_merit(seen))
        return seen


def _merit(seen: Mapping[str, float]) -> tuple[float, float]:
    """Tumour decides; the liver where no case has tumour, or none of it is found yet."""
    return seen.get("tumor_dice", 0.0), seen["liver_dice"]


def mean_dice(config: TrainingConfig, network: keras.Model, data: Dataset) -> dict[str, float]:
    """Dice per case: of the liver over all cases, of tumour over those that have any, if any do."""
    predict = NetworkPredictor(network, config.grid, config.window)
    liver, tumor = [], []
    for case in data.cases:
        truth, found = case.labels(), predict(case_as_seen(case, config)).labels
        liver.append(dice(truth >= 1, found >= 1))
        if case.tumor_px:
            tumor.append(dice(truth == 2, found == 2))
    means = {"liver_dice": float(np.mean(liver))}
    return means | ({"tumor_dice": float(np.mean(tumor))} if tumor else {})


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """The model with the running mean of its weights, where its optimiser keeps one."""
    if not model.optimizer.use_ema:
        yield
        return
    variables = model.trainable_variables
    own = [np.array(variable) for variable in variables]
    model.optimizer.finalize_variable_values(variables)
    for variable in variables:
        # On JAX the optimiser's own array is now the weight's, and a prediction gives it away.
        variable.assign(np.array(variable))
    try:
        yield
    finally:
        for variable, value in zip(variables, own, strict=True):
            variable.assign(value)
