"""Labels as a DICOM Segmentation (PS3.3 A.51, C.8.20), BINARY, on the source's frames.

Segments do not overlap: 1 is the liver without its lesions, then comes one for each lesion with a
tracking identifier of its own. A result without liver or lesions is a valid object too.
"""

import io
from datetime import datetime

import highdicom
import numpy as np
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import ExplicitVRLittleEndian

from service import __version__
from service.boxes import box_of
from service.encode.identity import derived_uid
from service.encode.source_headers import content_moment, headers, refer_to_frames
from service.errors import NoDicomSource
from service.findings import Measured
from service.inference.contract import LIVER_CODE, Code, ModelContract, SegmentClass
from service.inference.segment import Segmentation
from service.volume import LIVER_LABEL

MANUFACTURER = "liver-tumor-segmentation project"
SERIES_NUMBER = 1001
"""Far above what a scanner numbers, so that viewers list the result last."""

_ALGORITHM_FAMILY = DicomCode("123110", "DCM", "Artificial Intelligence")


def segmentation_dcm(
    segmentation: Segmentation,
    measured: Measured,
    contract: ModelContract,
    fingerprint: str,
    made_at: datetime | None = None,
) -> bytes:
    """The SEG as a DICOM file. Raises `NoDicomSource` where the source was not DICOM.

    UIDs follow from `fingerprint`, dates are those of `made_at`, else the source's: the same
    arguments give the same bytes.
    """
    source = segmentation.scan.source
    if not source.datasets:
        raise NoDicomSource(f"Expected a DICOM source for a DICOM result, found {source.format}.")
    seg = highdicom.seg.Segmentation(
        source_images=headers(segmentation.scan, fingerprint),
        pixel_array=_segment_numbers(segmentation, measured),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(contract, len(measured.findings.lesions), fingerprint),
        series_instance_uid=derived_uid(fingerprint, "seg series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derived_uid(fingerprint, "seg instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=contract.name,
        software_versions=f"{__version__}, model {contract.version}",
        device_serial_number=fingerprint[:16],
        content_label="LIVER_TUMOR",
        content_description="Liver and tumours, AI result, not for diagnosis",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description="AI liver and tumours (research)",
    )
    moment = content_moment(segmentation.scan) if made_at is None else _moment(made_at)
    _make_repeatable(seg, fingerprint, *moment)
    refer_to_frames(seg, segmentation.scan, fingerprint)
    buffer = io.BytesIO()
    seg.save_as(buffer)
    return buffer.getvalue()


def _segment_numbers(
    segmentation: Segmentation, measured: Measured
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The segment's number of every voxel (0: none), as small as it can be held.

    Memory is taken only where there are labels.
    """
    labels = np.asarray(segmentation.labels.array)
    ids = np.asarray(measured.lesion_ids.array)
    segments = 1 + len(measured.findings.lesions)
    numbers = np.zeros(labels.shape, np.uint8 if segments <= np.iinfo(np.uint8).max else np.uint16)
    if (box := box_of(labels)) is not None:
        for plane, label, lesion in zip(numbers[box], labels[box], ids[box], strict=True):
            plane[:] = np.where(lesion > 0, lesion + 1, label == LIVER_LABEL)
    return numbers


def _descriptions(
    contract: ModelContract, lesions: int, fingerprint: str
) -> list[SegmentDescription]:
    liver, tumor = contract.classes
    described = [(liver, "Liver without lesions", "liver")]
    described += [
        (tumor, f"Lesion {number}", f"lesion-{number}") for number in range(1, lesions + 1)
    ]
    return [
        _description(index, structure, label, tracking_id, contract, fingerprint)
        for index, (structure, label, tracking_id) in enumerate(described, start=1)
    ]


def _description(
    number: int,
    structure: SegmentClass,
    label: str,
    tracking_id: str,
    contract: ModelContract,
    fingerprint: str,
) -> SegmentDescription:
    is_lesion = structure.type != LIVER_CODE
    return SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=_code(structure.category),
        segmented_property_type=_code(structure.type),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=contract.name, family=_ALGORITHM_FAMILY, version=contract.version
        ),
        tracking_id=tracking_id,
        tracking_uid=derived_uid(fingerprint, f"tracking {tracking_id}"),
        anatomic_regions=[_code(LIVER_CODE)] if is_lesion else None,
        display_color=highdicom.color.CIELabColor(*((53, 65, 45) if is_lesion else (68, -40, 25))),
    )


def _code(code: Code) -> DicomCode:
    return DicomCode(code.value, code.scheme, code.meaning)


def _moment(made_at: datetime) -> tuple[str, str]:
    """Date and time as DICOM writes them (DA, TM)."""
    return made_at.strftime("%Y%m%d"), made_at.strftime("%H%M%S")


def _make_repeatable(seg: Dataset, fingerprint: str, date: str, time: str) -> None:
    """Replace what highdicom draws at random or takes from the clock."""
    for prefix in ("InstanceCreation", "Content", "Series"):
        setattr(seg, f"{prefix}Date", date)
        setattr(seg, f"{prefix}Time", time)
    for equipment in seg.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = date + time
    dimensions = derived_uid(fingerprint, "seg dimensions")
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
