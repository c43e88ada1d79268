"""The whole flow: bytes, scan, labels, findings, contours; then whatever the caller wants of them.

inspect -> read -> label -> clean up -> measure -> trace
  -> (document | SEG | SR | RTSTRUCT | FHIR | NIfTI | pictures)
"""

import base64
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from service import tracing
from service.contours import Contour, trace
from service.decode import inspect
from service.decode.archive import ArchiveLimits
from service.decode.options import DecodeOptions
from service.decode.readable import Readable
from service.encode import document
from service.encode.dicom_seg import segmentation_dcm
from service.encode.dicom_sr import report_dcm
from service.encode.fhir import report_fhir
from service.encode.identity import fingerprint
from service.encode.nifti import mask_nii_gz
from service.encode.objects import FILES, USUAL, ObjectName
from service.encode.png import mask_png, overlay_pngs, preview_png
from service.encode.provenance import Algorithm, Provenance
from service.encode.rtstruct import rtstruct_dcm
from service.encode.secondary_capture import overlays_dcm
from service.errors import NoDicomSource
from service.findings import Measured, measure
from service.inference.postprocess import Rules
from service.inference.segment import Segmentation, Segmenter, clean_up, label
from service.inference.work import Labelled, Loaded, Progress
from service.settings import Settings
from service.stopping import StopSignal
from service.volume import HounsfieldWindow, Scan

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What one request may ask for beside its images."""

    image_window: HounsfieldWindow | None = None
    pixel_spacing_mm: float | None = None
    series_instance_uid: str | None = None
    resample: bool = False
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True)
class Result:
    """Everything that was found out about one request; the outputs below are made from it."""

    segmentation: Segmentation
    measured: Measured
    contours: tuple[Contour, ...]
    model: Segmenter
    fingerprint: str
    timings_s: dict[str, float]


class Run:
    """One request on its way: each stage is timed, and none begins once the request is stopped."""

    def __init__(
        self,
        options: Options,
        model: Segmenter,
        stop: StopSignal | None = None,
        progress: Progress | None = None,
        on_stage: Callable[[str], None] = lambda _: None,
        priority: int = 1,
    ) -> None:
        """`progress` hears of labelled slices, `on_stage` of each stage as it begins; of requests
        of lower `priority` the model takes slices first.
        """
        self.stop = stop or StopSignal()
        self.timings_s: dict[str, float] = {}
        self._options = options
        self.model = model
        self._progress = progress
        self._on_stage = on_stage
        self._priority = priority

    def inspect(self, files: Iterable[bytes], settings: Settings) -> Readable:
        """Check all but the pixels. Raises `BadRequest` for what the files hold."""
        return self.stage(
            "inspect", lambda: check_files(files, self._options, self.model, settings)
        )

    def read(self, readable: Readable) -> Scan:
        """Decode the pixels."""
        return self.stage("read", readable.read)

    def label(self, scan: Scan) -> Labelled:
        """What the model says of each slice."""
        return self.stage(
            "label",
            lambda: label(scan, self.model, self.stop, self._progress, self._priority),
        )

    def finish(self, scan: Scan, labelled: Labelled) -> Result:
        """From the model's labels to findings and contours."""
        model, rules = self.model, self._options.rules
        segmentation = self.stage(
            "clean_up", lambda: clean_up(scan, labelled, model.contract, rules)
        )
        measured = self.stage("measure", lambda: measure(segmentation))
        contours = self.stage("trace", lambda: trace(segmentation.labels, measured.lesion_ids))
        identity = fingerprint(scan, model.sha256, model.provider, rules)
        return Result(segmentation, measured, contours, model, identity, self.timings_s)

    def stage(self, name: str, work: Callable[[], T]) -> T:
        """Anything else that is a part of it, such as to store what was found."""
        self.stop.check()
        self._on_stage(name)
        started = time.perf_counter()
        with tracing.span(name):
            done = work()
        self.timings_s[name] = time.perf_counter() - started
        return done


def check_files(
    files: Iterable[bytes], options: Options, model: Loaded, settings: Settings
) -> Readable:
    """Check all but the pixels. Raises `BadRequest` for what the files hold."""
    return inspect(files, _decode_options(options, model, settings))


def run(
    files: Iterable[bytes],
    options: Options,
    model: Segmenter,
    settings: Settings,
    progress: Progress | None = None,
) -> Result:
    """Take the files of one request through the flow. Raises `BadRequest` for what they hold.

    Each file is let go once it is read; a caller who gives an iterator that does not keep them
    spares an archive's memory.
    """
    stages = Run(options, model, progress=progress)
    scan = stages.read(stages.inspect(files, settings))
    return stages.finish(scan, stages.label(scan))


def result_document(result: Result, with_mask: bool = False) -> document.ResultDocument:
    """The result as its JSON document, with the mask inside where asked."""
    scan = result.segmentation.scan
    return document.ResultDocument(
        source=document.SourceDocument.of(scan),
        model=document.ModelDocument.of(result.model),
        findings=document.FindingsDocument.of(result.measured.findings),
        contours=tuple(document.ContourDocument.of(contour, scan) for contour in result.contours),
        postprocessing=tuple(
            document.RemovalDocument.of(removal) for removal in result.segmentation.removals
        ),
        warnings=document.warnings_of(result.segmentation),
        timings_s=rounded(result.timings_s),
        mask=_mask_document(result) if with_mask else None,
    )


