"""Pairs of NIfTI volumes as cases.

Each pair is read once by the service's own decoder, turned to the model's orientation, and kept
unpacked beside a note of what it was made from, so that a single slice can be read without the
rest.
"""

import gzip
import hashlib
import json
import tempfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from highdicom import Volume
from numpy.typing import NDArray

from service.decode import decode
from service.decode.archive import ArchiveLimits
from service.decode.options import DecodeOptions
from service.errors import BadRequest
from service.notices import Notice
from service.volume import HounsfieldWindow, Scan, to_canonical
from training.data.case import Case, Dataset, LabelledSlice, counted, wrong_labels
from training.data.pairs import Pair, find_pairs
from training.data.problems import BadDataset, Problem
from training.files import read_facts

SAME_PLACE_MM = 0.1
"""How far the corners of an image and its labels may lie apart: headers are rounded."""

_LAYOUT = 2
"""Of the prepared files; another number makes them anew."""

_HU = "hu.npy"
_LABELS = "labels.npy"
_NOTE = "case.json"

_HU_PER_LABEL = 100
"""Labels are read as an image of so many HU each: the decoder refuses label maps as they are."""

_HALF_LABEL = _HU_PER_LABEL // 2

_LABEL_ROUNDING = 1e-3
"""Scaled labels come out a little off, since the header's slope is a float32."""

_GZIP = b"\x1f\x8b"
"""How a gzip file begins, whatever its name."""

_OPTIONS = DecodeOptions(
    archive=ArchiveLimits(max_files=1, max_decompressed_bytes=1 << 40),
    max_voxels=1 << 40,
    modality="CT",
    model_window=HounsfieldWindow(lower_hu=-40, upper_hu=160),
)
"""A researcher's own files need no limits."""


@dataclass(frozen=True)
class PreparedFiles:
    """Unpacked arrays of one case, [slice, row, column]; only what is looked at is read."""

    folder: Path

    def hu(self, index: int) -> NDArray[np.int16]:
        return _plane(self.folder / _HU, index)

    def labels(self, index: int) -> NDArray[np.uint8]:
        return _plane(self.folder / _LABELS, index)


def _plane(path: Path, index: int) -> NDArray[Any]:
    """One of [slice, row, column]. The file is closed again: hundreds of cases may be in use."""
    return np.array(np.load(path, mmap_mode="r")[index])


def read_nifti_folder(folder: Path, prepared: Path) -> Dataset:
    """Prepare the pairs that are not prepared yet. Raises `BadDataset`, naming every bad case."""
    pairs, problems = find_pairs(folder)
    cases = []
    for pair in pairs:
        try:
            cases.append(_case(pair, prepared))
        except ValueError as error:
            problems.append(Problem(pair.name, str(error)))
    if problems:
        raise BadDataset(problems)
    return Dataset(tuple(cases))


def _case(pair: Pair, prepared: Path) -> Case:
    """Raises ValueError for a pair that cannot be trained on."""
    folder = prepared / f"{pair.name}-{_fingerprint(pair)}"
    note = _note(folder)
    if note is None:
        (folder / _NOTE).unlink(missing_ok=True)  # of files that are there no more, or damaged
        _prepare(pair, folder)
        note = read_facts(folder / _NOTE)
    files = PreparedFiles(folder)
    slices = tuple(
        LabelledSlice(pair.name, index, liver_px, tumor_px, files)
        for index, (liver_px, tumor_px) in enumerate(note["counts"])
    )
    spacing_mm = None
    if note["spacing_mm"] is not None:
        slice_mm, row_mm, column_mm = note["spacing_mm"]
        spacing_mm = (slice_mm, row_mm, column_mm)
    notices = tuple(Notice(**notice) for notice in note["notices"])
    return Case(pair.name, slices, note["sha256"], spacing_mm, notices=notices)


def _note(folder: Path) -> dict[str, Any] | None:
    """What a pair is known to hold; None where it is not prepared, or not as a whole any more."""
    try:
        note = read_facts(folder / _NOTE)
        for name in (_HU, _LABELS):
            if len(np.load(folder / name, mmap_mode="r")) != len(note["counts"]):
                return None
    except (OSError, ValueError, KeyError):
        return None
    return note


