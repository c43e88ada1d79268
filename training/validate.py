"""Looks at held-out cases while a network learns."""

import math
from collections.abc import Iterator
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
        earlier = [line.get("tumor_dice") for line in folder.logged()]
        self._history = [value for value in earlier if value is not None]

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
            seen = mean_dice(self._config, model, self._held_out)
            best = max(self._history, default=-math.inf)
            if self._choose and seen["tumor_dice"] > best:
                self._folder.save(finest(model), self._folder.best_path)
        self._history.append(seen["tumor_dice"])
        return seen


def mean_dice(config: TrainingConfig, model: keras.Model, data: Dataset) -> dict[str, float]:
    """Dice per case: of the liver over all cases, of tumour over those that have any.

    Where none has, tumour is 1 or 0 by case: whether none was found.
    """
    predict = NetworkPredictor(model, config.grid, config.window)
    with_tumor = [case for case in data.cases if case.tumor_px] or data.cases
    liver, tumor = [], []
    for case in data.cases:
        truth, found = case.labels(), predict(case_as_seen(case, config)).labels
        liver.append(dice(truth >= 1, found >= 1))
        if case in with_tumor:
            tumor.append(dice(truth == 2, found == 2))
    return {"liver_dice": float(np.mean(liver)), "tumor_dice": float(np.mean(tumor))}


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
