"""Findings as a DICOM SR: Comprehensive 3D SR, TID 1500 (PS3.16), to be read beside the SEG.

A group of volumetric measurements (TID 1411) for each segment of the SEG, under the same tracking
identifiers, its volume that of the segment; the organ with its lesions, and all tumour together,
which no segment shows, are groups without one (TID 1501).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr.templates import LanguageOfContentItemAndDescendants
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.valuerep import DS

from service.encode.dicom_file import dicom_file
from service.encode.dicom_seg import LIVER_SEGMENT, seg_reference
from service.encode.identity import derived_uid
from service.encode.items import like
from service.encode.provenance import (
    MANUFACTURER,
    NOT_FOR_DIAGNOSIS,
    Provenance,
    dicom_code,
    stamp,
    tracking_id,
    tracking_uid,
)
from service.encode.source_headers import copy_names, nameless_headers, reference_items
from service.findings import Findings, Lesion
from service.inference.contract import SegmentClass
from service.volume import Scan

SERIES_NUMBER = 1005

_COMPUTED_TOMOGRAPHY = Code("77477000", "SCT", "Computed tomography")
_ENGLISH = CodedConcept("en", "RFC5646", "English")
_VOLUME = Code("118565006", "SCT", "Volume")
_LONG_AXIS = Code("103339001", "SCT", "Long axis")
_SHORT_AXIS = Code("103340004", "SCT", "Short axis")
_ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
_MEAN = Code("373098007", "SCT", "Mean")
_MILLILITER = Code("mL", "UCUM", "milliliter")
_MILLIMETER = Code("mm", "UCUM", "millimeter")
_HOUNSFIELD = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
_NO_UNIT = Code("1", "UCUM", "no units")

_Group = VolumetricROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations

_OWN_SCHEME = "99LTS"
_BURDEN = Code("BURDEN", _OWN_SCHEME, "Tumor volume per organ volume")
"""No code of SNOMED CT or DICOM says this of a liver."""


class _Number(NamedTuple):
    """A measurement."""

    name: Code
    value: float
    unit: Code
    derivation: Code | None = None


def report_dcm(scan: Scan, findings: Findings, provenance: Provenance) -> bytes:
    """The SR as a DICOM file. The scan must be DICOM; what is not known is left out.

    It refers to the BINARY SEG of the same provenance, which belongs beside it.
    """
    source = nameless_headers(scan, provenance.fingerprint)[0]
    segmentation = Dataset()
    segmentation.update(source)
    segmentation.update(seg_reference(provenance))
    source_series_uid = str(source.SeriesInstanceUID)
    report = Comprehensive3DSR(
        evidence=[segmentation],  # each further one is looked for in all of the content
        content=_content(  # which is copied and read back: so in part
            _liver_group(findings, source_series_uid, provenance), provenance
        ),
        series_instance_uid=provenance.uid("sr series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=provenance.uid("sr instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,  # as far as the software goes; VerificationFlag stays UNVERIFIED
        series_description="AI liver and tumours, measurements (research)",
    )
    measured = report.ContentSequence[-1]
    groups = [
        *measured.ContentSequence,
        *_lesion_groups(findings.lesions, source_series_uid, provenance),
        *_whole_groups(findings, provenance),
    ]
    measured.add_new("ContentSequence", "SQ", groups)  # as an attribute, highdicom checks each
    report.CodingSchemeIdentificationSequence = [_own_scheme()]
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    study.ReferencedSeriesSequence.append(_sources(scan, source_series_uid))
    copy_names(report, scan)
    stamp(report, scan, provenance)
    return dicom_file(report)


def _sources(scan: Scan, series_uid: str) -> Dataset:
    """The source's series with its instances, as evidence (PS3.3 table C.17-3)."""
    series = Dataset()
    series.SeriesInstanceUID = series_uid
    series.ReferencedSOPSequence = reference_items(scan)
    return series


def _liver_group(findings: Findings, source_series_uid: str, provenance: Provenance) -> _Group:
    """The liver without its lesions."""
    volume = _volume(findings.parenchyma.volume_ml)
    return _segment_group(None, provenance.algorithm.liver, volume, source_series_uid, provenance)


def _lesion_groups(
    lesions: Sequence[Lesion], source_series_uid: str, provenance: Provenance
) -> Iterator[Dataset]:
    """The group of each lesion.

    highdicom takes 3.5 ms for one. So it makes one for all lesions of which the same is known, and
    each has its own values in a copy of that.
    """
    patterns: dict[tuple[Code, ...], Dataset] = {}
    for lesion in lesions:
        numbers = _lesion_numbers(lesion)
        known = tuple(number.name for number in numbers)
        if known not in patterns:
            (patterns[known],) = _segment_group(
                lesion.id, provenance.algorithm.tumor, numbers, source_series_uid, provenance
            )
        yield _with_values(patterns[known], _lesion_values(lesion, numbers, provenance))


def _lesion_values(
    lesion: Lesion, numbers: Sequence[_Number], provenance: Provenance
) -> dict[str, str | float]:
    """What is a lesion's own in its group, by the codes of the items that hold it."""
    return {
        codes.DCM.TrackingIdentifier.value: tracking_id(lesion.id),
        codes.DCM.TrackingUniqueIdentifier.value: tracking_uid(provenance, lesion.id),
        codes.DCM.ReferencedSegment.value: _segment_number(lesion.id),
        **{number.name.value: float(number.value) for number in numbers},
    }


