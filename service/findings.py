"""Labels to numbers: volumes, burden, and each lesion with its diameters.

Volumes are voxels times voxel volume. Where the spacing is not known, lengths and volumes are None
and pixel counts remain.
"""

from dataclasses import dataclass

import cc3d
import numpy as np
from highdicom import Volume
from numpy.typing import NDArray

from service.boxes import Box, box_of, within
from service.diameters import AxialDiameters, axial_diameters
from service.errors import TooManyLesions
from service.inference.postprocess import CONNECTIVITY, components
from service.inference.segment import Segmentation
from service.volume import TUMOR_LABEL, Point, Scan, point_to_patient_mm

MAX_LESIONS = 2000
"""More are noise, kept by a request that switched the rule for small lesions off."""

RECIST_MM = 10.0
RECIST_SLICE_MM = 5.0
"""RECIST 1.1: measurable from 10 mm at slices of at most 5 mm, else from twice the thickness."""

RECIST_LIVER_TARGETS = 2
"""RECIST 1.1: at most two target lesions in one organ."""


@dataclass(frozen=True)
class Extent:
    """How much of the image a structure fills.

    `volume_ml` is None where the voxel's size is not known. The areas belong to a single slice and
    are None for a volume; `area_mm2` also where the pixel spacing is not known.
    """

    voxels: int
    volume_ml: float | None
    area_px: int | None
    area_mm2: float | None

    @classmethod
    def of(cls, by_slice: NDArray[np.integer], scan: Scan, first_slice: int = 0) -> "Extent":
        """From the voxels of each slice, counted from `first_slice`."""
        voxels = int(by_slice.sum())
        volume_mm3 = _volume_mm3(by_slice, scan, first_slice)
        pixel_mm = scan.source.pixel_spacing_mm
        is_slice = scan.volume.spatial_shape[0] == 1
        return cls(
            voxels=voxels,
            volume_ml=None if volume_mm3 is None else volume_mm3 / 1000,
            area_px=voxels if is_slice else None,
            area_mm2=voxels * pixel_mm[0] * pixel_mm[1] if is_slice and pixel_mm else None,
        )


def _volume_mm3(by_slice: NDArray[np.integer], scan: Scan, first_slice: int) -> float | None:
    """Voxels times voxel volume; the slices of an irregular stack each have their own thickness."""
    voxel_mm3, pixel_mm = scan.source.voxel_volume_mm3, scan.source.pixel_spacing_mm
    if voxel_mm3 is None or pixel_mm is None:
        return None
    if scan.irregular is None:
        return int(by_slice.sum()) * voxel_mm3
    thickness_mm = scan.irregular.thickness_mm[first_slice : first_slice + len(by_slice)]
    return float(by_slice @ thickness_mm) * pixel_mm[0] * pixel_mm[1]


@dataclass(frozen=True)
class Lesion:
    """One 26-connected component of tumour; `id` 1 is the largest.

    Slice numbers and pixels belong to the source's grid; `slices` holds the first and the last.
    `centroid_mm` is None where the image has no patient coordinates, `recist_measurable` where
    lengths or the slice thickness are not known. The probability is the mean over the lesion.
    """

    id: int
    extent: Extent
    diameters: AxialDiameters
    centroid_px: Point
    centroid_mm: Point | None
    slices: tuple[int, int]
    largest_slice: int
    sop_instance_uids: tuple[str, ...]
    mean_hu: float
    mean_tumor_probability: float
    recist_measurable: bool | None


@dataclass(frozen=True)
class Findings:
    """What the labels say.

    `liver` is the organ with its lesions, `parenchyma` the organ without; `burden` is tumour over
    organ, None where no organ was found. `recist_targets` are ids, the longest lesions first.
    """

    liver: Extent
    parenchyma: Extent
    tumor: Extent
    burden: float | None
    lesions: tuple[Lesion, ...]
    recist_targets: tuple[int, ...]
    connectivity: int


@dataclass(frozen=True)
class Measured:
    """Findings, and the lesion's id (0: none) of every voxel of the source's grid."""

    findings: Findings
    lesion_ids: Volume


def measure(segmentation: Segmentation) -> Measured:
    """Count, find the lesions, and measure each."""
    scan = segmentation.scan
    labels = np.asarray(segmentation.labels.array)
    # Slice by slice: a mask of the whole volume would take half of its memory.
    organ = np.array([np.count_nonzero(plane) for plane in labels])
    tumor = np.array([np.count_nonzero(plane == TUMOR_LABEL) for plane in labels])
    ids, boxes = _lesions(labels)
    lesions = tuple(
        _lesion(segmentation, ids, number, box) for number, box in enumerate(boxes, start=1)
    )
    findings = Findings(
        liver=Extent.of(organ, scan),
        parenchyma=Extent.of(organ - tumor, scan),
        tumor=Extent.of(tumor, scan),
        burden=_burden(Extent.of(tumor, scan), Extent.of(organ, scan), scan),
        lesions=lesions,
        recist_targets=_recist_targets(lesions),
        connectivity=CONNECTIVITY,
    )
    return Measured(findings, segmentation.labels.with_array(ids))


