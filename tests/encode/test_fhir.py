"""The FHIR report says what the JSON says, in a form that FHIR R4 allows."""

import copy
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from xml.parsers import expat

import numpy as np
import pytest
from dicom_files import series, to_bytes
from encode.test_outputs import dicom_result, result_of
from fakes import FakeSegmenter, by_threshold, make_contract
from highdicom import Volume
from plain_files import picture
from pydicom import dcmread
from pydicom.sr.codedict import codes
from test_resample import MISSING, answer, scanned

from service import pipeline
from service.encode.fhir import report_fhir
from service.inference.contract import LIVER, TUMOR, Code
from service.notices import Notice
from service.phantom_files import nifti_bytes
from service.pipeline import Options, Result
from service.settings import Settings

Json = dict[str, object]


def nothing(hu: np.ndarray) -> np.ndarray:
    return np.zeros(hu.shape)


def healthy(hu: np.ndarray) -> np.ndarray:
    return np.minimum(by_threshold(hu), 1)


def png_result(volume: Volume) -> Result:
    """A slice as an 8-bit picture, whose grey is 0.8 HU a step."""
    plane = np.asarray(volume.array)[18]
    grey = np.clip((plane + 40.0) / 200 * 255, 0, 255).round().astype(np.uint8)
    return result_of([picture(grey)])


RESULTS: dict[str, Callable[[Volume], Result]] = {
    "ordinary": lambda volume: dicom_result(volume)[0],
    "no tumour": lambda volume: dicom_result(volume, healthy)[0],
    "no liver": lambda volume: dicom_result(volume, nothing)[0],
    "image": png_result,
    "NIfTI": lambda volume: result_of([nifti_bytes(volume)]),
    "irregular": lambda _: answer(scanned(MISSING)),
}


@pytest.fixture(scope="module", params=RESULTS)
def result(request: pytest.FixtureRequest, clean_volume: Volume) -> Result:
    return RESULTS[request.param](clean_volume)


@pytest.fixture(scope="module")
def ordinary(clean_volume: Volume) -> Result:
    return dicom_result(clean_volume)[0]


def report(result: Result, issued: datetime | None = None) -> Json:
    """As it is sent: through JSON, which has no numbers beyond the finite ones."""
    segmentation = result.segmentation
    notices = (*segmentation.scan.notices, *segmentation.notices)
    made = report_fhir(
        segmentation.scan,
        result.measured.findings,
        notices,
        pipeline.provenance_of(result, issued),
        issued,
    )
    return json.loads(json.dumps(made, allow_nan=False))


def observations(made: Json) -> dict[str, Json]:
    return {item["id"]: item for item in made["contained"] if item["resourceType"] == "Observation"}


PRIMITIVES = {
    "id": r"[A-Za-z0-9\-.]{1,64}",
    "code": r"\S+( \S+)*",
    "uri": r"\S+",
    "string": r"[\r\n\t\S ]+",
    "date": r"\d{4}-\d\d-\d\d",
    "instant": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    "xhtml": r'<div xmlns="http://www\.w3\.org/1999/xhtml"[^>]*>.+</div>',
}
NUMBERS = {"boolean": bool, "integer": int, "decimal": (int, float)}

VALUES = {
    "valueQuantity": "Quantity ?",
    "valueCodeableConcept": "CodeableConcept ?",
    "valueInteger": "integer ?",
    "valueBoolean": "boolean ?",
    "dataAbsentReason": "CodeableConcept ?",
}

