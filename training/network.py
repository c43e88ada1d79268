"""The networks that can be trained: one to ship, and those it is compared with.

All take window units, float [slices, rows, columns, context] in 0 to 1, and give class scores
(logits), float32 [slices, rows, columns, classes]; with deep supervision a list of such scores
while they learn, the finest first. Sides are multiples of 32, fixed or, with `grid` None, any; the
weights are the same.
"""

from collections.abc import Sequence
from pathlib import Path

import keras
from keras import layers

from training.config import NetworkConfig

ENCODER_SKIPS = ("conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out")
"""Encoder outputs at 1/2, 1/4, 1/8 and 1/16 of the input; `conv5_block3_out` is the bottom."""

# Means of ImageNet in the order blue, green, red, on a scale of 0 to 255: what the weights of
# keras.applications.ResNet50 were trained with ("caffe" preprocessing).
_IMAGENET_MEANS = (103.939, 116.779, 123.68)

_SUPERVISED_STAGES = 3
"""Stages with scores of their own under deep supervision, the finest among them."""

Scores = Sequence[keras.KerasTensor]
"""Of the stages that learn, the finest first."""


def build_network(
    config: NetworkConfig, grid: int | None, classes: int, encoder_weights: Path | None = None
) -> keras.Model:
    """The network of a configuration, at random or with its encoder from `encoder_weights`.

    Raises ValueError for weights where there is no ResNet-50, and for a number of filters that the
    architecture does not have.
    """
    build = {
        "resnet50_unet": _resnet50_unet,
        "resnet50_fpn": _resnet50_fpn,
        "unet": _unet,
        "unet++": _unet_plus_plus,
    }[config.architecture]
    image = keras.Input((grid, grid, config.context), name="image")
    scores = build(image, config, classes, encoder_weights)
    outputs = list(scores) if config.deep_supervision else scores[0]
    return keras.Model(image, outputs, name=config.architecture.replace("+", "p"))


def finest(network: keras.Model) -> keras.Model:
    """The network without the scores and the optimiser that only helped it to learn."""
    return keras.Model(network.inputs, network.outputs[0], name=network.name)


def weight_shapes(network: keras.Model) -> list[tuple[int, ...]]:
    """Of all weights in their order: networks in which these differ cannot share them."""
    return [tuple(weight.shape) for weight in network.weights]


def _resnet50_unet(
    image: keras.KerasTensor, config: NetworkConfig, classes: int, weights: Path | None
) -> Scores:
    """Ronneberger et al., MICCAI 2015, on the encoder of He et al., CVPR 2016."""
    _expect_filters(config, 5)
    encoder = _resnet50(image, weights)
    x = encoder.get_layer("conv5_block3_out").output
    skips = [encoder.get_layer(name).output for name in reversed(ENCODER_SKIPS)]
    stages = _decode(x, skips, config.filters, config)
    return _supervised(stages, config, classes)


