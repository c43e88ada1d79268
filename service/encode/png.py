"""Pictures: masks as data, overlays and a montage to look at."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from highdicom import Volume
from numpy.typing import NDArray

from service.inference.segment import Segmentation
from service.volume import LIVER_LABEL, TUMOR_LABEL, HounsfieldWindow

Rgb = NDArray[np.uint8]
Color = tuple[int, int, int]

LIVER_COLOR: Color = (90, 200, 120)
TUMOR_COLOR: Color = (255, 80, 70)
_TUMOR_OPACITY = 0.35

_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
"""Without line filters: overlays take 0.4 and masks 0.2 of the time, and both are smaller."""

_LONGEST_SIDE_PX = 4096
"""Of a picture that is stretched to square pixels: spacings of a header may differ by anything."""

_TILE_PX = 320
_TILES = 12
_CAPTION_PX = 26

_DISPLAY_ORIENTATIONS = {"H": ("P", "L"), "F": ("P", "L"), "L": ("F", "P"), "R": ("F", "P"),
                         "P": ("F", "L"), "A": ("F", "L")}  # fmt: skip
"""Where rows and columns point on a radiologist's screen, by the direction of the slices."""


def mask_png(labels: Volume, slice_index: int) -> bytes:
    """The labels of one slice themselves (0, 1, 2), 8-bit grey, in the source's own grid."""
    return _encode(np.asarray(labels.array[slice_index], dtype=np.uint8))


def overlay_pngs(segmentation: Segmentation, window: HounsfieldWindow) -> Iterator[bytes]:
    """Each source slice with its outlines, turned the usual way and with square pixels."""
    view = View.as_displayed(segmentation, window)
    for index in range(len(view.hu)):
        yield _encode(cv2.cvtColor(view.overlay(index, view.natural_size()), cv2.COLOR_RGB2BGR))


def preview_png(segmentation: Segmentation, window: HounsfieldWindow, caption: str) -> bytes:
    """A montage of axial slices through the liver, or through everything where there is none."""
    view = View.of(segmentation, window, ("H", "P", "L"))
    tiles = [_tile(view, index) for index in _shown_slices(view.labels)]
    columns = min(4, len(tiles))
    while len(tiles) % columns:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    montage = np.vstack([*rows, _caption(caption, columns * _TILE_PX)])
    return _encode(cv2.cvtColor(montage, cv2.COLOR_RGB2BGR))