TYPES: dict[str, dict[str, str]] = {
    "DiagnosticReport": {
        "resourceType": "code 1", "id": "id ?", "language": "code ?", "text": "Narrative ?",
        "contained": "Resource *", "identifier": "Identifier *", "basedOn": "Reference *",
        "status": "code 1", "category": "CodeableConcept *", "code": "CodeableConcept 1",
        "subject": "Reference ?", "effectiveDateTime": "date ?", "issued": "instant ?",
        "result": "Reference *", "imagingStudy": "Reference *", "conclusion": "string ?",
    },
    "Observation": {
        "resourceType": "code 1", "id": "id 1", "identifier": "Identifier *", "status": "code 1",
        "category": "CodeableConcept *", "code": "CodeableConcept 1", "subject": "Reference ?",
        "focus": "Reference *", "effectiveDateTime": "date ?", "issued": "instant ?",
        "bodySite": "CodeableConcept ?", "device": "Reference ?", "derivedFrom": "Reference *",
        "note": "Annotation *", "component": "Component *", **VALUES,
    },
    "Component": {"code": "CodeableConcept 1", **VALUES},
    "Device": {
        "resourceType": "code 1", "id": "id 1", "identifier": "Identifier *",
        "manufacturer": "string ?", "deviceName": "DeviceName *", "type": "CodeableConcept ?",
        "version": "DeviceVersion *", "note": "Annotation *",
    },
    "DeviceName": {"name": "string 1", "type": "code 1"},
    "DeviceVersion": {"type": "CodeableConcept ?", "value": "string 1"},
    "Narrative": {"status": "code 1", "div": "xhtml 1"},
    "Annotation": {"text": "string 1"},
    "CodeableConcept": {"coding": "Coding *", "text": "string ?"},
    "Coding": {"system": "uri 1", "code": "code 1", "display": "string 1"},
    "Identifier": {"type": "CodeableConcept ?", "system": "uri ?", "value": "string 1"},
    "Reference": {
        "reference": "string ?", "type": "uri ?", "identifier": "Identifier ?",
        "display": "string ?",
    },
    "Quantity": {"value": "decimal 1", "unit": "string 1", "system": "uri 1", "code": "code 1"},
}  # fmt: skip
"""Of each type the elements that are used here: type and cardinality, as R4 has them or stricter.

`1` is needed, `?` may be left out, `*` is a list, which is not empty where it is there.
"""

SYSTEMS = {
    "http://snomed.info/sct",
    "http://loinc.org",
    "http://dicom.nema.org/resources/ontology/DCM",
    "http://terminology.hl7.org/CodeSystem/v2-0074",
    "http://terminology.hl7.org/CodeSystem/v2-0203",
    "http://terminology.hl7.org/CodeSystem/observation-category",
    "http://terminology.hl7.org/CodeSystem/data-absent-reason",
}

TARGETS = {
    "basedOn": "ServiceRequest",
    "subject": "Patient",
    "imagingStudy": "ImagingStudy",
    "derivedFrom": "ImagingStudy",
}
"""What the references of an element may point at, of those R4 allows."""


def faults(made: Json) -> list[str]:
    """What R4 forbids of a DiagnosticReport; nothing is a valid one."""
    found = list(_type_faults(made, "DiagnosticReport", "DiagnosticReport"))
    contained = {f"#{item.get('id')}" for item in made.get("contained", [])}
    pointed_at = [value for key, value in _leaves(made) if key == "reference"]
    found += [f"{target} is not contained" for target in set(pointed_at) - contained]
    found += [f"dom-3: nothing refers to {target}" for target in contained - set(pointed_at)]
    if len(contained) != len(made.get("contained", [])):
        found.append("two contained resources of one id")
    found += [f"{value} is no code system" for value in _coding_systems(made) - SYSTEMS]
    return found


def _type_faults(value: object, type_name: str, path: str) -> Iterator[str]:
    if type_name in PRIMITIVES:
        if not isinstance(value, str) or not re.fullmatch(PRIMITIVES[type_name], value, re.S):
            yield f"{path} is no {type_name}"
        return
    if type_name in NUMBERS:
        if not isinstance(value, NUMBERS[type_name]) or (
            isinstance(value, bool) and type_name != "boolean"
        ):
            yield f"{path} is no {type_name}"
        return
    if not isinstance(value, dict):
        yield f"{path} is no object"
        return
    if type_name == "Resource":
        type_name = value.get("resourceType", "")
        if type_name not in ("Observation", "Device"):
            yield f"{path} holds a {type_name}"
            return
    yield from _element_faults(value, type_name, path)


def _element_faults(value: Json, type_name: str, path: str) -> Iterator[str]:
    elements = TYPES[type_name]
    yield from (f"{path}.{name} is unknown" for name in value.keys() - elements.keys())
    for name, rule in elements.items():
        element_type, cardinality = rule.split()
        if name not in value:
            if cardinality == "1":
                yield f"{path}.{name} is missing"
        elif cardinality == "*":
            if not isinstance(value[name], list) or not value[name]:
                yield f"{path}.{name} is no list of some"
                continue
            for index, item in enumerate(value[name]):
                yield from _type_faults(item, element_type, f"{path}.{name}[{index}]")
        else:
            yield from _type_faults(value[name], element_type, f"{path}.{name}")
    if "dataAbsentReason" in elements and len(VALUES.keys() & value.keys()) != 1:
        yield f"obs-6: {path} has a value, or a reason why there is none"
    if type_name == "CodeableConcept" and not value:
        yield f"{path} says nothing"
    if type_name == "Reference" and not {"reference", "identifier", "display"} & value.keys():
        yield f"{path} refers to nothing"
    wanted = TARGETS.get(re.sub(r"\[\d+\]$", "", path).split(".")[-1])
    if type_name == "Reference" and wanted and value.get("type") != wanted:
        yield f"{path} does not refer to a {wanted}"