def _fingerprint(pair: Pair) -> str:
    """Changes with the files, without reading them."""
    facts: list[str | int] = [_LAYOUT]
    for path in (pair.image, pair.labels):
        status = path.stat()
        facts += [str(path.resolve()), status.st_size, status.st_mtime_ns]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def _prepare(pair: Pair, folder: Path) -> None:
    """Write the arrays and a note; the folder appears as a whole or not at all.

    Each process writes into a folder of its own, so that several may prepare the same pair; what a
    killed one leaves is in nobody's way.
    """
    image_bytes, label_bytes = _unzipped(pair.image), _unzipped(pair.labels)
    scan = _read(image_bytes, "image")
    labelled = _read(_as_image(label_bytes), "mask")
    canonical, turned = (to_canonical(each.volume).volume for each in (scan, labelled))
    _check_same_grid(canonical, turned)
    labels = np.asarray(turned.array) // _HU_PER_LABEL
    note = {
        "spacing_mm": _spacing_mm(scan, canonical),
        "counts": [counted(plane.astype(np.uint8)) for plane in labels],
        "sha256": hashlib.sha256(image_bytes + label_bytes).hexdigest(),
        "notices": [asdict(notice) for notice in scan.notices],
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{folder.name}.", suffix=".partial", dir=folder.parent
    ) as own:
        whole = Path(own) / "whole"
        whole.mkdir()  # with the usual rights: the folder around it is for this user only
        np.save(whole / _HU, np.ascontiguousarray(canonical.array))
        np.save(whole / _LABELS, labels.astype(np.uint8))
        (whole / _NOTE).write_text(json.dumps(note))
        _put_in_place(whole, folder)


def _put_in_place(whole: Path, folder: Path) -> None:
    """Where another process was first, its files stay: they hold the same."""
    try:
        whole.rename(folder)
    except OSError:
        if (folder / _NOTE).exists():
            return
        # Something was taken out of the folder. Whoever else mends it has the same files to put in,
        # and nobody reads them before the note is there.
        for name in (_HU, _LABELS, _NOTE):
            (whole / name).replace(folder / name)


def _spacing_mm(scan: Scan, canonical: Volume) -> list[float] | None:
    """Slice, row, column as the model sees them; None where the source does not tell all three."""
    if scan.source.pixel_spacing_mm is None or scan.source.slice_spacing_mm is None:
        return None
    return [float(step) for step in canonical.spacing]


def _unzipped(path: Path) -> bytes:
    data = path.read_bytes()
    try:
        return gzip.decompress(data) if data[:2] == _GZIP or path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
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
        is_number = image.get_data_dtype().kind in "iuf"
        with np.errstate(all="ignore"):  # a slope may scale to infinity, which is no label
            values = np.asarray(image.dataobj) if is_number else None
    except Exception as error:  # nibabel raises nearly anything for a damaged file
        raise ValueError("mask: expected a NIfTI file, found a damaged one") from error
    if values is None:
        found = nibabel.nifti1.data_type_codes.label[int(image.header["datatype"])]
        raise ValueError(f"mask: expected integer or floating-point labels, found {found}")
    header = image.header.copy()
    header.set_data_dtype(np.int16)
    header.set_slope_inter(1, 0)
    return bytes(type(image)(_label_hu(values), None, header).to_bytes())


def _label_hu(values: NDArray[np.number]) -> NDArray[np.int16]:
    """Raises ValueError for values that are no labels."""
    whole = np.rint(values)
    with np.errstate(invalid="ignore"):  # infinity less itself
        is_whole = np.abs(values - whole).max(initial=0) < _LABEL_ROUNDING  # false for NaN too
    if is_whole:
        values = whole
    if wrong := wrong_labels(np.unique(values).tolist()):
        raise ValueError(wrong)
    hu = values.astype(np.int16) * _HU_PER_LABEL
    # The decoder refuses an image of one value, as the mask of a case without liver would be.
    np.ravel(hu, order="K")[::2] += _HALF_LABEL  # in the order of memory: a view
    return hu


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
