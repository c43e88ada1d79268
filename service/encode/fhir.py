"""Findings as a FHIR R4 (4.0.1) DiagnosticReport that holds all it refers to of its own.

Contained are the model (Device) and an Observation for each number; a lesion is one Observation,
its measurements are components. Patient, study and request are named by their identifiers, since
the service knows no FHIR server's resources. A number that is not known is absent with a reason.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from pydicom import Dataset

from service import __version__
from service.encode.dicom_seg import LIVER_SEGMENT, seg_reference
from service.encode.identity import derived_uid
from service.encode.provenance import (
    MANUFACTURER,
    NOT_FOR_DIAGNOSIS,
    Provenance,
    tracking_id,
    tracking_uid,
)
from service.encode.source_headers import common_header
from service.findings import Extent, Findings, Lesion
from service.inference.contract import Code
from service.notices import Notice
from service.volume import Scan

Json = dict[str, object]

STATUS = "preliminary"
"""Of report and observations: nobody has verified them."""

_RESEARCH_USE = "Research use only, not for diagnosis"

_SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org",
}
"""URIs of DICOM's coding schemes (PS3.16 table 8-1)."""

_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_URI, _DICOM_UID = "urn:ietf:rfc:3986", "urn:dicom:uid"

_IMAGING_STUDY = Code(value="18748-4", scheme="LN", meaning="Diagnostic imaging study")
"""Which region and phase a CT shows is not known; this code says neither."""

_FINDING = Code(value="121071", scheme="DCM", meaning="Finding")
_VOLUME = Code(value="118565006", scheme="SCT", meaning="Volume")
_LONG_AXIS = Code(value="103339001", scheme="SCT", meaning="Long axis")
_SHORT_AXIS = Code(value="103340004", scheme="SCT", meaning="Short axis")
_ATTENUATION = Code(value="112031", scheme="DCM", meaning="Attenuation Coefficient")
_LESION_COUNT = Code(value="246206008", scheme="SCT", meaning="Number of lesions")
_AI = Code(value="123110", scheme="DCM", meaning="Artificial Intelligence")

_DEVICE_ID = "model"


@dataclass(frozen=True)
class _Context:
    """What every resource of one report has in common."""

    provenance: Provenance
    about: Json
    """Of report and observations alike: status, subject and dates."""
    study: tuple[Json, ...]
    """Reference to the imaging study; none unless the source was DICOM."""
    request: tuple[Json, ...]

    @classmethod
    def of(cls, scan: Scan, provenance: Provenance, issued: datetime | None) -> "_Context":
        about: Json = {"status": STATUS}
        if issued is not None:
            about["issued"] = issued.astimezone(UTC).isoformat()
        if not scan.source.datasets:
            return cls(provenance, about, (), ())
        header = common_header(scan, provenance.fingerprint)
        if subject := _subject(header):
            about["subject"] = subject
        if day := _day(header.StudyDate):
            about["effectiveDateTime"] = day
        study = _by_identifier("ImagingStudy", _uid_identifier(header.StudyInstanceUID))
        return cls(provenance, about, (study,), _request(header))


def report_fhir(
    scan: Scan,
    findings: Findings,
    notices: Sequence[Notice],
    provenance: Provenance,
    issued: datetime | None,
) -> Json:
    """The report as JSON; every number is the result document's own, the burden in per cent.

    `issued` is None where nobody knows when the result was made. Without a DICOM source nothing is
    said of patient and study.
    """
    context = _Context.of(scan, provenance, issued)
    observations = _observations(findings, notices, context)
    conclusion = f"{_summary(findings)}. {_RESEARCH_USE}."
    report: Json = {
        "resourceType": "DiagnosticReport",
        "id": str(provenance.uid("fhir report")),
        "language": "en",
        "text": _narrative(conclusion, notices),
        "contained": [_device(provenance), *observations],
        "identifier": [_own_identifier("report", provenance)],
        **context.about,
        "category": [_coded(f"{_TERMINOLOGY}/v2-0074", "RAD", "Radiology")],
        "code": _concept(_IMAGING_STUDY, "Volumes and lesions of the liver on CT, by software"),
        "result": [{"reference": f"#{observation['id']}"} for observation in observations],
        "conclusion": conclusion,
    }
    if context.study:
        report["imagingStudy"] = list(context.study)
    if context.request:
        report["basedOn"] = list(context.request)
    return report