def _leaves(value: object) -> Iterator[tuple[str, object]]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value)  # type: ignore[arg-type]
    for key, item in items:
        if isinstance(item, dict | list):
            yield from _leaves(item)
        else:
            yield str(key), item


def _coding_systems(value: object) -> set[object]:
    if isinstance(value, list):
        return set().union(*map(_coding_systems, value))
    if not isinstance(value, dict):
        return set()
    own = {item.get("system") for item in value.get("coding", [])}
    return own.union(*map(_coding_systems, value.values()))


def test_is_valid(result: Result) -> None:
    """Elements, types and references are those of R4."""
    made = report(result, datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC))
    assert faults(made) == []
    assert {item["status"] for item in (made, *observations(made).values())} == {"preliminary"}


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda made: made.pop("status"), "status is missing"),
        (lambda made: made["contained"][1].pop("code"), "code is missing"),
        (lambda made: made.update(performer=[]), "performer is unknown"),
        (lambda made: made.update(category=[]), "category is no list"),
        (lambda made: made.update(issued="2026-05-04"), "issued is no instant"),
        (lambda made: made["contained"][1].update(valueInteger=1), "obs-6"),
        (lambda made: made["contained"][1]["valueQuantity"].update(value="1"), "no decimal"),
        (lambda made: made["result"].pop(), "dom-3"),
        (lambda made: made["contained"].pop(), "is not contained"),
        (lambda made: made["contained"][1]["derivedFrom"][0].update(type="Media"), "ImagingStudy"),
        (lambda made: made["code"]["coding"][0].update(system="SCT"), "no code system"),
    ],
)
def test_damage_is_found(ordinary: Result, damage: Callable[[Json], None], fault: str) -> None:
    """The checker above sees what is wrong with a report."""
    made = copy.deepcopy(report(ordinary))
    damage(made)
    assert any(fault in found for found in faults(made))


def quantity(item: Json, unit: str) -> float | None:
    """The value in this unit; None where it is absent as unknown."""
    if "valueQuantity" not in item:
        assert item["dataAbsentReason"]["coding"][0]["code"] == "unknown"
        return None
    assert item["valueQuantity"]["code"] == unit
    return item["valueQuantity"]["value"]


def test_numbers_are_those_of_the_json(result: Result) -> None:
    """To the last digit; what is null there is absent here."""
    found = observations(report(result))
    document = pipeline.result_document(result).model_dump(mode="json")["findings"]
    liver, tumor = document["liver"], document["tumor"]
    assert quantity(found["liver-volume"], "mL") == liver["volume_ml"]
    assert quantity(found["parenchyma-volume"], "mL") == liver["parenchyma_volume_ml"]
    assert quantity(found["tumour-volume"], "mL") == tumor["volume_ml"]
    assert found["lesion-count"]["valueInteger"] == tumor["lesion_count"]
    if document["burden"] is None:
        reason = found["tumour-burden"]["dataAbsentReason"]["coding"][0]
        assert reason["code"] == "not-applicable"
    else:
        # The same digits, the point two places on: the nearest number may be one step off.
        percent = quantity(found["tumour-burden"], "%")
        assert percent == pytest.approx(100 * document["burden"], rel=1e-15)
    names = [name for name in found if re.fullmatch(r"lesion-\d+", name)]
    assert names == [f"lesion-{lesion['id']}" for lesion in document["lesions"]]
    for lesion in document["lesions"]:
        volume, longest, short, hu, measurable, target = found[f"lesion-{lesion['id']}"][
            "component"
        ]
        assert quantity(volume, "mL") == lesion["volume_ml"]
        assert quantity(longest, "mm") == lesion["longest_diameter_mm"]
        assert quantity(short, "mm") == lesion["short_diameter_mm"]
        assert quantity(hu, "[hnsf'U]") == lesion["mean_hu"]
        assert measurable.get("valueBoolean") == lesion["recist_measurable"]
        assert target["valueBoolean"] == lesion["recist_target_candidate"]


@pytest.mark.parametrize(
    ("share", "percent"), [(0.07, 7.0), (0.028261, 2.8261), (0.29, 29.0), (1.0, 100.0), (0.0, 0.0)]
)
def test_per_cent_keeps_the_digits(ordinary: Result, share: float, percent: float) -> None:
    """0.07 is 7 %, and not 7.000000000000001 %."""
    findings = replace(ordinary.measured.findings, burden=share)
    changed = replace(ordinary, measured=replace(ordinary.measured, findings=findings))
    assert quantity(observations(report(changed))["tumour-burden"], "%") == percent


