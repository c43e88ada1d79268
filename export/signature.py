"""The deployed graph: Hounsfield units in, labels on the source's own pixels out.

Everything between a slice and its labels happens here, so that training and serving cannot drift:
window, field of view onto the network's grid, network, class scores back onto the pixels, decision.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from export.runners import Prediction
from service.inference.contract import INPUT_NAME, OUTPUT_NAMES, Thresholds
from service.volume import HounsfieldWindow

CHANCES = "chances"
"""Float32 [slices, 2, rows, columns]: organ (liver or tumour) and tumour, before the decision. An
output while a model is checked, none of the deployed one's."""

Network = Callable[[tf.Tensor], tf.Tensor]
"""From float32 [slices, grid, grid, context] in 0 to 1 to logits [slices, grid, grid, classes]:
background, liver, tumour."""


@dataclass(frozen=True)
class Preprocessing:
    """What the deployed graph does around its network."""

    grid: int
    window: HounsfieldWindow
    thresholds: Thresholds = field(default_factory=Thresholds)
    context: int = 1


class Signature(tf.Module):  # type: ignore[misc]  # TensorFlow carries no types
    """A network with everything around it, as one function of TensorFlow."""

    def __init__(self, network: Network, preprocessing: Preprocessing) -> None:
        super().__init__()
        self._network = network
        self._preprocessing = preprocessing
        pixels = tf.TensorSpec([None, None, None, preprocessing.context], tf.int16, INPUT_NAME)
        self.segment: Any = tf.function(self._segment, input_signature=[pixels])
        """int16 HU [slices, rows, columns, context] to `labels` and `tumor_probability`, both uint8
        [slices, rows, columns], and to `CHANCES`."""

    def run(self, hu: NDArray[np.int16]) -> Prediction:
        """What this function answers in TensorFlow for int16 HU [slices, rows, columns]."""
        answer = self.segment(tf.constant(hu[..., None]))
        return Prediction(*(answer[name].numpy() for name in OUTPUT_NAMES))

    def _segment(self, hu: tf.Tensor) -> dict[str, tf.Tensor]:
        grid = self._preprocessing.grid
        rows, columns = tf.shape(hu)[1], tf.shape(hu)[2]
        side = tf.maximum(rows, columns)
        by_row = triangles(rows, side, grid)
        by_column = triangles(columns, side, grid)

        # The channel moves first: with a last axis of 1, ONNX Runtime walks element by element
        # through the window's arithmetic, 18 ms a slice of 512 x 512 in place of 1.
        image = in_window(tf.transpose(hu, [0, 3, 1, 2]), self._preprocessing.window)
        on_grid = to_grid(image, by_row, by_column)
        logits = self._network(tf.transpose(on_grid, [0, 2, 3, 1]))
        chances = to_pixels(organ_and_tumor(logits), by_row, by_column)
        return {**decide(chances, self._preprocessing.thresholds), CHANCES: chances}


@dataclass(frozen=True)
class AxisWeights:
    """Overlap of grid cells with pixels along one axis, before and after normalisation."""

    pixels_to_grid: tf.Tensor
    """float32 [grid, size]: each grid cell as a mean of pixels; below 1 in sum at the border."""
    grid_to_pixels: tf.Tensor
    """float32 [size, grid]: each pixel as a mean of grid cells; 1 in sum."""


