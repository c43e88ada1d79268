"""The deployed graph's own part: window, field of view, scores back to pixels, decision."""

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from export.convert import to_onnx
from export.runners import Prediction, Runner, onnx_runner
from export.signature import Preprocessing, Signature, to_grid, triangles
from service.inference.contract import Thresholds
from service.volume import HounsfieldWindow
from training.batches import in_window
from training.grid import grid_weights
from training.grid import to_grid as training_to_grid

WINDOW = HounsfieldWindow(lower_hu=-40, upper_hu=160)
SHAPES = [(512, 512), (511, 384), (300, 517), (64, 64), (63, 65), (1024, 768), (1, 40)]
LIVER_HU, TUMOR_HU = 100, 40


def by_threshold(image: tf.Tensor) -> tf.Tensor:
    """A network that looks at one pixel: 0.4 of the window is tumour, 0.7 is liver, 0 is air."""
    steep = 200.0
    return tf.concat([-steep * tf.abs(image - centre) for centre in (0.0, 0.7, 0.4)], axis=-1)


@pytest.fixture(scope="module", params=["tensorflow", "onnx"])
def threshold_runner(request: pytest.FixtureRequest) -> Runner:
    signature = Signature(by_threshold, Preprocessing(64, WINDOW))
    return signature.run if request.param == "tensorflow" else onnx_runner(to_onnx(signature))


