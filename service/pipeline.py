"""The whole flow: bytes, scan, labels, findings, contours; then whatever the caller wants of them.

decode -> segment -> measure -> trace -> (document | SEG | NIfTI | pictures | everything)
"""

import base64
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from service.contours import Contour, trace
from service.decode import decode
from service.decode.archive import ArchiveLimits
from service.decode.options import DecodeOptions
from service.encode import document
from service.encode.dicom_seg import segmentation_dcm
from service.encode.identity import fingerprint
from service.encode.nifti import mask_nii_gz
from service.encode.png import mask_png, overlay_pngs, preview_png
from service.findings import Measured, measure
from service.inference.postprocess import Rules
from service.inference.segment import Progress, Segmentation, Segmenter, segment
from service.settings import Settings
from service.volume import HounsfieldWindow

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What one request may ask for beside its images."""

    image_window: HounsfieldWindow | None = None
    pixel_spacing_mm: float | None = None
    series_instance_uid: str | None = None
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
    stage = _Stages()
    scan = stage("decode", lambda: decode(files, _decode_options(options, model, settings)))
    segmentation = stage(
        "segment",
        lambda: segment(scan, model, options.rules, settings.batch_slices, progress),
    )
    measured = stage("measure", lambda: measure(segmentation))
    contours = stage("trace", lambda: trace(segmentation.labels, measured.lesion_ids))
    identity = fingerprint(scan, model.sha256, model.provider, options.rules)
    return Result(segmentation, measured, contours, model, identity, stage.seconds)


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
        timings_s={name: round(seconds, 4) for name, seconds in result.timings_s.items()},
        mask=_mask_document(result) if with_mask else None,
    )


def dicom_seg(result: Result) -> bytes:
    """The result as a DICOM SEG. Raises `NoDicomSource` where the source was not DICOM."""
    return segmentation_dcm(
        result.segmentation,
        result.measured,
        result.model.contract,
        result.fingerprint,
    )


def outputs(result: Result) -> Iterator[tuple[str, bytes]]:
    """Every output as (name, bytes), one after the other: what a folder or an archive holds."""
    segmentation, contract = result.segmentation, result.model.contract
    whole = result_document(result).model_dump(mode="json")
    contours = whole.pop("contours")
    yield "result.json", _json(whole)
    yield "contours.json", _json({"contours": contours})
    yield "mask.nii.gz", mask_nii_gz(segmentation)
    if segmentation.scan.source.datasets:
        yield "mask.dcm", dicom_seg(result)
    caption = f"{contract.name} {contract.version}: AI result, research use, not for diagnosis"
    yield "preview.png", preview_png(segmentation, contract.window, caption)
    for index in range(segmentation.labels.spatial_shape[0]):
        yield f"masks/{index:04d}.png", mask_png(segmentation.labels, index)
    for index, overlay in enumerate(overlay_pngs(segmentation, contract.window)):
        yield f"overlays/{index:04d}.png", overlay


def _decode_options(options: Options, model: Segmenter, settings: Settings) -> DecodeOptions:
    return DecodeOptions(
        archive=ArchiveLimits(settings.max_files, settings.max_decompressed_bytes),
        max_voxels=settings.max_voxels,
        modality=model.contract.modality,
        model_window=model.contract.window,
        image_window=options.image_window,
        pixel_spacing_mm=options.pixel_spacing_mm,
        series_instance_uid=options.series_instance_uid,
    )


def _mask_document(result: Result) -> document.MaskDocument:
    segmentation = result.segmentation
    if segmentation.scan.source.has_patient_coordinates:
        data, media_type = mask_nii_gz(segmentation), "application/gzip"
    else:
        data, media_type = mask_png(segmentation.labels, 0), "image/png"
    return document.MaskDocument.model_validate(
        {"media_type": media_type, "base64": base64.b64encode(data).decode()}
    )


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()


class _Stages:
    """Times each stage as it runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        done = work()
        self.seconds[name] = time.perf_counter() - started
        return done