def rounded(timings_s: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each stage as they are shown, to a tenth of a millisecond."""
    return {name: round(seconds, 4) for name, seconds in timings_s.items()}


def dicom_seg(result: Result, made_at: datetime | None = None) -> bytes:
    """The result as a DICOM SEG, dated `made_at`, else as its source, to be repeatable.

    Raises `NoDicomSource` where the source was not DICOM.
    """
    return next(content for _, content in dicom_object(result, "seg", made_at))


def dicom_object(
    result: Result, name: ObjectName, made_at: datetime | None = None
) -> Iterator[tuple[str, bytes]]:
    """One of the result's DICOM objects as (file name, content): one file, or several overlays.

    Raises `NoDicomSource` where the source was not DICOM.
    """
    segmentation, measured = result.segmentation, result.measured
    scan, labels, lesion_ids = segmentation.scan, segmentation.labels, measured.lesion_ids
    lesions = len(measured.findings.lesions)
    if not scan.source.datasets:
        found = scan.source.format
        raise NoDicomSource(f"Expected a DICOM source for a DICOM result, found {found}.")
    provenance = provenance_of(result, made_at)
    file = FILES[name]
    match name:
        case "seg":
            yield file, segmentation_dcm(scan, labels, lesion_ids, lesions, provenance)
        case "labelmap":
            yield (
                file,
                segmentation_dcm(scan, labels, lesion_ids, lesions, provenance, "labelmap"),
            )
        case "sr":
            yield file, report_dcm(scan, measured.findings, provenance)
        case "rtstruct":
            yield file, rtstruct_dcm(scan, result.contours, lesions, provenance)
        case "overlays":
            window = result.model.contract.window
            for slice_file, picture in overlays_dcm(segmentation, window, provenance):
                yield f"{file}/{slice_file}", picture


def fhir_report(result: Result, made_at: datetime | None = None) -> dict[str, object]:
    """The findings as a FHIR R4 DiagnosticReport."""
    segmentation = result.segmentation
    notices = (*segmentation.scan.notices, *segmentation.notices)
    provenance = provenance_of(result, made_at)
    return report_fhir(
        segmentation.scan, result.measured.findings, notices, provenance, issued=made_at
    )


def provenance_of(result: Result, made_at: datetime | None = None) -> Provenance:
    """What the result's objects say of where they come from."""
    return Provenance(Algorithm.of(result.model), result.fingerprint, made_at)


def documents(result: Result, made_at: datetime | None = None) -> Iterator[tuple[str, bytes]]:
    """The outputs about the whole scan as (name, bytes), one after the other."""
    segmentation, contract = result.segmentation, result.model.contract
    whole = result_document(result).model_dump(mode="json")
    contours = whole.pop("contours")
    yield "result.json", _json(whole)
    yield "contours.json", _json({"contours": contours})
    yield "mask.nii.gz", mask_nii_gz(segmentation)
    if segmentation.scan.source.datasets:
        for name in USUAL:
            yield from dicom_object(result, name, made_at)
    yield "report.fhir.json", _json(fhir_report(result, made_at))
    caption = f"{contract.name} {contract.version}: AI result, research use, not for diagnosis"
    yield "preview.png", preview_png(segmentation, contract.window, caption)


def outputs(result: Result) -> Iterator[tuple[str, bytes]]:
    """Every output as (name, bytes): what a folder or an archive holds."""
    yield from documents(result)
    segmentation, contract = result.segmentation, result.model.contract
    for index in range(segmentation.labels.spatial_shape[0]):
        yield f"masks/{index:04d}.png", mask_png(segmentation.labels, index)
    for index, overlay in enumerate(overlay_pngs(segmentation, contract.window)):
        yield f"overlays/{index:04d}.png", overlay


def _decode_options(options: Options, model: Loaded, settings: Settings) -> DecodeOptions:
    return DecodeOptions(
        archive=ArchiveLimits(settings.max_files, settings.max_decompressed_bytes),
        max_voxels=settings.max_voxels,
        modality=model.contract.modality,
        model_window=model.contract.window,
        image_window=options.image_window,
        pixel_spacing_mm=options.pixel_spacing_mm,
        series_instance_uid=options.series_instance_uid,
        resample=options.resample,
    )


def _mask_document(result: Result) -> document.MaskDocument:
    segmentation = result.segmentation
    is_one_image = segmentation.labels.spatial_shape[0] == 1
    if segmentation.scan.source.has_patient_coordinates or not is_one_image:
        data, media_type = mask_nii_gz(segmentation), "application/gzip"
    else:
        data, media_type = mask_png(segmentation.labels, 0), "image/png"
    return document.MaskDocument.model_validate(
        {"media_type": media_type, "base64": base64.b64encode(data).decode()}
    )


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()
