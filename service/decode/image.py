"""PNG and JPEG slices to a scan of one slice."""

import io
from typing import Literal

import numpy as np
from highdicom import Volume
from numpy.typing import NDArray
from PIL import Image

from service.decode.options import DecodeOptions
from service.errors import ColorImage, TooManyVoxels, UnreadableFile, UnsupportedPixels
from service.notices import Notice
from service.volume import HounsfieldWindow, Scan, SourceReference

_GREY_TOLERANCE = 8
"""Largest difference between the channels of a grey JPEG: its chroma is quantised."""

_GREY_MODES = ("1", "L", "LA")

_FORMATS: dict[str, Literal["png", "jpeg"]] = {"PNG": "png", "JPEG": "jpeg"}


def read(data: bytes, options: DecodeOptions) -> Scan:
    """An 8-bit grey image as Hounsfield units, int16 [1, rows, columns].

    Grey 0 and 255 stand for the ends of the request's window, else of the model's, with a notice.
    Raises `ColorImage`, `UnsupportedPixels`, `TooManyVoxels` or `UnreadableFile`.
    """
    image_format, grey = _read_grey(data, options.max_voxels)
    window = options.image_window or options.model_window
    # A table of the 256 greys: the image itself never becomes floating point.
    greys_hu = np.rint(np.arange(256) * (window.width_hu / 255) + window.lower_hu)
    hu = greys_hu.astype(np.int16)[grey]
    spacing = options.pixel_spacing_mm
    source = SourceReference(
        format=image_format,
        pixel_spacing_mm=None if spacing is None else (spacing, spacing),
        slice_spacing_mm=None,
    )
    # Slices towards the head, rows towards the back, columns to the left: the usual radiological
    # view, which is also the canonical orientation.
    in_plane = spacing or 1.0
    affine = np.array([[0, 0, in_plane, 0], [0, in_plane, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]])
    volume = Volume(hu[None], affine, "PATIENT")
    return Scan(volume, source, _notices(options.image_window, window, spacing))


def _read_grey(data: bytes, max_pixels: int) -> tuple[Literal["png", "jpeg"], NDArray[np.uint8]]:
    try:
        with Image.open(io.BytesIO(data), formats=tuple(_FORMATS)) as opened:
            if opened.width * opened.height > max_pixels:
                raise TooManyVoxels(
                    f"Expected at most {max_pixels} pixels, found {opened.width} x {opened.height}."
                )
            mode, image_format = opened.mode, _FORMATS[str(opened.format)]
            if mode.startswith("I") or mode == "F":
                raise UnsupportedPixels("Expected 8 bits a pixel, found more.")
            if mode in _GREY_MODES:
                return image_format, np.asarray(opened.convert("L"), dtype=np.uint8)
            channels = np.asarray(opened.convert("RGB"), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableFile("Expected a whole PNG or JPEG image, found a damaged one.") from error
    spread = channels.max(axis=-1) - channels.min(axis=-1)
    if spread.max() > _GREY_TOLERANCE:
        raise ColorImage(f"Expected a grey image, found channels that differ by {spread.max()}.")
    return image_format, np.asarray(channels[..., 1])


def _notices(
    asked: HounsfieldWindow | None, used: HounsfieldWindow, spacing_mm: float | None
) -> tuple[Notice, ...]:
    notices = []
    if asked is None:
        text = f"Grey 0 to 255 was taken as {used.lower_hu:g} to {used.upper_hu:g} HU."
        notices.append(Notice("window_assumed", text))
    if spacing_mm is None:
        text = "The image has no pixel spacing: areas are in pixels, volumes and lengths are null."
        notices.append(Notice("spacing_unknown", text))
    else:
        text = "A single image has no slice thickness: volumes are null."
        notices.append(Notice("thickness_unknown", text))
    return tuple(notices)