def _burden(tumor: Extent, organ: Extent, scan: Scan) -> float | None:
    """Tumour over organ: of voxels, or of volumes where the voxels differ in size."""
    if not organ.voxels:
        return None
    if scan.irregular is None or tumor.volume_ml is None or organ.volume_ml is None:
        return tumor.voxels / organ.voxels
    return tumor.volume_ml / organ.volume_ml


def lesion_ids(labels: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The lesion's id (0: none) of every voxel [slice, row, column], as `measure` numbers them."""
    return _lesions(labels)[0]


def _lesions(labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint16], list[Box]]:
    """The lesion's id of every voxel, and each lesion's box: numbered from 1 by falling size.

    Memory is taken only where there are lesions. Raises `TooManyLesions` above
    `MAX_LESIONS`.
    """
    ids = np.zeros(labels.shape, dtype=np.uint16)
    organ = box_of(labels)
    tumor = None if organ is None else box_of(labels[organ] == TUMOR_LABEL)
    if organ is None or tumor is None:
        return ids, []
    box = within(organ, tumor)
    numbered = _numbered(labels[box] == TUMOR_LABEL)
    boxes = cc3d.statistics(numbered)["bounding_boxes"][1:]
    for lesion in boxes:
        ids[box][lesion] = numbered[lesion]
    return ids, [within(box, lesion) for lesion in boxes]


def _numbered(tumor: NDArray[np.bool_]) -> NDArray[np.uint16]:
    found, sizes = components(tumor)
    order = np.argsort(-sizes[1:], kind="stable") + 1
    if len(order) > MAX_LESIONS:
        raise TooManyLesions(f"Expected at most {MAX_LESIONS} lesions, found {len(order)}.")
    renumbered: NDArray[np.uint16] = np.zeros(len(sizes), dtype=np.uint16)
    renumbered[order] = np.arange(1, len(sizes), dtype=np.uint16)
    return np.stack([renumbered[plane] for plane in found])


def _lesion(segmentation: Segmentation, ids: NDArray[np.uint16], number: int, box: Box) -> Lesion:
    scan, source = segmentation.scan, segmentation.scan.source
    mask = ids[box] == number
    centroid = _centroid(mask, box)
    by_slice = mask.sum(axis=(1, 2))
    first, last = box[0].start, box[0].stop - 1
    diameters = axial_diameters(scan, mask, np.array([axis.start for axis in box]))
    return Lesion(
        id=number,
        extent=Extent.of(by_slice, scan, first),
        diameters=diameters,
        centroid_px=centroid,
        centroid_mm=point_to_patient_mm(scan, centroid),
        slices=(first, last),
        largest_slice=first + int(by_slice.argmax()),
        sop_instance_uids=source.sop_instance_uids[first : last + 1],
        mean_hu=float(np.asarray(scan.volume.array)[box][mask].mean()),
        mean_tumor_probability=float(
            np.asarray(segmentation.tumor_probability.array)[box][mask].mean() / 255
        ),
        recist_measurable=_measurable(diameters, _thickest_mm(scan, first, last)),
    )


def _thickest_mm(scan: Scan, first: int, last: int) -> float:
    """Of the slices of a lesion in an irregular stack, whose slices are axial; else 0."""
    if scan.irregular is None:
        return 0.0
    return float(scan.irregular.thickness_mm[first : last + 1].max())


def _centroid(mask: NDArray[np.bool_], box: Box) -> Point:
    """The mean position (slice, row, column) of a mask that fills `box`, on the whole grid."""
    in_plane = mask.sum(axis=0)
    counts = (mask.sum(axis=(1, 2)), in_plane.sum(axis=1), in_plane.sum(axis=0))
    slices, rows, columns = (
        float(np.arange(len(count)) @ count / count.sum() + axis.start)
        for count, axis in zip(counts, box, strict=True)
    )
    return slices, rows, columns


def _measurable(diameters: AxialDiameters, thickest_mm: float) -> bool | None:
    length_mm, slice_mm = diameters.longest.length_mm, diameters.slice_spacing_mm
    if length_mm is None or slice_mm is None:
        return None
    slice_mm = thickest_mm or slice_mm
    needed_mm = RECIST_MM if slice_mm <= RECIST_SLICE_MM else 2 * slice_mm
    return length_mm >= needed_mm


def _recist_targets(lesions: tuple[Lesion, ...]) -> tuple[int, ...]:
    measurable = [lesion for lesion in lesions if lesion.recist_measurable]
    # To a tenth of a micron: of equally long ones the larger, whatever the rounding.
    measurable.sort(key=lambda lesion: -round(lesion.diameters.longest.length_mm or 0, 4))
    return tuple(lesion.id for lesion in measurable[:RECIST_LIVER_TARGETS])
