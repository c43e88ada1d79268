"""The SR says what was found, to the last digit, and refers to the SEG that lies beside it."""

import io
from pathlib import Path

import numpy as np
import pytest
from encode.objects import codes_in, object_errors, objects_of, write
from encode.test_outputs import dicom_result, read_seg
from highdicom import Volume
from highdicom.sr import Comprehensive3DSR
from pydicom import Dataset, dcmread

from service import pipeline
from service.pipeline import Result

VOLUME, LONG_AXIS, SHORT_AXIS, ATTENUATION = "118565006", "103339001", "103340004", "112031"
BURDEN = "BURDEN"


def sr_of(result: Result) -> Dataset:
    return dcmread(io.BytesIO(next(data for _, data in pipeline.dicom_object(result, "sr"))))


def groups(report: Dataset) -> list[Dataset]:
    """The measurement groups in their order."""
    (measurements,) = (item for item in report.ContentSequence if codes_in(item) == "126010")
    return list(measurements.ContentSequence)


def item(group: Dataset, code: str) -> Dataset | None:
    return next((found for found in group.ContentSequence if codes_in(found) == code), None)


def number(group: Dataset, code: str) -> float | None:
    found = item(group, code)
    return None if found is None else float(found.MeasuredValueSequence[0].FloatingPointValue)


@pytest.fixture(scope="module")
def result(clean_volume: Volume) -> Result:
    return dicom_result(clean_volume)[0]


def test_a_group_for_each_segment(result: Result) -> None:
    """Each names its segment by number and by the tracking UID that the SEG gives it."""
    seg = read_seg(pipeline.dicom_seg(result))
    described = [(str(one.TrackingID), str(one.TrackingUID)) for one in seg.SegmentSequence]
    for position, group in enumerate(groups(sr_of(result))[: len(described)]):
        reference = item(group, "121191").ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == seg.SOPClassUID
        assert reference.ReferencedSegmentNumber == position + 1
        assert (item(group, "112039").TextValue, item(group, "112040").UID) == described[position]


def test_volumes_are_those_of_the_segments(result: Result) -> None:
    """Voxels of the SEG's segment times its voxel's volume, exactly as the JSON says."""
    seg = read_seg(pipeline.dicom_seg(result)).get_volume(combine_segments=True)
    counts = np.bincount(np.asarray(seg.array).ravel())[1:]
    found = groups(sr_of(result))
    document = pipeline.result_document(result).findings
    expected = [document.liver.parenchyma_volume_ml, *(one.volume_ml for one in document.lesions)]
    assert [number(group, VOLUME) for group in found[: len(counts)]] == expected
    voxel_ml = float(np.prod(seg.spacing)) / 1000
    assert expected == pytest.approx([count * voxel_ml for count in counts], rel=1e-6)


def test_axes_and_attenuation_are_those_of_the_json(result: Result) -> None:
    """To the last digit."""
    document = pipeline.result_document(result).findings
    for lesion, group in zip(document.lesions, groups(sr_of(result))[1:], strict=False):
        assert number(group, LONG_AXIS) == lesion.longest_diameter_mm
        assert number(group, SHORT_AXIS) == lesion.short_diameter_mm
        assert number(group, ATTENUATION) == lesion.mean_hu


def test_lesions_differ_in_their_values_only(result: Result) -> None:
    """All else is the same in each group: codes, units, algorithm, site and the SEG's instance."""
    lesions = groups(sr_of(result))[1:-2]
    assert len(lesions) > 1
    for group in lesions:
        for one in group.ContentSequence:
            for measured in one.get("MeasuredValueSequence", []):
                decimal, exact = measured.NumericValue, measured.FloatingPointValue
                assert float(decimal) == pytest.approx(exact, rel=1e-13)  # DS: 16 characters
                del measured.NumericValue, measured.FloatingPointValue
        del item(group, "112039").TextValue, item(group, "112040").UID
        del item(group, "121191").ReferencedSOPSequence[0].ReferencedSegmentNumber
    assert all(group == lesions[0] for group in lesions[1:])
    assert [codes_in(one) for one in lesions[0].ContentSequence] == [
        "112039", "112040", "276214006", "121071", "363698007", "111001", "111003", "111002",
        VOLUME, LONG_AXIS, SHORT_AXIS, ATTENUATION, "121191", "121232",
    ]  # fmt: skip


def test_organ_and_all_tumour(result: Result) -> None:
    """The two last groups have no segment: the organ with its burden, and all tumour."""
    document = pipeline.result_document(result).findings
    organ, tumour = groups(sr_of(result))[-2:]
    assert item(organ, "121191") is None
    assert item(tumour, "121191") is None
    assert number(organ, VOLUME) == document.liver.volume_ml
    assert number(organ, BURDEN) == document.burden
    assert number(tumour, VOLUME) == document.tumor.volume_ml


def test_nobody_verified_it(result: Result) -> None:
    """Observed by a device, unverified, and with every source and the SEG as evidence."""
    report = sr_of(result)
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    observer = next(one for one in report.ContentSequence if codes_in(one) == "121005")
    assert observer.ConceptCodeSequence[0].CodeMeaning == "Device"
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    named = {
        str(instance.ReferencedSOPInstanceUID)
        for one in study.ReferencedSeriesSequence
        for instance in one.ReferencedSOPSequence
    }
    seg = read_seg(pipeline.dicom_seg(result))
    sources = result.segmentation.scan.source.sop_instance_uids
    assert named == {*sources, str(seg.SOPInstanceUID)}


def test_highdicom_reads_it(result: Result) -> None:
    """As a measurement report of TID 1500, with a volumetric group for each segment."""
    report = Comprehensive3DSR.from_dataset(sr_of(result))
    found = report.content.get_volumetric_roi_measurement_groups()
    assert len(found) == 1 + len(result.measured.findings.lesions)


def test_nothing_found_is_a_valid_report(clean_volume: Volume, tmp_path: Path) -> None:
    """A liver without voxels has the volume 0 and no burden; no lesion has a group."""
    result, _ = dicom_result(clean_volume, lambda hu: np.zeros(hu.shape))
    liver, organ, tumour = groups(sr_of(result))
    assert number(liver, VOLUME) == number(organ, VOLUME) == number(tumour, VOLUME) == 0
    assert number(organ, BURDEN) is None
    assert object_errors(write({"report.dcm": objects_of(result)["report.dcm"]}, tmp_path)) == []


def test_a_slice_without_thickness(clean_volume: Volume) -> None:
    """What is not known is left out: one slice has diameters, and may have no volume."""
    result, _ = dicom_result(clean_volume[20:21])
    lesions = groups(sr_of(result))[1:-2]
    assert lesions
    for group, lesion in zip(lesions, result.measured.findings.lesions, strict=True):
        assert number(group, VOLUME) == lesion.extent.volume_ml
        assert number(group, LONG_AXIS) == lesion.diameters.longest.length_mm
