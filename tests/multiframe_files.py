"""Enhanced CT instances made from phantom slices, for what no scanner's file can be had."""

import copy
from collections.abc import Sequence

import numpy as np
from dicom_files import series
from highdicom import Volume
from pydicom import Dataset
from pydicom.uid import EnhancedCTImageStorage, generate_uid

_IN_GROUPS = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
)


def enhanced(volume: Volume, seed: int = 0, order: Sequence[int] | None = None) -> Dataset:
    """One Enhanced CT instance of the volume's slices, its frames in the given order."""
    slices = series(volume, seed)
    slices = [slices[index] for index in (order if order is not None else range(len(slices)))]
    whole = copy.deepcopy(slices[0])
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    whole.SOPInstanceUID = generate_uid(entropy_srcs=["enhanced", str(seed), str(order)])
    whole.file_meta.MediaStorageSOPInstanceUID = whole.SOPInstanceUID
    for keyword in _IN_GROUPS:
        delattr(whole, keyword)
    whole.NumberOfFrames = len(slices)
    whole.SharedFunctionalGroupsSequence = [_shared(slices[0])]
    whole.PerFrameFunctionalGroupsSequence = [
        _per_frame(dataset, number) for number, dataset in enumerate(slices, start=1)
    ]
    whole.PixelData = b"".join(dataset.PixelData for dataset in slices)
    return whole


def set_group(groups: Dataset, sequence: str, **values: object) -> None:
    """Write values into the only item of a functional group."""
    item = getattr(groups, sequence)[0] if sequence in groups else Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    setattr(groups, sequence, [item])


def stored(whole: Dataset) -> np.ndarray:
    """Stored values [frame, row, column] of an uncompressed instance, to be changed."""
    values = np.frombuffer(whole.PixelData, "<u2")
    return values.reshape(-1, whole.Rows, whole.Columns).copy()


def _shared(dataset: Dataset) -> Dataset:
    groups = Dataset()
    set_group(groups, "PlaneOrientationSequence",
              ImageOrientationPatient=dataset.ImageOrientationPatient)  # fmt: skip
    set_group(groups, "PixelMeasuresSequence", PixelSpacing=dataset.PixelSpacing,
              SliceThickness=dataset.SliceThickness)  # fmt: skip
    set_group(groups, "PixelValueTransformationSequence", RescaleSlope=dataset.RescaleSlope,
              RescaleIntercept=dataset.RescaleIntercept, RescaleType="HU")  # fmt: skip
    set_group(groups, "CTImageFrameTypeSequence", FrameType=["ORIGINAL", "PRIMARY", "VOLUME"])
    return groups


def _per_frame(dataset: Dataset, number: int) -> Dataset:
    groups = Dataset()
    set_group(groups, "PlanePositionSequence",
              ImagePositionPatient=dataset.ImagePositionPatient)  # fmt: skip
    set_group(groups, "FrameContentSequence", StackID="1", InStackPositionNumber=number,
              TemporalPositionIndex=1)  # fmt: skip
    return groups
