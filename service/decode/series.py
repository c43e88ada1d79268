"""Which of a request's DICOM files make the volume: one series, one acquisition, nothing twice."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydicom.uid import UID

from service.decode.headers import (
    Instance,
    Slice,
    integer_text,
    modality,
    numbers,
    text,
    uid_text,
    words,
)
from service.decode.multiframe import MULTI_FRAME, SINGLE_FRAME, slices_of
from service.decode.pixels import size_px
from service.errors import (
    DuplicateSlices,
    InconsistentSeries,
    InvalidParameter,
    NoCtSeries,
    TooManyVoxels,
    WrongModality,
)
from service.notices import Notice

_NOT_A_SLICE = {"LOCALIZER", "SCREEN SAVE", "DOSE_INFO", "DOSE"}
"""Words in ImageType (PS3.3 C.8.2.1.1.1 and vendors' own) of images that belong to no volume."""

_PHASES: tuple[tuple[str, Callable[[Slice], str]], ...] = (
    ("temporal position", lambda item: text(item.header, "TemporalPositionIdentifier")),
    ("temporal position", lambda item: text(item.header, "TemporalPositionIndex")),
    ("acquisition", lambda item: text(item.header, "AcquisitionNumber")),
    ("instance", lambda item: text(item.header, "SOPInstanceUID") if item.frame else ""),
)
"""What tells slices at the same position apart, the most telling first."""

_SAME_POSITION_DECIMALS = 2

_SAME_PLACE_STEPS = 0.25
"""Slices nearer to each other, in steps of their phase, are the same place acquired again."""

_LEAST_SHARE = 0.25
"""Of all positions, that a phase has to cover: a scan slice by slice has one number for each."""


def choose(
    instances: Sequence[Instance], wanted: str | None, modality_served: str
) -> tuple[list[Slice], list[Notice]]:
    """The slices of one CT series, and what to say of everything else.

    Unless `wanted` names a series, the axial one with most slices is taken, then the thinnest. Of a
    series that was acquired several times at the same positions the acquisition with most slices is
    taken, then the first. Raises `WrongModality`, `NoCtSeries`, `InvalidParameter`,
    `DuplicateSlices` and `InconsistentSeries`.
    """
    images = [instance for instance in instances if _is_ct(instance)]
    images, notices = _without_copies(images)
    planes = [item for instance in images for item in slices_of(instance)]
    slices = [item for item in planes if not _NOT_A_SLICE.intersection(
        words(item.header, "ImageType"))]  # fmt: skip
    if not slices:
        raise _no_slices(instances, modality_served)
    notices += _left_out(instances, len(planes) - len(slices))
    series, others = _choose_series(slices, wanted)
    _check_identity(series)
    acquisition, phases = _choose_acquisition(series)
    return acquisition, [*notices, *others, *phases]


def check_size(slices: Sequence[Slice], max_voxels: int) -> None:
    """Raises `TooManyVoxels`; counts before any pixel is decoded."""
    voxels = sum(rows * columns for rows, columns in map(size_px, slices))
    if voxels > max_voxels:
        raise TooManyVoxels(f"Expected at most {max_voxels} voxels, found {voxels}.")


def _is_ct(instance: Instance) -> bool:
    classes = (SINGLE_FRAME, *MULTI_FRAME)
    return instance.header.SOPClassUID in classes and modality(instance.header) in ("CT", "?")


def _without_copies(images: Sequence[Instance]) -> tuple[list[Instance], list[Notice]]:
    """A file that was sent twice, byte for byte, is read once.

    Different files of the same SOPInstanceUID are refused: nobody can tell which one is right.
    """
    seen: dict[str, Instance] = {}
    copies = []
    for instance in images:
        first = seen.setdefault(text(instance.header, "SOPInstanceUID"), instance)
        if first is instance:
            continue
        number = Slice(instance.header, instance).number
        if first.file != instance.file:
            raise DuplicateSlices(
                f"Expected one instance for each SOPInstanceUID, found two that differ, slice "
                f"{number} one of them."
            )
        copies.append(number)
    if not copies:
        return list(images), []
    listed = ", ".join(copies[:10]) + (", ..." if len(copies) > 10 else "")
    message = f"{len(copies)} file(s) came twice and were read once: slice(s) {listed}."
    return list(seen.values()), [Notice("sent_twice", message)]


def _no_slices(instances: Sequence[Instance], served: str) -> Exception:
    found = Counter(modality(instance.header) for instance in instances)
    other = sorted(name for name in found if name != served)
    if other:
        return WrongModality(f"Expected {served}, found {', '.join(other)}.")
    if any(map(_is_ct, instances)):
        return NoCtSeries(
            f"Expected CT slices, found {len(instances)} object(s), those of CT localisers or dose "
            "screens only."
        )
    classes = sorted({UID(text(instance.header, "SOPClassUID")).name for instance in instances})
    return NoCtSeries(
        f"Expected CT Image Storage slices, found {len(instances)} other object(s): "
        f"{', '.join(_safe(name) for name in classes)}."
    )


def _safe(uid_name: str) -> str:
    """A UID's registered name, or the UID; anything else a file may hold there becomes "?"."""
    return (
        uid_name if UID(uid_name).is_valid or uid_name.endswith(("Storage", "Directory")) else "?"
    )


def _left_out(instances: Sequence[Instance], localisers: int) -> list[Notice]:
    kinds = Counter(modality(item.header) for item in instances if not _is_ct(item))
    listed = [f"{number} of modality {name}" for name, number in sorted(kinds.items())]
    if localisers:
        listed.append(f"{localisers} localiser(s) or dose screen(s) of modality CT")
    if not listed:
        return []
    count = kinds.total() + localisers
    message = f"{count} object(s) that are no slices of a CT volume were left out: "
    return [Notice("objects_left_out", f"{message}{', '.join(listed)}.")]


def _choose_series(slices: Sequence[Slice], wanted: str | None) -> tuple[list[Slice], list[Notice]]:
    series: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    for item in slices:
        key = text(item.header, "SeriesInstanceUID"), text(item.header, "StackID")
        series[key].append(item)
    candidates = [key for key in series if wanted in (None, key[0])]
    if not candidates:
        raise InvalidParameter(
            f"Expected series_instance_uid to name one of the {len(series)} CT series, found none "
            "that it names."
        )
    chosen = max(candidates, key=lambda key: _rank(series[key]))
    others = [members[0].header for key, members in series.items() if key != chosen]
    if not others:
        return series[chosen], []
    names = ", ".join(
        f"{integer_text(text(other, 'SeriesNumber'))} ({uid_text(other, 'SeriesInstanceUID')})"
        for other in others
    )
    message = f"{len(others)} further CT series or stacks not segmented: {names}."
    return series[chosen], [Notice("other_series", message)]


def _rank(series: Sequence[Slice]) -> tuple[bool, bool, int, float]:
    """Grey first, then axial, then most slices, then thinnest. Most slices say what is axial."""
    axial = sum(map(_is_axial, series)) > len(series) / 2
    thickness = numbers(series[0].header, "SliceThickness", 1)
    thinness = -float(thickness[0]) if thickness is not None else -np.inf
    samples = numbers(series[0].header, "SamplesPerPixel", 1)
    return samples is None or samples[0] == 1, axial, len(series), thinness


def _is_axial(item: Slice) -> bool:
    orientation = numbers(item.header, "ImageOrientationPatient", 6)
    if orientation is None:
        return False
    return bool(np.abs(np.cross(orientation[:3], orientation[3:])).argmax() == 2)


def _check_identity(series: Sequence[Slice]) -> None:
    for keyword in ("StudyInstanceUID", "PatientID"):
        if len({text(item.header, keyword) for item in series}) > 1:
            raise InconsistentSeries(f"Expected one {keyword} in the series, found several.")
    if len({item.frame is None for item in series}) > 1:
        raise InconsistentSeries("Expected single-frame or multi-frame instances, found both.")


def _choose_acquisition(series: list[Slice]) -> tuple[list[Slice], list[Notice]]:
    """The slices themselves, unless there are several at one place that can be told apart."""
    for name, key in _PHASES:
        phases: dict[str, list[Slice]] = defaultdict(list)
        for item in series:
            phases[key(item)].append(item)
        if len(phases) > 1 and all(map(_has_each_position_once, phases.values())):
            # That with most slices, then that of the lowest number.
            chosen = min(phases, key=lambda phase: (-len(phases[phase]), _order(phase)))
            if _is_a_phase(phases[chosen], series):
                return phases[chosen], [_other_phases(name, chosen, phases)]
    return series, []  # stacking them names the slices


def _is_a_phase(phase: Sequence[Slice], series: Sequence[Slice]) -> bool:
    """Whether it covers enough of the series, and other slices lie where its own do."""
    if len(phase) < _LEAST_SHARE * len(set(_positions(series))):
        return False
    return not _has_each_position_once(series) or _is_repeated(phase, series)


def _is_repeated(phase: Sequence[Slice], series: Sequence[Slice]) -> bool:
    """Whether most of the other slices of the series lie in the places of its own.

    Phases may begin a little apart. Acquisitions that continue each other, or take turns, do not
    repeat each other.
    """
    orientation = numbers(phase[0].header, "ImageOrientationPatient", 6)
    own = {id(item) for item in phase}
    others = [item for item in series if id(item) not in own]
    places = _positions(phase), _positions(others)
    if orientation is None or len(places[0]) < 2 or not places[1]:
        return False
    normal = np.cross(orientation[:3], orientation[3:])
    among, heights = (np.sort(np.array(positions) @ normal) for positions in places)
    above = np.searchsorted(among, heights).clip(1, len(among) - 1)
    nearest = np.minimum(np.abs(heights - among[above]), np.abs(heights - among[above - 1]))
    step = float(np.median(np.diff(among)))
    return float(np.mean(nearest < _SAME_PLACE_STEPS * step)) > 0.5


def _other_phases(name: str, chosen: str, phases: Mapping[str, Sequence[Slice]]) -> Notice:
    others = ", ".join(
        f"{name} {_phase_text(phase)} ({len(phases[phase])} slices)"
        for phase in sorted(phases, key=_order)
        if phase != chosen
    )
    message = (
        f"The series holds {len(phases)} acquisitions at the same positions: {name} "
        f"{_phase_text(chosen)} ({len(phases[chosen])} slices) was segmented, not {others}."
    )
    return Notice("other_acquisitions", message)


def _order(phase: str) -> tuple[bool, int, str]:
    """Numbers by their value, then everything else by its text."""
    is_number = integer_text(phase) != "?"
    return not is_number, int(phase) if is_number else 0, phase


def _phase_text(phase: str) -> str:
    return phase if UID(phase).is_valid and phase else integer_text(phase)


def _has_each_position_once(slices: Sequence[Slice]) -> bool:
    positions = _positions(slices)
    return len(set(positions)) == len(positions)


def _positions(slices: Sequence[Slice]) -> list[tuple[float, ...]]:
    """Of those slices that have one; the others are judged elsewhere."""
    return [
        tuple(position.round(_SAME_POSITION_DECIMALS).tolist())
        for item in slices
        if (position := numbers(item.header, "ImagePositionPatient", 3)) is not None
    ]
