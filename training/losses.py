"""Losses on class scores."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="training")
class CrossEntropyAndDice(keras.losses.Loss):
    """Mean cross-entropy plus 1 - soft Dice, the mean over the structures present.

    `y_true`: one-hot [batch, rows, columns, classes]; `y_pred`: logits of the same shape. Class 0
    is the background and has no Dice term. Dice is pooled over the batch; a class that the batch
    does not hold has no Dice term (its cross-entropy remains). Source: Milletari et al., 3DV 2016.
    """

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        y_pred = ops.cast(y_pred, "float32")
        log_p = ops.log_softmax(y_pred, axis=-1)
        cross_entropy = -ops.mean(ops.sum(y_true * log_p, axis=-1))

        p = ops.exp(log_p)[..., 1:]
        truth = y_true[..., 1:]
        axes = (0, 1, 2)
        overlap = ops.sum(p * truth, axis=axes)
        size = ops.sum(truth, axis=axes)
        dice = 2 * overlap / (ops.sum(p, axis=axes) + size + 1e-6)
        present = ops.cast(size > 0, "float32")
        lost = ops.sum(present * (1 - dice)) / ops.maximum(ops.sum(present), 1)
        return cross_entropy + lost
