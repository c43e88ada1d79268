"""Instances to slices: multi-frame ones through their functional groups (PS3.3 C.7.6.16)."""

from collections.abc import Iterator, MutableSequence

from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

from service.decode.headers import Instance, Slice, integer_text, value
from service.errors import InconsistentSeries, UnreadableFile

SINGLE_FRAME = CTImageStorage
MULTI_FRAME = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)

MAX_FRAMES = 20_000
"""In one instance: a header of a few bytes must not ask for more."""

_GROUPS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameContentSequence": ("StackID", "TemporalPositionIndex", "FrameAcquisitionNumber"),
}
"""Functional groups, and what of them a single-frame image has at its top level."""

_GROUP_SEQUENCES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


def slices_of(instance: Instance) -> list[Slice]:
    """The image planes of a CT instance. Raises `InconsistentSeries`, `UnreadableFile`."""
    if instance.header.SOPClassUID not in MULTI_FRAME:
        single = Slice(instance.header, instance)
        if instance.frames != 1:
            raise InconsistentSeries(
                f"Expected one frame a file, found more in slice {single.number}."
            )
        return [single]
    try:
        return list(_frames(instance))
    except UnreadableFile:
        raise
    except Exception as error:  # damaged sequences make pydicom raise nearly anything
        raise _damaged(instance) from error


def _frames(instance: Instance) -> Iterator[Slice]:
    header = instance.header
    shared = _first(header, "SharedFunctionalGroupsSequence")
    frames = value(header, "PerFrameFunctionalGroupsSequence")
    per_frame = list(frames) if isinstance(frames, MutableSequence) else []
    if not 1 <= len(per_frame) <= MAX_FRAMES or len(per_frame) != instance.frames:
        raise _damaged(instance)
    for name in _GROUP_SEQUENCES:
        if name in header:
            del header[name]
    for number, groups in enumerate(per_frame, start=1):
        flat = Dataset(dict(header.items()))
        for source in (shared, groups):
            _flatten(source, flat)
        yield Slice(flat, instance, number)


def _flatten(groups: Dataset, flat: Dataset) -> None:
    """Write a frame's groups as a single-frame image has them; what comes later wins."""
    for sequence, keywords in _GROUPS.items():
        item = _first(groups, sequence)
        for keyword in keywords:
            if keyword in item:
                flat[keyword] = item[keyword]
    if "FrameAcquisitionNumber" in flat:
        flat.AcquisitionNumber = flat.pop("FrameAcquisitionNumber").value
    if frame_type := _first(groups, "CTImageFrameTypeSequence").get("FrameType"):
        flat.ImageType = frame_type


def _first(header: Dataset, keyword: str) -> Dataset:
    """The only item of a sequence; an empty one where there is none."""
    items = value(header, keyword)
    return items[0] if items else Dataset()  # type: ignore[index]  # a Sequence of Dataset


def _damaged(instance: Instance) -> UnreadableFile:
    number = integer_text(value(instance.header, "InstanceNumber"))
    return UnreadableFile(
        f"Expected functional groups for each of {instance.frames} frames, found others in "
        f"instance {number}."
    )
