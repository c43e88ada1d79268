"""Overlays as DICOM Secondary Capture (PS3.3 A.8.1), for viewers that read nothing else.

Each picture is a slice with its outlines; text is burned in around it and covers no anatomy. The
slice is turned and scaled: the picture has a pixel spacing, but no place in the patient.
"""

import io
import math
from collections.abc import Iterator

import cv2
import numpy as np
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from service.encode.png import LIVER_COLOR, TUMOR_COLOR, Color, Rgb, View
from service.encode.provenance import MANUFACTURER, NOT_FOR_DIAGNOSIS, Provenance, stamp
from service.encode.source_headers import common_header, keep_lossy
from service.inference.segment import Segmentation
from service.volume import TUMOR_LABEL, HounsfieldWindow, Scan

SERIES_NUMBER = 1004

_SMALLEST_PX = 512
"""Of a picture's longer side; a smaller slice is enlarged by a whole number."""

_TEXT_COLOR: Color = (235, 235, 235)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_SCALE, _LINE_PX, _MARGIN_PX, _SPACE_PX = 0.6, 22, 8, 16
"""Of text on a picture of `_SMALLEST_PX`; on a larger one it grows with the picture."""

_OPPOSITE = dict(zip("HFAPLR", "FHPARL", strict=True))

_COPIED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyDate",
    "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
    "IssuerOfPatientID",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip
"""Of the source: patient, study, and that its pixels were compressed with loss."""

_Line = tuple[tuple[str, Color], ...]
"""Words, each in its colour."""


