"""The network: a ResNet-50 encoder with ImageNet weights and a U-Net decoder."""

from pathlib import Path

import keras
from keras import layers

ENCODER_SKIPS = ("conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out")
"""Encoder outputs at 1/2, 1/4, 1/8 and 1/16 of the input; `conv5_block3_out` is the bottom."""

# Means of ImageNet in the order blue, green, red, on a scale of 0 to 255: what the weights of
# keras.applications.ResNet50 were trained with ("caffe" preprocessing).
_IMAGENET_MEANS = (103.939, 116.779, 123.68)


def resnet50_unet(
    grid: int | None,
    classes: int,
    decoder_filters: tuple[int, ...],
    encoder_weights: Path | None = None,
) -> keras.Model:
    """Network from window units to class scores (logits).

    Input: float [slices, grid, grid, 1] in 0 to 1; output: float32 [slices, grid, grid, classes].
    With `grid` None the sides may be any multiple of 32. The weights are the same in both.
    `encoder_weights` is a file for `ResNet50(include_top=False)`; None starts at random.
    Source: Ronneberger et al., MICCAI 2015, on the encoder of He et al., CVPR 2016.
    """
    image = keras.Input((grid, grid, 1), name="image")
    grey = layers.Concatenate(name="grey_to_bgr")([image, image, image])
    caffe = layers.Rescaling(255.0, [-mean for mean in _IMAGENET_MEANS], name="imagenet")(grey)
    encoder = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=caffe)
    if encoder_weights is not None:
        encoder.load_weights(str(encoder_weights))

    x = encoder.get_layer("conv5_block3_out").output
    skips = [encoder.get_layer(name).output for name in reversed(ENCODER_SKIPS)]
    for stage, filters in enumerate(decoder_filters, start=1):
        x = layers.UpSampling2D(2, name=f"decoder{stage}_up")(x)
        if stage <= len(skips):
            x = layers.Concatenate(name=f"decoder{stage}_skip")([x, skips[stage - 1]])
        x = _convolve(x, filters, f"decoder{stage}_a")
        x = _convolve(x, filters, f"decoder{stage}_b")
    scores = layers.Conv2D(classes, 1, name="scores")(x)
    scores = layers.Activation("linear", dtype="float32", name="scores_float32")(scores)
    return keras.Model(image, scores, name="resnet50_unet")


def _convolve(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)