def _resnet50_fpn(
    image: keras.KerasTensor, config: NetworkConfig, classes: int, weights: Path | None
) -> Scores:
    """Kirillov et al., CVPR 2019: every level of the encoder on one width, added from the top.

    `filters` are the widths of the pyramid and of the head. Without deep supervision.
    """
    _expect_filters(config, 2)
    width, head = config.filters
    encoder = _resnet50(image, weights)
    x, total = None, None
    for level, name in enumerate(("conv5_block3_out", *reversed(ENCODER_SKIPS[1:]))):
        lateral = layers.Conv2D(width, 1, name=f"{name}_lateral")(encoder.get_layer(name).output)
        x = lateral if x is None else layers.Add()([layers.UpSampling2D(2)(x), lateral])
        at_quarter = _up_to_quarter(x, head, config, doublings=3 - level)
        total = at_quarter if total is None else layers.Add()([total, at_quarter])
    fine = layers.UpSampling2D(2, name="head_up1")(total)
    fine = layers.UpSampling2D(2, name="head_up2")(_convolve(fine, head // 2, config, "head"))
    return [_scores(_convolve(fine, head // 4, config, "head_fine"), classes, "scores")]


def _up_to_quarter(
    x: keras.KerasTensor, filters: int, config: NetworkConfig, doublings: int
) -> keras.KerasTensor:
    """One level of the pyramid at 1/4 of the input, a convolution before each doubling."""
    for step in range(max(1, doublings)):
        x = _convolve(x, filters, config, f"level{doublings}_{step}")
        x = layers.UpSampling2D(2, name=f"level{doublings}_{step}_up")(x) if doublings else x
    return x


def _unet(
    image: keras.KerasTensor, config: NetworkConfig, classes: int, weights: Path | None
) -> Scores:
    """Ronneberger et al., MICCAI 2015, with batch normalisation."""
    _expect_no_weights(weights)
    x, skips = image, []
    for stage, filters in enumerate(reversed(config.filters)):
        x = layers.MaxPooling2D(name=f"encoder{stage}_pool")(x) if stage else x
        x = _convolve(x, filters, config, f"encoder{stage}_a")
        x = _convolve(x, filters, config, f"encoder{stage}_b")
        skips.append(x)
    stages = _decode(x, skips[-2::-1], config.filters[1:], config)
    return _supervised(stages, config, classes)


def _unet_plus_plus(
    image: keras.KerasTensor, config: NetworkConfig, classes: int, weights: Path | None
) -> Scores:
    """Zhou et al., IEEE TMI 39, 2020: every node sees all nodes of its level before it.

    With deep supervision the scores are those of the finest level's nodes, the last one first.
    """
    _expect_no_weights(weights)
    widths = config.filters[::-1]
    nodes: dict[tuple[int, int], keras.KerasTensor] = {}
    for column in range(len(widths)):
        for level in range(len(widths) - column):
            if column:
                below = layers.UpSampling2D(2)(nodes[level + 1, column - 1])
                x = layers.Concatenate()([*(nodes[level, c] for c in range(column)), below])
            else:
                x = layers.MaxPooling2D()(nodes[level - 1, 0]) if level else image
            x = _convolve(x, widths[level], config, f"node{level}_{column}_a")
            nodes[level, column] = _convolve(x, widths[level], config, f"node{level}_{column}_b")
    last_first = [nodes[0, column] for column in range(len(widths) - 1, 0, -1)]
    names = ("scores", *(f"scores_node{number}" for number in range(1, _SUPERVISED_STAGES)))
    learning = zip(last_first, names if config.deep_supervision else names[:1], strict=False)
    return [_scores(node, classes, name) for node, name in learning]


def _resnet50(image: keras.KerasTensor, weights: Path | None) -> keras.Model:
    """Three slices take the place of the three colours; one slice is seen in all of them."""
    context = image.shape[-1]
    if context not in (1, 3):
        raise ValueError(f"a ResNet-50 sees 1 or 3 slices at once, found a context of {context}")
    colours = (
        image if context == 3 else layers.Concatenate(name="grey_to_bgr")([image, image, image])
    )
    caffe = layers.Rescaling(255.0, [-mean for mean in _IMAGENET_MEANS], name="imagenet")(colours)
    encoder = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=caffe)
    if weights is not None:
        try:
            encoder.load_weights(str(weights))
        except (OSError, ValueError, KeyError) as error:
            expected = "expected weights of keras.applications.ResNet50(include_top=False)"
            raise ValueError(f"{weights}: {expected}, found none to read") from error
    return encoder


def _decode(
    x: keras.KerasTensor,
    skips: Sequence[keras.KerasTensor],
    filters: Sequence[int],
    config: NetworkConfig,
) -> list[keras.KerasTensor]:
    """A U-Net's stages from the coarsest to the finest; the last may be without a skip."""
    stages = []
    for stage, width in enumerate(filters, start=1):
        x = layers.UpSampling2D(2, name=f"decoder{stage}_up")(x)
        if stage <= len(skips):
            x = layers.Concatenate(name=f"decoder{stage}_skip")([x, skips[stage - 1]])
        x = _convolve(x, width, config, f"decoder{stage}_a")
        x = _convolve(x, width, config, f"decoder{stage}_b")
        stages.append(x)
    return stages


def _supervised(stages: Sequence[keras.KerasTensor], config: NetworkConfig, classes: int) -> Scores:
    """Scores of the last stage, and under deep supervision of those before it, at its size."""
    scores = [_scores(stages[-1], classes, "scores")]
    coarser = stages[-2 : -1 - _SUPERVISED_STAGES : -1] if config.deep_supervision else ()
    for step, stage in enumerate(coarser, start=1):
        name = f"scores_{2**step}"
        small = _scores(stage, classes, name)
        up = layers.UpSampling2D(
            2**step, interpolation="bilinear", dtype="float32", name=f"{name}_up"
        )
        scores.append(up(small))
    return scores


def _scores(x: keras.KerasTensor, classes: int, name: str) -> keras.KerasTensor:
    x = layers.Conv2D(classes, 1, name=name)(x)
    return layers.Activation("linear", dtype="float32", name=f"{name}_float32")(x)


def _convolve(
    x: keras.KerasTensor, filters: int, config: NetworkConfig, name: str
) -> keras.KerasTensor:
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(momentum=config.norm_momentum, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def _expect_filters(config: NetworkConfig, count: int) -> None:
    if len(config.filters) != count:
        raise ValueError(
            f"{config.architecture}: expected {count} numbers of filters, found "
            f"{len(config.filters)}"
        )


def _expect_no_weights(weights: Path | None) -> None:
    if weights is not None:
        raise ValueError("expected no encoder weights for a network without ResNet-50")