def _with_values(group: Dataset, values: Mapping[str, str | float]) -> Dataset:
    """The group with other values in its items, by their codes."""
    coded = [(item.ConceptNameCodeSequence[0].CodeValue, item) for item in group.ContentSequence]
    items = [_with_value(item, values[code]) if code in values else item for code, item in coded]
    return like(group, ContentSequence=items)


def _with_value(item: Dataset, value: str | float) -> Dataset:
    """The item of a text, UID or number with another one; an image's with another segment."""
    match item.ValueType:
        case "UIDREF":
            return like(item, UID=value)
        case "NUM":
            decimal = DS(value, auto_format=True)
            (measured,) = item.MeasuredValueSequence
            number = like(measured, NumericValue=decimal, FloatingPointValue=value)
            return like(item, MeasuredValueSequence=[number])
        case "IMAGE":
            (image,) = item.ReferencedSOPSequence
            segment = like(image, ReferencedSegmentNumber=value)
            return like(item, ReferencedSOPSequence=[segment])
        case _:
            return like(item, TextValue=value)


def _whole_groups(findings: Findings, provenance: Provenance) -> Iterator[Dataset]:
    """The organ with its lesions, and all tumour together."""
    algorithm = provenance.algorithm
    yield from _whole_group("organ", algorithm.liver, _organ_numbers(findings), provenance)
    yield from _whole_group(
        "tumour", algorithm.tumor, _volume(findings.tumor.volume_ml), provenance
    )


def _content(group: _Group, provenance: Provenance) -> Dataset:
    """The root with its context, and one group: it holds one at least (TID 1500)."""
    report = MeasurementReport(
        observation_context=_context(provenance),
        procedure_reported=_COMPUTED_TOMOGRAPHY,
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(_ENGLISH),
    )
    return report[0]


def _context(provenance: Provenance) -> ObservationContext:
    """Observed by a device: the model, whichever machine ran it."""
    algorithm = provenance.algorithm
    device = DeviceObserverIdentifyingAttributes(
        uid=derived_uid(algorithm.sha256, "device"),
        name=f"{algorithm.name} {algorithm.version}, {NOT_FOR_DIAGNOSIS}",
        manufacturer_name=MANUFACTURER,
        model_name=algorithm.name,
        serial_number=provenance.serial_number,
    )
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=codes.DCM.Device, observer_identifying_attributes=device
        )
    )


def _segment_group(
    lesion_id: int | None,
    structure: SegmentClass,
    numbers: Sequence[_Number],
    source_series_uid: str,
    provenance: Provenance,
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    """TID 1411 of one segment; None is the liver without lesions."""
    segmentation = seg_reference(provenance)
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=tracking_uid(provenance, lesion_id), identifier=tracking_id(lesion_id)
        ),
        referenced_segment=ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=_segment_number(lesion_id),
            source_series=SourceSeriesForSegmentation(source_series_uid),
        ),
        finding_category=dicom_code(structure.category),
        finding_type=dicom_code(structure.type),
        algorithm_id=_algorithm(provenance),
        finding_sites=_sites(provenance),
        measurements=_measurements(numbers),
    )


def _whole_group(
    name: str, structure: SegmentClass, numbers: Sequence[_Number], provenance: Provenance
) -> MeasurementsAndQualitativeEvaluations:
    """TID 1501 of what several segments make up together."""
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=provenance.uid(f"tracking {name}"), identifier=name
        ),
        finding_category=dicom_code(structure.category),
        finding_type=dicom_code(structure.type),
        algorithm_id=_algorithm(provenance),
        finding_sites=_sites(provenance),
        measurements=_measurements(numbers),
    )


def _segment_number(lesion_id: int | None) -> int:
    return LIVER_SEGMENT + (lesion_id or 0)


def _organ_numbers(findings: Findings) -> list[_Number]:
    burden = [] if findings.burden is None else [_Number(_BURDEN, findings.burden, _NO_UNIT)]
    return [*_volume(findings.liver.volume_ml), *burden]


def _lesion_numbers(lesion: Lesion) -> list[_Number]:
    axes = (
        (_LONG_AXIS, lesion.diameters.longest.length_mm),
        (_SHORT_AXIS, lesion.diameters.short.length_mm),
    )
    return [
        *_volume(lesion.extent.volume_ml),
        *(_Number(name, length, _MILLIMETER) for name, length in axes if length is not None),
        _Number(_ATTENUATION, lesion.mean_hu, _HOUNSFIELD, derivation=_MEAN),
    ]


def _volume(volume_ml: float | None) -> list[_Number]:
    """The volume, or nothing where the thickness of the only slice is not known."""
    return [] if volume_ml is None else [_Number(_VOLUME, volume_ml, _MILLILITER)]


def _measurements(numbers: Sequence[_Number]) -> list[Measurement]:
    """Numbers to their last digit: FloatingPointValue stands beside the decimal string."""
    return [
        Measurement(
            name=number.name,
            value=float(number.value),
            unit=number.unit,
            derivation=number.derivation,
        )
        for number in numbers
    ]


def _algorithm(provenance: Provenance) -> AlgorithmIdentification:
    algorithm = provenance.algorithm
    return AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        parameters=[f"model SHA-256 {algorithm.sha256}"],
    )


def _sites(provenance: Provenance) -> list[FindingSite]:
    return [FindingSite(anatomic_location=dicom_code(provenance.algorithm.liver.type))]


def _own_scheme() -> Dataset:
    """PS3.3 C.12.1.4: a private scheme is named."""
    item = Dataset()
    item.CodingSchemeDesignator = _OWN_SCHEME
    item.CodingSchemeName = "Codes of the liver-tumor-segmentation project"
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    return item