@pytest.mark.parametrize("grid", [64, 256])
@pytest.mark.parametrize(("size", "side"), [(511, 511), (384, 511), (40, 63), (1, 1), (768, 1024)])
def test_graph_weights_are_those_of_training(size: int, side: int, grid: int) -> None:
    """Where the grid is finer and where it is coarser, centred and not."""
    weights = triangles(tf.constant(size), tf.constant(side), grid).pixels_to_grid
    # Float32 in another order; a weight is at most 1.
    np.testing.assert_allclose(weights, grid_weights(size, side, grid), atol=3e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_slice_reaches_the_network_as_in_training(shape: tuple[int, int]) -> None:
    hu = np.random.default_rng(1).integers(-1024, 2000, shape).astype(np.int16)
    side = tf.constant(max(shape))
    image = in_window(hu, WINDOW)
    by_row, by_column = (triangles(tf.constant(size), side, 96) for size in shape)
    found = to_grid(tf.constant(image[None, None]), by_row, by_column)
    np.testing.assert_allclose(
        found[0, 0], training_to_grid(image[..., None], 96)[..., 0], atol=1e-4
    )


@pytest.mark.parametrize(("size", "side"), [(511, 511), (384, 511), (40, 63), (768, 1024)])
def test_scores_come_back_as_means(size: int, side: int) -> None:
    """Constant scores stay constant up to the slice's border, at any size."""
    back = triangles(tf.constant(size), tf.constant(side), 64).grid_to_pixels
    np.testing.assert_allclose(np.sum(back, axis=1), 1, atol=1e-5)


def test_scores_come_back_bilinearly_where_pixels_are_finer() -> None:
    """The same as OpenCV's half-pixel-centred linear resize, clamped border too."""
    import cv2

    scores = np.random.default_rng(2).random((64, 64)).astype(np.float32)
    back = triangles(tf.constant(300), tf.constant(300), 64).grid_to_pixels.numpy()
    expected = cv2.resize(scores, (300, 300), interpolation=cv2.INTER_LINEAR)
    # OpenCV's weights have 11 bits.
    np.testing.assert_allclose(back @ scores @ back.T, expected, atol=2e-3)


def structure(shape: tuple[int, int]) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """An L of liver with a tumour in its foot, off the centre, in air; and its labels."""
    rows, columns = shape
    labels = np.zeros(shape, dtype=np.uint8)
    labels[rows // 8 : rows * 3 // 4, columns // 8 : columns * 3 // 8] = 1
    labels[rows // 2 : rows * 3 // 4, columns // 8 : columns * 3 // 4] = 1
    labels[rows * 9 // 16 : rows * 11 // 16, columns // 2 : columns * 11 // 16] = 2
    hu = np.choose(labels, [-1000, LIVER_HU, TUMOR_HU]).astype(np.int16)
    return hu, labels


def away_from_borders(labels: NDArray[np.uint8], margin: int) -> NDArray[np.bool_]:
    """Pixels whose neighbours within the margin carry the same label, but for the array's ends."""
    import cv2

    kernel = np.ones((2 * margin + 1, 2 * margin + 1), dtype=np.uint8)
    return np.asarray(cv2.dilate(labels, kernel) == cv2.erode(labels, kernel))


@pytest.mark.parametrize("shape", [(512, 512), (511, 384), (300, 517), (128, 65), (65, 128)])
def test_a_structure_comes_back_where_it_was(
    threshold_runner: Runner, shape: tuple[int, int]
) -> None:
    """Not flipped, transposed or shifted by a pixel of the grid, in any shape of slice."""
    hu, labels = structure(shape)
    found = threshold_runner(hu[None]).labels[0]
    # Blurred over a grid cell and back, a border is uncertain by one and a half cells.
    sure = away_from_borders(labels, int(np.ceil(1.5 * max(shape) / 64)))
    assert all((labels[sure] == label).sum() > 20 for label in (0, 1, 2))
    np.testing.assert_array_equal(found[sure], labels[sure])


@pytest.mark.parametrize("shape", [(64, 64), (48, 40), (20, 33)])
def test_slices_smaller_than_the_grid(threshold_runner: Runner, shape: tuple[int, int]) -> None:
    """Centroids lie within half a pixel: an edge's blur widens the L, a shift moves it by one."""
    hu, labels = structure(shape)
    found = threshold_runner(hu[None]).labels[0]
    truth, ours = (np.argwhere(values >= 1).mean(axis=0) for values in (labels, found))
    np.testing.assert_allclose(ours, truth, atol=0.5)


def test_every_slice_is_labelled_by_itself(threshold_runner: Runner) -> None:
    hu, _ = structure((100, 80))
    air = np.full_like(hu, -1000)
    together = threshold_runner(np.stack([air, hu, hu[::-1]]))
    assert not together.labels[0].any()
    alone = threshold_runner(hu[None])
    np.testing.assert_array_equal(together.labels[1], alone.labels[0])
    np.testing.assert_array_equal(together.tumor_probability[1], alone.tumor_probability[0])


def constant_scores(liver: float, tumor: float, thresholds: Thresholds) -> Prediction:
    """What the decision makes of the same chances everywhere."""
    chances = tf.constant([1 - liver - tumor, liver, tumor])

    def network(image: tf.Tensor) -> tf.Tensor:
        return tf.math.log(chances) + tf.zeros_like(image)

    signature = Signature(network, Preprocessing(64, WINDOW, thresholds))
    return signature.run(np.zeros((1, 40, 50), dtype=np.int16))


@pytest.mark.parametrize(
    ("liver", "tumor", "threshold", "label"),
    [
        (0.30, 0.15, 0.5, 0),  # neither the organ nor anything in it
        (0.30, 0.25, 0.5, 1),  # organ only by both together
        (0.25, 0.30, 0.5, 2),  # tumour is the larger part of the organ
        (0.70, 0.25, 0.2, 2),  # a low threshold finds it, as a part of the organ
        (0.70, 0.15, 0.2, 1),
        (0.05, 0.40, 0.5, 0),  # tumour outside the organ is none
    ],
)
def test_decision(liver: float, tumor: float, threshold: float, label: int) -> None:
    """First organ or not, then tumour as a part of the organ."""
    found = constant_scores(liver, tumor, Thresholds(liver=0.5, tumor=threshold))
    assert np.unique(found.labels).tolist() == [label]
    assert np.unique(found.tumor_probability).tolist() == [round(255 * tumor)]
