"""Large files are written faster, and are the same."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from dicom_files import to_bytes
from encode.test_outputs import dicom_result, result_of
from fakes import by_threshold
from highdicom import Volume
from multiframe_files import enhanced
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
)

from service import pipeline
from service.encode import dicom_seg, dicom_sr, rtstruct
from service.encode.dicom_file import dicom_file
from service.encode.items import like

SOURCES: dict[str, Callable[[Volume], pipeline.Result]] = {
    "ordinary": lambda volume: dicom_result(volume, by_threshold)[0],
    "multi-frame": lambda volume: result_of([to_bytes(enhanced(volume))]),
    "nothing found": lambda volume: dicom_result(volume, lambda hu: np.zeros(hu.shape))[0],
}

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless]


def by_pydicom(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["seg", "labelmap", "sr", "rtstruct"])
def test_the_bytes_are_those_of_pydicom(
    clean_volume: Volume, monkeypatch: pytest.MonkeyPatch, name: str, source: str
) -> None:
    """Of the very dataset that is written: items that are shared, and compressed pixels."""
    made: list[Dataset] = []

    def keep(result: Dataset) -> bytes:
        made.append(result)
        return dicom_file(result)

    for module in (dicom_seg, dicom_sr, rtstruct):
        monkeypatch.setattr(module, "dicom_file", keep)
    ((_, written),) = pipeline.dicom_object(SOURCES[source](clean_volume), name)
    assert written == by_pydicom(made[0])


def code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


def text_item(text: str | list[str] | None) -> Dataset:
    """With the same text in elements of several VRs, and one of its own in a nested item."""
    item = Dataset()
    item.ConceptNameCodeSequence = [code("1", "größer"), code("1", "größer")]
    item.TextValue = item.SoftwareVersions = item.OperatorsName = text
    nested = Dataset()
    nested.ImageComments = None
    nested.TextValue = "肝臓 " * 40
    item.ContentSequence = [nested]
    return item


def number_item() -> Dataset:
    """One value, several and none, of numbers and UIDs."""
    item = Dataset()
    item.NumericValue, item.FloatingPointValue, item.RationalNumeratorValue = "1.5", 1.5, 3
    item.ContourData, item.ROIDisplayColor = ["0.100", "2", "-3"], [0, 255, 3]
    item.ReferencedSegmentNumber = item.ReferencedFrameNumber = [1, 2, 3]
    item.UID, item.ReferencedSOPInstanceUID = "1.2.3", ""
    item.ContentSequence = []
    return item


def long_dataset(syntax: UID) -> Dataset:
    """Every kind of value, in sequences that are written by themselves and between them."""
    texts = ["", None, "a", "ab", "größer", "größer", ["größer", "b", ""], "x" * 65]
    items = [*map(text_item, texts), number_item(), Dataset()]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = SegmentationStorage, "1.2.3"
    dataset.PatientName = "Größer^Ä=肝臓"
    dataset.ContentSequence = [*items, items[4], like(items[4], TextValue="größte")]
    dataset.TextString = "ünter"  # (0070,0006), between two of them
    dataset.SegmentSequence = []
    dataset.PerFrameFunctionalGroupsSequence = [items[0], items[0]]
    return dataset


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("bits", [8, 16])
def test_every_kind_of_value(syntax: UID, bits: int) -> None:
    """Text beyond ASCII, of several values and of none, numbers, and pixels of each kind."""
    dataset = long_dataset(syntax)
    dataset.BitsAllocated = bits
    dataset.PixelData = encapsulate([b"12", b"3456"]) if syntax.is_compressed else b"123456"
    assert dicom_file(dataset) == by_pydicom(dataset)


def test_character_sets_of_code_extensions() -> None:
    """Text is in the character sets that the dataset names, if they are several too."""
    dataset = long_dataset(ExplicitVRLittleEndian)
    dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87", "ISO 2022 IR 100"]
    assert dicom_file(dataset) == by_pydicom(dataset)


def test_without_long_sequences_or_pixels() -> None:
    """A dataset with neither is written as it is."""
    dataset = long_dataset(ExplicitVRLittleEndian)
    for keyword in ("ContentSequence", "SegmentSequence", "PerFrameFunctionalGroupsSequence"):
        del dataset[keyword]
    assert dicom_file(dataset) == by_pydicom(dataset)


def test_an_item_like_another_leaves_it_as_it_is() -> None:
    """It has values of its own and shares all else."""
    pattern = text_item("a")
    item = like(pattern, TextValue="b", UID="1.2.3")
    assert (pattern.TextValue, "UID" in pattern) == ("a", False)
    assert (item.TextValue, item.UID, item.SoftwareVersions) == ("b", "1.2.3", "a")
    assert item.ConceptNameCodeSequence is pattern.ConceptNameCodeSequence