CONCLUSIONS = {
    "ordinary": r"3 lesions found in the liver, 43\.9 mL together, 2\.8% of the liver, the longest "
    r"diameter 34 mm",
    "no tumour": r"No tumour found in the liver of 1556 mL",
    "no liver": "No liver found",
    "image": r"1 lesion found in the liver, [\d.]+% of the liver",
    "NIfTI": r"3 lesions found in the liver, .*",
    "irregular": r"1 lesion found in the liver, [\d.]+ mL, [\d.]+% of the liver, the longest .*",
}


@pytest.mark.parametrize("name", CONCLUSIONS)
def test_conclusion(clean_volume: Volume, name: str) -> None:
    """A sentence in plain words, with what it is not for."""
    conclusion = report(RESULTS[name](clean_volume))["conclusion"]
    expected = CONCLUSIONS[name] + r"\. Research use only, not for diagnosis\."
    assert re.fullmatch(expected, conclusion)


def test_unknown_sizes_are_no_numbers(clean_volume: Volume) -> None:
    """Of a picture without pixel spacing only counts and CT values are known."""
    found = observations(report(png_result(clean_volume)))
    assert found["lesion-count"]["valueInteger"] == 1
    values = [found[name] for name in ("liver-volume", "parenchyma-volume", "tumour-volume")]
    values += found["lesion-1"]["component"]
    known = [item["code"]["text"] for item in values if "dataAbsentReason" not in item]
    assert known == ["Mean CT value", "Candidate for a target lesion by RECIST 1.1"]


def test_patient_study_and_request(ordinary: Result) -> None:
    """Named by their identifiers, on the report and on each observation."""
    made = report(ordinary)
    study = ordinary.segmentation.scan.source.datasets[0].StudyInstanceUID
    reference = {"system": "urn:dicom:uid", "value": f"urn:oid:{study}"}
    assert [item["identifier"] for item in made["imagingStudy"]] == [reference]
    assert made["basedOn"][0]["identifier"]["value"] == "A1"
    for item in (made, *observations(made).values()):
        assert item["subject"]["identifier"] == {"value": "PHANTOM-1"}
        assert item["subject"]["display"] == "Phantom, Petra"
        assert item["effectiveDateTime"] == "2020-01-02"
    for item in observations(made).values():
        assert [source["identifier"] for source in item["derivedFrom"]] == [reference]


@pytest.mark.parametrize("name", ["image", "NIfTI"])
def test_no_patient_without_dicom(clean_volume: Volume, name: str) -> None:
    """Nothing is said of who it is, of a study, or of a SEG that there is not."""
    text = json.dumps(report(RESULTS[name](clean_volume)))
    for word in ("subject", "imagingStudy", "basedOn", "derivedFrom", "effective", "SEG"):
        assert word not in text


@pytest.mark.parametrize(
    ("changes", "element", "expected"),
    [
        ({"PatientName": "", "PatientID": ""}, "subject", None),
        ({"PatientID": ""}, "subject", {"type": "Patient", "display": "Phantom, Petra"}),
        ({"PatientName": ""}, "subject", {"type": "Patient", "identifier": {"value": "PHANTOM-1"}}),
        ({"AccessionNumber": ""}, "basedOn", None),
        ({"StudyDate": ""}, "effectiveDateTime", None),
        ({"StudyDate": "20200231"}, "effectiveDateTime", None),
        ({"StudyDate": "19991231"}, "effectiveDateTime", "1999-12-31"),
    ],
    ids=str,
)
def test_what_the_source_lacks_is_left_out(
    clean_volume: Volume, changes: Json, element: str, expected: object
) -> None:
    """No empty element stands for it."""
    result = dicom_result(clean_volume[16:20])[0]
    for dataset in result.segmentation.scan.source.datasets:
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
    made = report(result)
    assert made.get(element) == expected
    assert faults(made) == []


@pytest.mark.parametrize(
    ("name", "display"),
    [
        ("Mononym", "Mononym"),
        ("M\u00fcller^Petra^Anna^Dr.", "M\u00fcller, Petra"),
        ("^Petra", "Petra"),
        ("Yamada^Tarou=\u5c71\u7530^\u592a\u90ce", "Yamada, Tarou"),
    ],
)
def test_names(clean_volume: Volume, name: str, display: str) -> None:
    """As people write them."""
    result = dicom_result(clean_volume[16:20])[0]
    for dataset in result.segmentation.scan.source.datasets:
        dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 192", name
    assert report(result)["subject"]["display"] == display


