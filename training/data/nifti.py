"""Folders of NIfTI volumes, as LiTS and the Medical Segmentation Decathlon lay them out.

LiTS: `volume-N.nii` and `segmentation-N.nii`, also gzipped, in the folder or below it. Decathlon:
`dataset.json` with `imagesTr` and `labelsTr`. Each pair is read once by the service's own decoder,
turned to the model's orientation, and kept unpacked beside a note of what it was made from, so that
a single slice can be read without the rest.
"""

import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nibabel
import numpy as np
from highdicom import Volume
from numpy.typing import NDArray

from service.decode import decode
from service.decode.archive import ArchiveLimits
from service.decode.options import DecodeOptions
from service.errors import BadRequest
from service.volume import HounsfieldWindow, Scan, to_canonical
from training.data.case import Case, Dataset, LabelledSlice, counted, wrong_labels
from training.data.problems import BadDataset, Problem

SAME_PLACE_MM = 0.1
"""How far the corners of an image and its labels may lie apart: headers are rounded."""

_LITS_NAME = re.compile(r"(volume|segmentation)-(.+?)\.nii(\.gz)?")
_LAYOUT = 1
"""Of the prepared files; another number makes them anew."""

_NOTE = "case.json"

_HU_PER_LABEL = 100
"""Labels are read as an image of so many HU each: the decoder refuses label maps as they are."""

_HALF_LABEL = _HU_PER_LABEL // 2

_LABEL_ROUNDING = 1e-3
"""Scaled labels come out a little off, since the header's slope is a float32."""

_OPTIONS = DecodeOptions(
    archive=ArchiveLimits(max_files=1, max_decompressed_bytes=1 << 40),
    max_voxels=1 << 40,
    modality="CT",
    model_window=HounsfieldWindow(lower_hu=-40, upper_hu=160),
)
"""A researcher's own files need no limits."""


@dataclass(frozen=True)
class Pair:
    """An image and its labels on disk."""

    name: str
    image: Path
    labels: Path


@dataclass(frozen=True)
class PreparedFiles:
    """Unpacked arrays of one case, [slice, row, column]; only what is looked at is read."""

    folder: Path

    def hu(self, index: int) -> NDArray[np.int16]:
        return np.array(self._hu[index])

    def labels(self, index: int) -> NDArray[np.uint8]:
        return np.array(self._labels[index])

    @cached_property
    def _hu(self) -> NDArray[np.int16]:
        return np.asarray(np.load(self.folder / "hu.npy", mmap_mode="r"))

    @cached_property
    def _labels(self) -> NDArray[np.uint8]:
        return np.asarray(np.load(self.folder / "labels.npy", mmap_mode="r"))


def find_pairs(folder: Path) -> list[Pair]:
    """The pairs of a LiTS or Decathlon folder, by name. Raises `BadDataset` for a file alone."""
    if not folder.is_dir():
        raise BadDataset([Problem(str(folder), "expected a folder with the data, found none")])
    description = folder / "dataset.json"
    pairs, problems = _decathlon(folder, description) if description.exists() else _lits(folder)
    if not pairs and not problems:
        expected = "volume-N.nii with segmentation-N.nii, dataset.json, or manifest.csv"
        problems = [Problem(folder.name, f"expected {expected}, found none")]
    if problems:
        raise BadDataset(problems)
    return sorted(pairs, key=lambda pair: pair.name)


def read_nifti_folder(pairs: Iterable[Pair], prepared: Path) -> Dataset:
    """Prepare the pairs that are not prepared yet. Raises `BadDataset`, naming every bad case."""
    cases, problems = [], []
    for pair in pairs:
        try:
            cases.append(_case(pair, prepared))
        except ValueError as error:
            problems.append(Problem(pair.name, str(error)))
    if problems:
        raise BadDataset(problems)
    return Dataset(tuple(cases))


def _lits(folder: Path) -> tuple[list[Pair], list[Problem]]:
    files: dict[str, dict[str, Path]] = {"volume": {}, "segmentation": {}}
    problems = []
    for path in sorted(folder.rglob("*.nii*")):
        match = _LITS_NAME.fullmatch(path.name)
        if match and path.is_file():
            kind, number = match[1], match[2]
            if number in files[kind]:
                problems.append(Problem(path.name, "expected each volume once, found it twice"))
            files[kind][number] = path
    images, labels = files["volume"], files["segmentation"]
    for number in sorted(images.keys() - labels.keys()):
        problems.append(Problem(f"volume-{number}", "the mask is missing"))
    for number in sorted(labels.keys() - images.keys()):
        problems.append(Problem(f"segmentation-{number}", "the volume is missing"))
    pairs = [Pair(f"volume-{n}", images[n], labels[n]) for n in images.keys() & labels.keys()]
    return pairs, problems


