"""A folder of slices as images.

It holds `manifest.csv` (`volume, slice, split, liver_or_tumour_pixels, tumour_pixels`) and, per
volume, `SSS.webp` (8-bit grey through the data set's window) and `SSS.png` (the labels).
"""

import csv
import hashlib
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.volume import HounsfieldWindow
from training.data.case import Case, Dataset, LabelledSlice, counted, wrong_labels
from training.data.problems import BadDataset, Problem

MANIFEST = "manifest.csv"

WINDOW = HounsfieldWindow(lower_hu=-40, upper_hu=160)
"""What grey 0 and 255 stand for."""

_COLOUR = 8
"""How far the channels of a grey image are apart at most: WebP has no grey, and rounds."""


@dataclass(frozen=True)
class SliceFiles:
    """The images of one case, in a folder of its own."""

    folder: Path

    def hu(self, index: int) -> NDArray[np.int16]:
        """Clipped to the folder's window, since that is all the images hold."""
        grey = _grey(self.image_path(index).read_bytes())
        hu = np.rint(grey * (WINDOW.width_hu / 255) + WINDOW.lower_hu)
        return np.asarray(hu, dtype=np.int16)

    def labels(self, index: int) -> NDArray[np.uint8]:
        return _labels(self.labels_path(index).read_bytes())

    def image_path(self, index: int) -> Path:
        return self.folder / f"{index:03d}.webp"

    def labels_path(self, index: int) -> Path:
        return self.folder / f"{index:03d}.png"


@dataclass(frozen=True)
class _Row:
    """One line of the manifest."""

    case: str
    index: int
    split: str
    liver_px: int
    tumor_px: int


def read_slice_folder(folder: Path) -> Dataset:
    """Every case that the manifest names. Raises `BadDataset` where a file is missing, damaged, or
    holds other than the manifest says.
    """
    rows, problems = _rows(folder)
    by_case: dict[str, list[_Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.case, row.index)):
        by_case[row.case].append(row)
    with ThreadPoolExecutor() as pool:
        read = list(pool.map(lambda item: _case(folder, *item), by_case.items()))
    problems += [problem for _, found in read for problem in found]
    if not rows and not problems:
        problems.append(Problem(MANIFEST, "expected a line a slice, found none"))
    if problems:
        raise BadDataset(problems)
    return Dataset(tuple(case for case, _ in read), window=WINDOW)


def _rows(folder: Path) -> tuple[list[_Row], list[Problem]]:
    rows, problems = [], []
    try:
        lines = list(csv.DictReader((folder / MANIFEST).read_text("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataset([Problem(MANIFEST, f"expected a table as CSV, found {error}")]) from error
    for number, line in enumerate(lines, start=2):
        try:
            row = _Row(
                case=line["volume"],
                index=int(line["slice"]),
                split=line["split"],
                liver_px=int(line["liver_or_tumour_pixels"]),
                tumor_px=int(line["tumour_pixels"]),
            )
        except (KeyError, TypeError, ValueError):
            found = f"line {number}: expected volume, slice, split and two counts of pixels"
            problems.append(Problem(MANIFEST, found))
            continue
        if row.case in ("", ".", "..") or Path(row.case).name != row.case:
            found = f"line {number}: expected the name of a folder beside it, found {row.case}"
            problems.append(Problem(MANIFEST, found))
            continue
        rows.append(row)
    return rows, problems


def _case(folder: Path, name: str, rows: list[_Row]) -> tuple[Case, list[Problem]]:
    files = SliceFiles(folder / name)
    digest = hashlib.sha256()
    problems, sizes = [], set[tuple[int, ...]]()
    for row in rows:
        found = _problem(files, row, digest, sizes)
        if found is not None:
            problems.append(Problem(name, f"slice {row.index}: {found}"))
    splits = {row.split for row in rows}
    if len(splits) > 1:
        problems.append(Problem(name, f"expected one split, found {', '.join(sorted(splits))}"))
    if len(sizes) > 1:
        shown = " and ".join(str(size) for size in sorted(sizes))
        problems.append(Problem(name, f"expected slices of one size, found {shown}"))
    for number, rows_of_it in Counter(row.index for row in rows).items():
        if rows_of_it > 1:
            found = f"slice {number}: expected one line in {MANIFEST}, found {rows_of_it}"
            problems.append(Problem(name, found))
    slices = tuple(
        LabelledSlice(name, row.index, row.liver_px, row.tumor_px, files) for row in rows
    )
    return Case(name, slices, digest.hexdigest(), split=rows[0].split), problems


def _problem(
    files: SliceFiles, row: _Row, digest: "hashlib._Hash", sizes: set[tuple[int, ...]]
) -> str | None:
    """What is wrong with one slice; its bytes go into the digest of its case, its size into the
    sizes of its case.
    """
    digest.update(f"{row.index}\n".encode())
    shapes = []
    for what, path, decoded in (("image", files.image_path(row.index), _grey),
                                ("mask", files.labels_path(row.index), _labels)):  # fmt: skip
        if not path.is_file():
            return f"the {what} is missing"
        data = path.read_bytes()
        digest.update(data)
        try:
            pixels = decoded(data)
        except ValueError as error:
            return f"{what}: {error}"
        shapes.append(pixels.shape)
    if shapes[0] != shapes[1]:
        return f"expected a mask of the image's shape {shapes[0]}, found {shapes[1]}"
    sizes.add(shapes[0])
    if wrong := wrong_labels(np.unique(pixels).tolist()):
        return wrong
    if counted(pixels) != (row.liver_px, row.tumor_px):
        named = (row.liver_px, row.tumor_px)
        return f"expected {named} pixels of liver and tumour, found {counted(pixels)}"
    return None


def _grey(data: bytes) -> NDArray[np.uint8]:
    """Raises ValueError for what is no image of 8-bit grey."""
    image = _decoded(data)
    if image.ndim == 2:
        return image
    blue, *others = cv2.split(image)
    if len(others) != 2 or any(cv2.absdiff(blue, other).max() > _COLOUR for other in others):
        raise ValueError("expected shades of grey, found colours")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def _labels(data: bytes) -> NDArray[np.uint8]:
    """Raises ValueError for what is no image of one channel of 8 bits."""
    image = _decoded(data)
    if image.ndim != 2:
        raise ValueError(f"expected one channel, found {image.shape[-1]}")
    return image


def _decoded(data: bytes) -> NDArray[np.uint8]:
    """As it is stored, [rows, columns] or with channels behind."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        raise ValueError("expected an image, found a damaged file")
    if image.dtype != np.uint8:
        raise ValueError(f"expected 8 bits, found {8 * image.dtype.itemsize}")
    return np.asarray(image, dtype=np.uint8)