def test_issued(ordinary: Result) -> None:
    """When it was made, in universal time; nothing where nobody knows."""
    assert "issued" not in json.dumps(report(ordinary))
    made = report(ordinary, datetime(2026, 5, 4, 3, 2, 1, tzinfo=timezone(timedelta(hours=2))))
    moments = {item["issued"] for item in (made, *observations(made).values())}
    assert moments == {"2026-05-04T01:02:01+00:00"}


def test_lesions_are_those_of_the_seg(ordinary: Result) -> None:
    """The same tracking identifiers, and the segment that shows each."""
    seg = dcmread(io.BytesIO(pipeline.dicom_seg(ordinary)))
    found = observations(report(ordinary))
    names = ["parenchyma-volume", "lesion-1", "lesion-2", "lesion-3"]
    for name, segment in zip(names, seg.SegmentSequence, strict=True):
        structure, place = found[name]["focus"]
        assert structure["identifier"]["value"] == f"urn:oid:{segment.TrackingUID}"
        assert structure["display"] == segment.TrackingID
        assert place["identifier"]["value"] == f"urn:oid:{seg.SOPInstanceUID}"
        assert place["display"] == f"DICOM SEG, segment {segment.SegmentNumber}"


def test_codes(ordinary: Result) -> None:
    """Those of PS3.16 for structures and measurements, and LOINC's of any imaging report."""
    expected = {
        codes.SCT.Volume, codes.SCT.LongAxis, codes.SCT.ShortAxis, codes.SCT.Liver,
        codes.SCT.Neoplasm, codes.DCM.AttenuationCoefficient, codes.DCM.Finding,
        codes.DCM.ArtificialIntelligence,
    }  # fmt: skip
    text = json.dumps(report(ordinary))
    for code in expected:
        assert f'"code": "{code.value}", "display": "{code.meaning}"' in text
    found = set(re.findall(r'"code": "([\d-]+)"', text))
    assert found == {code.value for code in expected} | {"18748-4", "246206008"}


def test_a_code_of_another_scheme_is_words(clean_volume: Volume) -> None:
    """A contract may use a scheme that has no URI here."""
    own = TUMOR.model_copy(update={"type": Code(value="T1", scheme="99X", meaning="Mass")})
    model = FakeSegmenter(by_threshold, make_contract(classes=(LIVER, own)))
    files = [to_bytes(dataset) for dataset in series(clean_volume[8:28])]
    made = report(pipeline.run(files, Options(), model, Settings()))
    assert observations(made)["lesion-1"]["valueCodeableConcept"] == {"text": "Mass"}
    assert faults(made) == []


def test_the_model_is_the_device(ordinary: Result) -> None:
    """With its name, its version and its hash."""
    made = report(ordinary)
    (device,) = [item for item in made["contained"] if item["resourceType"] == "Device"]
    assert device["deviceName"] == [{"name": "fake", "type": "model-name"}]
    assert {"1.0", "0" * 64} <= {version["value"] for version in device["version"]}
    for item in observations(made).values():
        assert item["device"] == {"reference": "#model"}


def test_a_retry_gives_the_same_report(clean_volume: Volume) -> None:
    """Identifiers too; those of another result are others, and no two are the same."""
    result = dicom_result(clean_volume)[0]
    first, second = report(result), report(dicom_result(clean_volume)[0])
    other = report(replace(result, fingerprint="0" * 64))
    assert first == second
    mine, others = (
        [item["identifier"][0]["value"] for item in (made, *observations(made).values())]
        for made in (first, other)
    )
    assert len(set(mine)) == len(mine)
    assert not set(mine) & set(others)


def test_warnings_are_told(ordinary: Result) -> None:
    """As notes of the liver's volume and in the narrative, which stays XHTML."""
    notices = [Notice("resampled", "Tilted by <5> & more."), Notice("sent_twice", "Twice.")]
    segmentation = ordinary.segmentation
    made = report_fhir(
        segmentation.scan,
        ordinary.measured.findings,
        notices,
        pipeline.provenance_of(ordinary),
        None,
    )
    texts = [note["text"] for note in observations(made)["liver-volume"]["note"]]
    assert texts == [notice.message for notice in notices]
    read: list[str] = []
    parser = expat.ParserCreate()
    parser.CharacterDataHandler = read.append
    parser.Parse(made["text"]["div"], True)
    assert "".join(read) == made["conclusion"] + "".join(texts)