def _observations(findings: Findings, notices: Sequence[Notice], context: _Context) -> list[Json]:
    def volume(name: str, text: str, extent: Extent) -> Json:
        value = _quantity(extent.volume_ml, "mL")
        return _observation(name, _concept(_VOLUME, f"Volume of {text}"), value, context)

    organ = volume("liver-volume", "the liver with its lesions", findings.liver)
    if notices:
        organ["note"] = [{"text": notice.message} for notice in notices]
    parenchyma = volume("parenchyma-volume", "the liver without lesions", findings.parenchyma)
    parenchyma["focus"] = _focus(None, context)
    return [
        organ,
        parenchyma,
        volume("tumour-volume", "all lesions of the liver together", findings.tumor),
        _burden(findings.burden, context),
        _observation(
            "lesion-count",
            _concept(_LESION_COUNT, "Number of lesions in the liver"),
            {"valueInteger": len(findings.lesions)},
            context,
        ),
        *(_lesion(lesion, findings, context) for lesion in findings.lesions),
    ]


def _burden(burden: float | None, context: _Context) -> Json:
    """No code of SNOMED CT or LOINC says this of a liver; without a liver there is none."""
    code: Json = {"text": "Tumour burden: the part of the liver with its lesions that is lesions"}
    percent = None if burden is None else _percent(burden)
    value = _quantity(percent, "%", absent="not-applicable")
    return _observation("tumour-burden", code, value, context)


def _observation(name: str, code: Json, value: Json, context: _Context) -> Json:
    """One Observation; `value` is its value[x], or why there is none."""
    observation: Json = {
        "resourceType": "Observation",
        "id": name,
        "identifier": [_own_identifier(name, context.provenance)],
        **context.about,
        "category": [_coded(f"{_TERMINOLOGY}/observation-category", "imaging", "Imaging")],
        "code": code,
        **value,
        "bodySite": _concept(context.provenance.algorithm.liver.type),
        "device": {"reference": f"#{_DEVICE_ID}"},
    }
    if context.study:
        observation["derivedFrom"] = list(context.study)
    return observation


def _lesion(lesion: Lesion, findings: Findings, context: _Context) -> Json:
    """A finding; its measurements are its components."""
    code = _concept(_FINDING, f"Lesion {lesion.id} of the liver")
    value: Json = {"valueCodeableConcept": _concept(context.provenance.algorithm.tumor.type)}
    return {
        **_observation(tracking_id(lesion.id), code, value, context),
        "focus": _focus(lesion.id, context),
        "component": _measurements(lesion, findings.recist_targets),
    }


def _focus(lesion_id: int | None, context: _Context) -> list[Json]:
    """The structure by its tracking UID, as SEG and SR have it, and where the SEG shows it.

    None is the liver without lesions.
    """
    provenance = context.provenance
    structure = _by_identifier(
        "BodyStructure", _uid_identifier(tracking_uid(provenance, lesion_id))
    )
    focus = [{**structure, "display": tracking_id(lesion_id)}]
    if context.study:
        segmentation = _uid_identifier(seg_reference(provenance).SOPInstanceUID)
        segment = f"DICOM SEG, segment {LIVER_SEGMENT + (lesion_id or 0)}"
        focus.append({"identifier": segmentation, "display": segment})
    return focus


def _measurements(lesion: Lesion, targets: tuple[int, ...]) -> list[Json]:
    longest, short = lesion.diameters.longest, lesion.diameters.short
    in_plane = "in an axial slice"
    return [
        {"code": _concept(_VOLUME, "Volume"), **_quantity(lesion.extent.volume_ml, "mL")},
        {
            "code": _concept(_LONG_AXIS, f"Longest diameter {in_plane}"),
            **_quantity(longest.length_mm, "mm"),
        },
        {
            "code": _concept(_SHORT_AXIS, f"Longest diameter at a right angle to it {in_plane}"),
            **_quantity(short.length_mm, "mm"),
        },
        {
            "code": _concept(_ATTENUATION, "Mean CT value"),
            **_quantity(lesion.mean_hu, "[hnsf'U]", "HU"),
        },
        {
            "code": {"text": "Measurable by RECIST 1.1"},
            **(
                _absent("unknown")
                if lesion.recist_measurable is None
                else {"valueBoolean": lesion.recist_measurable}
            ),
        },
        {
            "code": {"text": "Candidate for a target lesion by RECIST 1.1"},
            "valueBoolean": lesion.id in targets,
        },
    ]


def _device(provenance: Provenance) -> Json:
    algorithm = provenance.algorithm
    versions = (
        ("service", __version__),
        ("model", algorithm.version),
        ("SHA-256 of the model", algorithm.sha256),
    )
    return {
        "resourceType": "Device",
        "id": _DEVICE_ID,
        # As the SR's device observer: the model, whichever machine ran it.
        "identifier": [_oid_identifier(derived_uid(algorithm.sha256, "device"))],
        "manufacturer": MANUFACTURER,
        "deviceName": [{"name": algorithm.name, "type": "model-name"}],
        "type": _concept(_AI),
        "version": [{"type": {"text": text}, "value": value} for text, value in versions],
        "note": [{"text": f"{NOT_FOR_DIAGNOSIS}."}],
    }