def triangles(size: tf.Tensor, side: tf.Tensor, grid: int) -> AxisWeights:
    """Weights between one axis of a slice and the network's grid, in both directions.

    `size` is the axis' length in pixels and `side` that of the square around the slice, both int32
    scalars. Onto the grid this is `training.grid.grid_weights`. Back it is the same kernel with the
    roles exchanged: half-pixel-centred bilinear interpolation where pixels are finer than the grid
    (what Resize does, its clamped border too), antialiased where they are coarser.

    The way back is a matrix multiplication, not a Resize: Resize to a slice of 64 pixels would read
    every fourth cell only. At 512 x 512 it costs 3.3 ms a slice against 1.5 ms (ONNX Runtime, one
    core), 3 % of what the int8 network takes.
    """
    step = tf.cast(side, tf.float32) / grid
    radius = tf.maximum(step, 1.0)
    margin = tf.cast(tf.math.ceil(radius), tf.int32)
    positions = tf.cast(tf.range(-margin, side + margin), tf.float32)
    centres = (tf.range(grid, dtype=tf.float32) + 0.5) * step - 0.5
    distance = tf.abs(tf.expand_dims(positions, 0) - tf.expand_dims(centres, 1))
    overlap = tf.maximum(0.0, 1.0 - distance / radius)

    # The square's margins before a slice are never negative: tf2onnx truncates floor divisions.
    before = margin + (side - size) // 2
    inside = tf.slice(overlap, [0, before], [grid, size])
    back = tf.transpose(inside)
    return AxisWeights(
        pixels_to_grid=inside / tf.reduce_sum(overlap, axis=1, keepdims=True),
        grid_to_pixels=back / tf.reduce_sum(back, axis=1, keepdims=True),
    )


def in_window(hu: tf.Tensor, window: HounsfieldWindow) -> tf.Tensor:
    """Hounsfield units as parts of the window, float32 in 0 to 1."""
    scaled = (tf.cast(hu, tf.float32) - window.lower_hu) / window.width_hu
    return tf.clip_by_value(scaled, 0.0, 1.0)


def to_grid(image: tf.Tensor, by_row: AxisWeights, by_column: AxisWeights) -> tf.Tensor:
    """Resample [slices, channels, rows, columns] onto [slices, channels, grid, grid]."""
    rows_done = tf.linalg.matmul(by_row.pixels_to_grid, image)
    return _over_columns(rows_done, by_column.pixels_to_grid)


def organ_and_tumor(logits: tf.Tensor) -> tf.Tensor:
    """Chances of the organ (liver or tumour) and of tumour, [slices, 2, grid, grid].

    `logits`: [slices, grid, grid, 3]. A softmax written out along the leading class axis.
    """
    scores = tf.transpose(tf.cast(logits, tf.float32), [0, 3, 1, 2])
    powers = tf.exp(scores - tf.reduce_max(scores, axis=1, keepdims=True))
    tumor = powers[:, 2:3]
    organ = powers[:, 1:2] + tumor
    return tf.concat([organ, tumor], axis=1) / (powers[:, 0:1] + organ)


def to_pixels(scores: tf.Tensor, by_row: AxisWeights, by_column: AxisWeights) -> tf.Tensor:
    """Resample [slices, channels, grid, grid] onto [slices, channels, rows, columns]."""
    columns_done = _over_columns(scores, by_column.grid_to_pixels)
    return tf.linalg.matmul(by_row.grid_to_pixels, columns_done)


def _over_columns(image: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Multiply [slices, channels, grid, from] by [to, from] to [slices, channels, grid, to].

    As one flat matrix: TensorFlow 2.21 with oneDNN reads beyond its memory, or dies, on a product
    of four dimensions with two.
    """
    _, channels, grid, _ = image.shape
    size_from, size_to = tf.shape(image)[3], tf.shape(weights)[0]
    product = tf.linalg.matmul(tf.reshape(image, [-1, size_from]), tf.transpose(weights))
    return tf.reshape(product, [-1, channels, grid, size_to])


def decide(chances: tf.Tensor, thresholds: Thresholds) -> dict[str, tf.Tensor]:
    """Labels and tumour probability, uint8 [slices, rows, columns], from [slices, 2, ...] chances.

    First the organ, then tumour within it: tumour is at least its threshold's part of the organ.
    """
    organ, tumor = chances[:, 0], chances[:, 1]
    is_organ = organ >= thresholds.liver
    is_tumor = tf.logical_and(is_organ, tumor >= thresholds.tumor * organ)
    return {
        "labels": tf.cast(is_organ, tf.uint8) + tf.cast(is_tumor, tf.uint8),
        "tumor_probability": tf.cast(tf.round(255.0 * tumor), tf.uint8),
    }