def _decathlon(folder: Path, description: Path) -> tuple[list[Pair], list[Problem]]:
    try:
        fields = json.loads(description.read_text())
        entries = [(folder / item["image"], folder / item["label"]) for item in fields["training"]]
        meanings = {int(value): str(name).lower() for value, name in fields["labels"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        expected = "expected labels and a list of training images, found none to read"
        raise BadDataset([Problem(description.name, expected)]) from error
    if "liver" not in meanings.get(1, "") or set(meanings) - {0, 1, 2}:
        found = ", ".join(f"{value} {name}" for value, name in sorted(meanings.items()))
        return [], [Problem(description.name, f"expected 1 liver and 2 tumour, found {found}")]
    pairs: list[Pair] = []
    problems = []
    for image, labels in entries:
        name = image.name.split(".nii")[0]
        if any(pair.name == name for pair in pairs):
            problems.append(Problem(name, "expected each image once, found it twice"))
        missing = [
            what for what, path in (("image", image), ("mask", labels)) if not path.is_file()
        ]
        problems += [Problem(name, f"the {what} is missing") for what in missing]
        pairs.append(Pair(name, image, labels))
    named = {path.resolve() for pair in pairs for path in (pair.image, pair.labels)}
    for path in sorted([*folder.glob("imagesTr/*.nii*"), *folder.glob("labelsTr/*.nii*")]):
        if path.resolve() not in named and not path.name.startswith("."):
            problems.append(Problem(path.name, f"{description.name} does not name it"))
    return pairs, problems


def _case(pair: Pair, prepared: Path) -> Case:
    """Raises ValueError for a pair that cannot be trained on."""
    folder = prepared / f"{pair.name}-{_fingerprint(pair)}"
    if not (folder / _NOTE).exists():
        _prepare(pair, folder)
    note = json.loads((folder / _NOTE).read_text())
    files = PreparedFiles(folder)
    slices = tuple(
        LabelledSlice(pair.name, index, liver_px, tumor_px, files)
        for index, (liver_px, tumor_px) in enumerate(note["counts"])
    )
    slice_mm, row_mm, column_mm = note["spacing_mm"]
    return Case(pair.name, slices, note["sha256"], (slice_mm, row_mm, column_mm))


def _fingerprint(pair: Pair) -> str:
    """Changes with the files, without reading them."""
    facts: list[str | int] = [_LAYOUT]
    for path in (pair.image, pair.labels):
        status = path.stat()
        facts += [str(path.resolve()), status.st_size, status.st_mtime_ns]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def _prepare(pair: Pair, folder: Path) -> None:
    """Write the arrays and a note; the folder appears as a whole or not at all."""
    image_bytes, label_bytes = _unzipped(pair.image), _unzipped(pair.labels)
    scan = _read(image_bytes, "image")
    labelled = _read(_as_image(label_bytes), "mask")
    canonical, turned = (to_canonical(each.volume).volume for each in (scan, labelled))
    _check_same_grid(canonical, turned)
    labels = np.asarray(turned.array) // _HU_PER_LABEL
    partial = folder.with_name(f"{folder.name}.partial")
    for path in (partial, folder):
        shutil.rmtree(path, ignore_errors=True)
    partial.mkdir(parents=True)
    np.save(partial / "hu.npy", np.ascontiguousarray(canonical.array))
    np.save(partial / "labels.npy", labels.astype(np.uint8))
    note = {
        "spacing_mm": [float(step) for step in canonical.spacing],
        "counts": [counted(plane.astype(np.uint8)) for plane in labels],
        "sha256": hashlib.sha256(image_bytes + label_bytes).hexdigest(),
    }
    (partial / _NOTE).write_text(json.dumps(note))
    partial.replace(folder)


def _unzipped(path: Path) -> bytes:
    data = path.read_bytes()
    try:
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError) as error:
        raise ValueError(f"{path.name}: expected a whole gzip file, found a damaged one") from error


def _read(data: bytes, what: str) -> Scan:
    try:
        return decode([data], _OPTIONS)
    except BadRequest as error:
        raise ValueError(f"{what}: {error}") from error


def _as_image(data: bytes) -> bytes:
    """A label map as a CT that the service would read: the same header, other values.

    Raises ValueError for values that are no labels.
    """
    is_second = data[4:7] == b"n+2"
    try:
        image = (nibabel.Nifti2Image if is_second else nibabel.Nifti1Image).from_bytes(data)
        values = np.asarray(image.dataobj)
    except Exception as error:  # nibabel raises nearly anything for a damaged file
        raise ValueError("mask: expected a NIfTI file, found a damaged one") from error
    whole = np.rint(values)
    if np.abs(values - whole).max(initial=0) < _LABEL_ROUNDING:  # false for NaN too
        values = whole
    if wrong := wrong_labels(np.unique(values).tolist()):
        raise ValueError(wrong)
    header = image.header.copy()
    header.set_data_dtype(np.int16)
    header.set_slope_inter(1, 0)
    hu = values.astype(np.int16) * _HU_PER_LABEL
    # The decoder refuses an image of one value, as the mask of a case without liver would be.
    hu[::2] += _HALF_LABEL
    return bytes(type(image)(hu, None, header).to_bytes())


def _check_same_grid(image: Volume, labels: Volume) -> None:
    """Raises ValueError where a voxel of the labels is not the image's voxel of that number."""
    if image.spatial_shape != labels.spatial_shape:
        raise ValueError(
            f"expected a mask of the image's shape {image.spatial_shape}, found "
            f"{labels.spatial_shape}"
        )
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in image.spatial_shape]))
    indices = corners.reshape(3, -1).T
    apart_mm = np.linalg.norm(
        image.map_indices_to_reference(indices) - labels.map_indices_to_reference(indices),
        axis=1,
    ).max()
    if apart_mm > SAME_PLACE_MM:
        raise ValueError(f"expected a mask where the image is, found it {apart_mm:.1f} mm away")
