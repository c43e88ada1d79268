"""Labels as a DICOM Segmentation (PS3.3 A.51, C.8.20), on the source's frames.

Segments do not overlap: 1 is the liver without its lesions, then comes one for each lesion with a
tracking identifier of its own. A result without liver or lesions is a valid object too.
"""

from dataclasses import dataclass
from typing import Literal

import highdicom
import numpy as np
from highdicom import Volume
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SegmentationStorage

from service.boxes import box_of
from service.encode.dicom_file import dicom_file
from service.encode.items import like
from service.encode.provenance import (
    AI_FAMILY,
    MANUFACTURER,
    NOT_FOR_DIAGNOSIS,
    Provenance,
    dicom_code,
    stamp,
    tracking_id,
    tracking_uid,
)
from service.encode.source_headers import (
    copy_names,
    keep_lossy,
    nameless_headers,
    refer_to_frames,
)
from service.volume import Scan

SegEncoding = Literal["binary", "labelmap"]
"""BINARY is what viewers read; LABELMAP (Supplement 243) is smaller, and few read it yet."""

LIVER_SEGMENT = 1
"""Segment of the liver without lesions; a lesion's is its id and this."""


@dataclass(frozen=True)
class _Kind:
    """An encoding's own."""

    type: SegmentationTypeValues
    transfer_syntax_uid: str
    purpose: str
    series_number: int
    series_description: str


_KINDS: dict[SegEncoding, _Kind] = {
    "binary": _Kind(
        SegmentationTypeValues.BINARY,
        ExplicitVRLittleEndian,
        "seg",
        1001,
        "AI liver and tumours (research)",
    ),
    "labelmap": _Kind(
        SegmentationTypeValues.LABELMAP,
        RLELossless,
        "labelmap",
        1002,
        "AI liver and tumours, label map (research)",
    ),
}
"""Series numbers far above what a scanner numbers, so that viewers list results last."""


def segmentation_dcm(
    scan: Scan,
    labels: Volume,
    lesion_ids: Volume,
    lesions: int,
    provenance: Provenance,
    encoding: SegEncoding = "binary",
) -> bytes:
    """The SEG as a DICOM file.

    `labels` and `lesion_ids` are [slice, row, column] on the scan's grid; ids count from 1 to
    `lesions`, 0 is none. The scan must be DICOM.
    """
    kind = _KINDS[encoding]
    numbers = _segment_numbers(labels, lesion_ids, lesions)
    seg = highdicom.seg.Segmentation(
        source_images=nameless_headers(scan, provenance.fingerprint),
        pixel_array=numbers,
        segmentation_type=kind.type,
        segment_descriptions=_descriptions(lesions, provenance),
        series_instance_uid=provenance.uid(f"{kind.purpose} series"),
        series_number=kind.series_number,
        sop_instance_uid=provenance.uid(f"{kind.purpose} instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=provenance.algorithm.name,
        software_versions=tuple(provenance.software_versions),  # type: ignore[arg-type]  # its hint is for one
        device_serial_number=provenance.serial_number,
        content_label="LIVER_TUMOR",
        content_description=f"Liver and tumours, {NOT_FOR_DIAGNOSIS}",
        transfer_syntax_uid=kind.transfer_syntax_uid,
        series_description=kind.series_description,
    )
    copy_names(seg, scan)
    keep_lossy(seg, scan)
    stamp(seg, scan, provenance)
    dimensions = provenance.uid(f"{kind.purpose} dimensions")
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    refer_to_frames(seg, scan, provenance.fingerprint)
    del numbers
    return dicom_file(seg)


def seg_reference(provenance: Provenance) -> Dataset:
    """Class, instance and series of the BINARY SEG, for objects that refer to it."""
    kind = _KINDS["binary"]
    reference = Dataset()
    reference.SOPClassUID = SegmentationStorage
    reference.SOPInstanceUID = provenance.uid(f"{kind.purpose} instance")
    reference.SeriesInstanceUID = provenance.uid(f"{kind.purpose} series")
    return reference


def _segment_numbers(
    labels: Volume, lesion_ids: Volume, lesions: int
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The segment's number of every voxel (0: none), as small as it can be held.

    Memory is taken only where there are labels.
    """
    values, ids = np.asarray(labels.array), np.asarray(lesion_ids.array)
    fits = LIVER_SEGMENT + lesions <= np.iinfo(np.uint8).max
    numbers = np.zeros(values.shape, np.uint8 if fits else np.uint16)
    if (box := box_of(values)) is not None:
        for plane, label, lesion in zip(numbers[box], values[box], ids[box], strict=True):
            # Each voxel of tumour belongs to a lesion, whose segment is its id and one.
            np.add(lesion, label > 0, out=plane, casting="unsafe")
    return numbers


def _descriptions(lesions: int, provenance: Provenance) -> list[SegmentDescription]:
    """Of all segments; those of lesions share what is not a lesion's own."""
    pattern = _description(1, provenance)
    return [
        _description(None, provenance),
        *(
            like(
                pattern,
                SegmentNumber=LIVER_SEGMENT + lesion_id,
                SegmentLabel=_label(lesion_id),
                TrackingID=tracking_id(lesion_id),
                TrackingUID=tracking_uid(provenance, lesion_id),
            )
            for lesion_id in range(1, lesions + 1)
        ),
    ]


def _label(lesion_id: int | None) -> str:
    return "Liver without lesions" if lesion_id is None else f"Lesion {lesion_id}"


def _description(lesion_id: int | None, provenance: Provenance) -> SegmentDescription:
    """The segment of a lesion; None is the liver without lesions."""
    algorithm = provenance.algorithm
    structure = algorithm.liver if lesion_id is None else algorithm.tumor
    return SegmentDescription(
        segment_number=LIVER_SEGMENT + (lesion_id or 0),
        segment_label=_label(lesion_id),
        segmented_property_category=dicom_code(structure.category),
        segmented_property_type=dicom_code(structure.type),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=algorithm.name, family=AI_FAMILY, version=algorithm.version
        ),
        tracking_id=tracking_id(lesion_id),
        tracking_uid=tracking_uid(provenance, lesion_id),
        anatomic_regions=None if lesion_id is None else [dicom_code(algorithm.liver.type)],
        display_color=highdicom.color.CIELabColor(
            *((68, -40, 25) if lesion_id is None else (53, 65, 45))
        ),
    )
