"""Losses on class scores."""

import keras
from keras import ops

from training.config import LossConfig


@keras.saving.register_keras_serializable(package="training")
class CrossEntropyAndOverlap(keras.losses.Loss):  # type: ignore[misc]  # Keras carries no types
    """Mean cross-entropy plus 1 - soft Tversky index, a weighted mean over the structures present.

    `y_true`: one-hot [batch, rows, columns, classes]; `y_pred`: logits of the same shape. Class 0
    is the background and has no overlap term. The index is pooled over the batch; a class that the
    batch does not hold has no overlap term (its cross-entropy remains). With `miss` 0.5 the index
    is soft Dice (Milletari et al., 3DV 2016), above it a missed pixel costs more than a false one
    (Salehi et al., MLMI 2017). `focus` above 0 lets the cross-entropy look away from pixels that
    are right already (Lin et al., ICCV 2017). `tumor_weight` is that of the last class.
    """

    def __init__(
        self,
        miss: float = 0.5,
        focus: float = 0.0,
        tumor_weight: float = 1.0,
        name: str = "cross_entropy_and_overlap",
        **kwargs: object,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.miss, self.focus, self.tumor_weight = miss, focus, tumor_weight

    @classmethod
    def of(cls, config: LossConfig) -> "CrossEntropyAndOverlap":
        return cls(**config.model_dump())

    def get_config(self) -> dict[str, object]:
        own = {"miss": self.miss, "focus": self.focus, "tumor_weight": self.tumor_weight}
        return {**super().get_config(), **own}

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        log_p = ops.log_softmax(ops.cast(y_pred, "float32"), axis=-1)
        log_truth = ops.sum(y_true * log_p, axis=-1)
        wrong = (1 - ops.exp(log_truth)) ** self.focus if self.focus else 1.0
        # By slice: of a loss that is one number already, several devices would not take the mean.
        cross_entropy = -ops.mean(wrong * log_truth, axis=(1, 2))

        p = ops.exp(log_p)[..., 1:]
        truth = y_true[..., 1:]
        axes = (0, 1, 2)
        overlap = ops.sum(p * truth, axis=axes)
        size = ops.sum(truth, axis=axes)
        missed, false = size - overlap, ops.sum(p, axis=axes) - overlap
        index = overlap / (overlap + self.miss * missed + (1 - self.miss) * false + 1e-6)
        last = ops.arange(truth.shape[-1]) == truth.shape[-1] - 1
        weight = ops.cast(size > 0, "float32") * ops.where(last, self.tumor_weight, 1.0)
        lost = ops.sum(weight * (1 - index)) / ops.maximum(ops.sum(weight), 1e-6)
        return cross_entropy + lost