def overlays_dcm(
    segmentation: Segmentation, window: HounsfieldWindow, provenance: Provenance
) -> Iterator[tuple[str, bytes]]:
    """A DICOM file under a name such as "0012.dcm" for each slice that shows liver.

    Where no liver was found there is one file, of the middle slice, that says so. The scan must be
    DICOM. Pictures are drawn one at a time.
    """
    scan = segmentation.scan
    patient = common_header(scan, provenance.fingerprint)
    view = View.as_displayed(segmentation, window)
    with_liver = [index for index, plane in enumerate(view.labels) if plane.any()]
    for index in with_liver or [len(view.labels) // 2]:
        image = _image(view, scan, index, patient, provenance)
        buffer = io.BytesIO()
        image.save_as(buffer)
        yield f"{index:04d}.dcm", buffer.getvalue()


def _image(view: View, scan: Scan, index: int, patient: Dataset, provenance: Provenance) -> SCImage:
    size = _size(view)
    _, rows, columns = view.orientation
    image = SCImage(
        pixel_array=_picture(view, scan, index, size, provenance),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=patient.StudyInstanceUID,
        series_instance_uid=provenance.uid("overlay series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=provenance.uid(f"overlay {index}"),
        instance_number=index + 1,
        manufacturer=MANUFACTURER,
        # PS3.3 C.7.6.1.1.1: where a row points, then where a column does.
        patient_orientation=(columns, rows),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description="AI liver and tumours, overlay (research)",
        specific_character_set=patient.SpecificCharacterSet,
    )
    # Not through highdicom, which warns of some names, and prints them.
    for keyword in _COPIED:
        if keyword in patient:
            image[keyword] = patient[keyword]
    keep_lossy(image, scan)
    stamp(image, scan, provenance)
    _describe_equipment(image, scan, provenance)
    _describe_picture(image, view, size)
    _describe_source(image, scan, index, provenance)
    return image


def _describe_equipment(image: Dataset, scan: Scan, provenance: Provenance) -> None:
    """PS3.3 C.8.6.1: the service makes a new picture from an image, and captures it itself.

    Modality is here that of the device which acquired the data.
    """
    image.Modality = "CT"
    image.ConversionType = "WSD"
    image.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    image.SecondaryCaptureDeviceManufacturerModelName = provenance.algorithm.name
    image.SecondaryCaptureDeviceSoftwareVersions = provenance.software_versions
    image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture, _ = provenance.moment(scan)


def _describe_picture(image: Dataset, view: View, size: tuple[int, int]) -> None:
    """What the pixels are.

    PixelSpacing is the distance in the patient (PS3.3 10.7), which a slice of a CT has without any
    calibration, so nothing is said of one; nothing was scanned from a medium either.
    """
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.BurnedInAnnotation = "NO"  # C.7.6.1: none that identifies the patient and the date
    image.BodyPartExamined = "LIVER"  # no paired part (PS3.16 annex L), so there is no Laterality
    extents_mm = np.multiply(view.hu.shape[1:], view.pixel_mm)
    image.PixelSpacing = [DSfloat(mm, auto_format=True) for mm in (extents_mm / size).tolist()]


def _describe_source(image: Dataset, scan: Scan, index: int, provenance: Provenance) -> None:
    source = scan.source.datasets[index]
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = str(source.SOPInstanceUID)
    if scan.source.frame_numbers:
        reference.ReferencedFrameNumber = scan.source.frame_numbers[index]
    reference.PurposeOfReferenceCodeSequence = [
        CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
    ]
    image.SourceImageSequence = [reference]
    image.DerivationDescription = (
        f"Outlines of what {_model(provenance)} found: liver green, tumour red. "
        f"{NOT_FOR_DIAGNOSIS}."
    )
    image.DerivationCodeSequence = [
        CodedConcept.from_code(codes.cid7203.SegmentationImageDerivation)
    ]


def _size(view: View) -> tuple[int, int]:
    """Rows and columns of the slice in the picture, without what is around it."""
    rows, columns = view.natural_size()
    factor = math.ceil(_SMALLEST_PX / max(rows, columns))
    return rows * factor, columns * factor


def _picture(
    view: View, scan: Scan, index: int, size: tuple[int, int], provenance: Provenance
) -> Rgb:
    """The slice, a caption above it, and beside it the patient's sides, where they are known."""
    zoom = max(size) / _SMALLEST_PX
    margin, line_px = round(_MARGIN_PX * zoom), round(_LINE_PX * zoom)
    lines = _lines(view, scan, index, provenance)
    top = 2 * margin + line_px * len(lines)
    width = max(size[1] + 2 * line_px, max(_width(line, zoom) for line in lines) + 2 * margin)
    left = (width - size[1]) // 2
    picture: Rgb = np.zeros((top + size[0], width, 3), np.uint8)
    picture[top:, left : left + size[1]] = view.overlay(index, size)
    for number, line in enumerate(lines, start=1):
        _write(picture, line, (margin, number * line_px), zoom)
    if view.sides_are_known:
        right, base = view.orientation[2], top + size[0] // 2
        _mark(picture, _OPPOSITE[right], (0, left), base, zoom)
        _mark(picture, right, (left + size[1], width), base, zoom)
    return picture


def _mark(picture: Rgb, side: str, margin: tuple[int, int], base: int, zoom: float) -> None:
    """A letter in the middle of a margin, given as its first column and the one after it."""
    line = ((side, _TEXT_COLOR),)
    _write(picture, line, ((sum(margin) - _width(line, zoom)) // 2, base), zoom)


def _lines(view: View, scan: Scan, index: int, provenance: Provenance) -> list[_Line]:
    labels = view.labels[index]
    found: list[tuple[str, Color]] = [("liver", LIVER_COLOR)] if labels.any() else []
    if (labels == TUMOR_LABEL).any():
        found.append(("tumour", TUMOR_COLOR))
    return [
        ((NOT_FOR_DIAGNOSIS, _TEXT_COLOR),),
        ((_model(provenance), _TEXT_COLOR),),
        ((_slice_name(scan, index), _TEXT_COLOR), *(found or [("no liver found", _TEXT_COLOR)])),
    ]


def _model(provenance: Provenance) -> str:
    return f"{provenance.algorithm.name} {provenance.algorithm.version}"


def _slice_name(scan: Scan, index: int) -> str:
    """As the JSON numbers slices, and the frame of a multi-frame source."""
    frames = scan.source.frame_numbers
    return f"slice {index}" + (f", frame {frames[index]}" if frames else "")


def _write(picture: Rgb, line: _Line, at: tuple[int, int], zoom: float) -> None:
    """Words from `at` (column, row of the base line) on, in letters that grow with `zoom`."""
    left, base = at
    for word in line:
        cv2.putText(picture, word[0], (left, base), _FONT, _FONT_SCALE * zoom, word[1],
                    max(1, round(zoom)), cv2.LINE_AA)  # fmt: skip
        left += _width((word,), zoom) + round(_SPACE_PX * zoom)


def _width(line: _Line, zoom: float) -> int:
    """Of words as `_write` writes them, in pixels."""
    stroke = max(1, round(zoom))
    widths = [cv2.getTextSize(text, _FONT, _FONT_SCALE * zoom, stroke)[0][0] for text, _ in line]
    return int(sum(widths)) + round(_SPACE_PX * zoom) * (len(line) - 1)