def _summary(findings: Findings) -> str:
    """What was found, in a sentence without its full stop."""
    organ_ml, tumor_ml = findings.liver.volume_ml, findings.tumor.volume_ml
    if not findings.liver.voxels:
        return "No liver found"
    if not findings.lesions:
        return "No tumour found in the liver" + (
            "" if organ_ml is None else f" of {organ_ml:.0f} mL"
        )
    count = len(findings.lesions)
    said = [f"{count} lesion{'s' if count > 1 else ''} found in the liver"]
    if tumor_ml is not None:
        said.append(f"{tumor_ml:.1f} mL{' together' if count > 1 else ''}")
    if findings.burden is not None:
        said.append(f"{findings.burden:.1%} of the liver")
    lengths = [lesion.diameters.longest.length_mm for lesion in findings.lesions]
    known = [length for length in lengths if length is not None]
    if known:
        said.append(f"the longest diameter {max(known):.0f} mm")
    return ", ".join(said)


def _narrative(conclusion: str, notices: Sequence[Notice]) -> Json:
    """What a reader sees who cannot read the rest: XHTML, as FHIR wants it."""
    listed = "".join(f"<li>{html.escape(notice.message)}</li>" for notice in notices)
    warnings = f"<ul>{listed}</ul>" if listed else ""
    text = f"<p>{html.escape(conclusion)}</p>{warnings}"
    div = f'<div xmlns="http://www.w3.org/1999/xhtml" lang="en" xml:lang="en">{text}</div>'
    return {"status": "generated", "div": div}


def _subject(header: Dataset) -> Json | None:
    """The patient by PatientID and name, as far as the source has them."""
    name = header.PatientName
    parts = [part for part in (name.family_name, name.given_name) if part]
    subject: Json = {}
    if header.PatientID:
        subject["identifier"] = {"value": str(header.PatientID)}
    if display := ", ".join(parts) or str(name):
        subject["display"] = display
    return {"type": "Patient", **subject} if subject else None


def _request(header: Dataset) -> tuple[Json, ...]:
    """What the CT was ordered with; nothing without an accession number."""
    if not header.AccessionNumber:
        return ()
    kind = _coded(f"{_TERMINOLOGY}/v2-0203", "ACSN", "Accession ID")
    identifier: Json = {"type": kind, "value": str(header.AccessionNumber)}
    return (_by_identifier("ServiceRequest", identifier),)


def _day(dicom_date: str) -> str | None:
    """A DICOM date as FHIR writes it, None where there is no such day.

    The time of day is left out: FHIR wants its time zone, which the source need not say.
    """
    try:
        return date.fromisoformat(dicom_date).isoformat()
    except ValueError:
        return None


def _by_identifier(resource_type: str, identifier: Json) -> Json:
    return {"type": resource_type, "identifier": identifier}


def _uid_identifier(uid: str) -> Json:
    """A DICOM UID as FHIR's ImagingStudy asks for it."""
    return {"system": _DICOM_UID, "value": f"urn:oid:{uid}"}


def _oid_identifier(oid: str) -> Json:
    return {"system": _URI, "value": f"urn:oid:{oid}"}


def _own_identifier(name: str, provenance: Provenance) -> Json:
    """The same result has the same identifiers, so that a repeat can be told from a new one."""
    return _oid_identifier(provenance.uid(f"fhir {name}"))


def _concept(code: Code, text: str | None = None) -> Json:
    """A CodeableConcept; a scheme that has no URI here leaves the words only."""
    words: Json = {"text": text or code.meaning}
    if code.scheme not in _SYSTEMS:
        return words
    return {**_coded(_SYSTEMS[code.scheme], code.value, code.meaning), **words}


def _coded(system: str, code: str, display: str) -> Json:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _quantity(
    value: float | None, ucum: str, unit: str | None = None, absent: str = "unknown"
) -> Json:
    """A value[x] with a UCUM unit, or the reason why there is none."""
    if value is None:
        return _absent(absent)
    return {
        "valueQuantity": {
            "value": value,
            "unit": unit or ucum,
            "system": _SYSTEMS["UCUM"],
            "code": ucum,
        }
    }


def _absent(reason: str) -> Json:
    return {
        "dataAbsentReason": _coded(
            f"{_TERMINOLOGY}/data-absent-reason", reason, reason.replace("-", " ").title()
        )
    }


def _percent(share: float) -> float:
    """A share times 100: by its decimal digits, which stay the same."""
    return float(Decimal(repr(float(share))).scaleb(2))