@dataclass(frozen=True)
class View:
    """HU and labels [slice, row, column] turned as shown.

    `pixel_mm` are the distances between rows and between columns, `orientation` says where slices,
    rows and columns point.
    """

    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    pixel_mm: tuple[float, float]
    orientation: tuple[str, str, str]
    window: HounsfieldWindow
    sides_are_known: bool

    @classmethod
    def as_displayed(cls, segmentation: Segmentation, window: HounsfieldWindow) -> "View":
        """The source's slices in their order, turned as a radiologist sees them."""
        return cls.of(segmentation, window, _display_orientation(segmentation.labels))

    @classmethod
    def of(
        cls,
        segmentation: Segmentation,
        window: HounsfieldWindow,
        orientation: tuple[str, str, str],
    ) -> "View":
        hu = segmentation.scan.volume.to_patient_orientation(orientation)
        labels = segmentation.labels.to_patient_orientation(orientation)
        sides_mm = (hu.spacing[1], hu.spacing[2])
        return cls(
            np.asarray(hu.array),
            np.asarray(labels.array),
            sides_mm,
            orientation,
            window,
            segmentation.scan.sides_are_known,
        )

    def grey(self, index: int) -> NDArray[np.uint8]:
        """One slice through the window, [row, column]."""
        hu = self.hu[index].astype(np.float32)
        scaled = (hu - self.window.lower_hu) / self.window.width_hu
        return np.asarray(np.clip(scaled, 0, 1) * 255, dtype=np.uint8)

    def natural_size(self) -> tuple[int, int]:
        """Rows and columns with square pixels, none of them larger than the source's.

        They are larger only where a side would be longer than the source's and `_LONGEST_SIDE_PX`.
        """
        rows, columns = self.hu.shape[1:]
        row_mm, column_mm = self.pixel_mm
        longest_px = max(_LONGEST_SIDE_PX, rows, columns)
        longest_mm = max(rows * row_mm, columns * column_mm)
        pixel_mm = max(min(row_mm, column_mm), longest_mm / longest_px)
        return max(1, round(rows * row_mm / pixel_mm)), max(
            1, round(columns * column_mm / pixel_mm)
        )

    def overlay(self, index: int, size: tuple[int, int]) -> Rgb:
        """One slice at `size` (rows, columns): tumour tinted, liver and tumour outlined."""
        rows, columns = size
        shrinks = rows < self.hu.shape[1]
        grey = cv2.resize(
            self.grey(index),
            (columns, rows),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
        labels = cv2.resize(self.labels[index], (columns, rows), interpolation=cv2.INTER_NEAREST)
        picture: Rgb = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
        tumor = labels == TUMOR_LABEL
        tint = np.array(TUMOR_COLOR, dtype=np.float32)
        picture[tumor] = (1 - _TUMOR_OPACITY) * picture[tumor] + _TUMOR_OPACITY * tint
        for mask, color in ((labels >= LIVER_LABEL, LIVER_COLOR), (tumor, TUMOR_COLOR)):
            outlines, _ = cv2.findContours(
                mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
            )
            cv2.drawContours(picture, outlines, -1, color, 1)
        return picture


def _display_orientation(volume: Volume) -> tuple[str, str, str]:
    """The source's slices in their order, rows and columns turned as a radiologist sees them."""
    slices = str(volume.get_closest_patient_orientation()[0].value)
    return (slices, *_DISPLAY_ORIENTATIONS[slices])


def _shown_slices(labels: NDArray[np.uint8]) -> list[int]:
    """Evenly spread slices through the liver, one of them the slice with most tumour."""
    with_liver = np.flatnonzero((labels >= LIVER_LABEL).any(axis=(1, 2)))
    first, last = (with_liver[0], with_liver[-1]) if len(with_liver) else (0, len(labels) - 1)
    shown = np.unique(np.linspace(first, last, _TILES).round().astype(int))
    tumor = (labels == TUMOR_LABEL).sum(axis=(1, 2))
    if tumor.any():
        shown[np.abs(shown - tumor.argmax()).argmin()] = tumor.argmax()
    return [int(index) for index in shown]


def _tile(view: View, index: int) -> Rgb:
    rows, columns = view.natural_size()
    scale = _TILE_PX / max(rows, columns)
    size = (max(1, round(rows * scale)), max(1, round(columns * scale)))
    picture = view.overlay(index, size)
    tile = np.zeros((_TILE_PX, _TILE_PX, 3), dtype=np.uint8)
    top, left = (_TILE_PX - size[0]) // 2, (_TILE_PX - size[1]) // 2
    tile[top : top + size[0], left : left + size[1]] = picture
    if view.sides_are_known:
        _write(tile, f"axial {index}", (6, 16))
        _write(tile, "R", (6, _TILE_PX // 2))
        _write(tile, "L", (_TILE_PX - 16, _TILE_PX // 2))
    else:
        _write(tile, f"slice {index}", (6, 16))
    return tile


def _caption(text: str, width: int) -> Rgb:
    strip = np.zeros((_CAPTION_PX, width, 3), dtype=np.uint8)
    _write(strip, text, (6, 18))
    return strip


def _write(picture: Rgb, text: str, at: tuple[int, int]) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (235, 235, 235), 1, cv2.LINE_AA)


def _encode(image: NDArray[np.uint8]) -> bytes:
    encoded, buffer = cv2.imencode(".png", image, _PNG)
    if not encoded:
        raise RuntimeError(f"OpenCV could not encode {image.shape} as PNG")
    return buffer.tobytes()
