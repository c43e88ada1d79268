"""The result as JSON: one schema for every answer; files hold its contours apart."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from pydicom import Dataset

from service.contours import Contour, PixelPoints, to_patient_mm
from service.decode.headers import text
from service.diameters import Diameter
from service.findings import Extent, Findings, Lesion
from service.inference.postprocess import Removal
from service.inference.segment import Segmentation
from service.inference.work import Loaded
from service.notices import Notice, NoticeCode
from service.volume import Point, Scan, SourceFormat

MM_DECIMALS = 3


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceDocument(_Document):
    """What was segmented. Slices count from 0 along the slice normal, from the feet if axial."""

    format: SourceFormat
    slices: int
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float] | None = Field(description="between rows, columns")
    slice_spacing_mm: float | None
    orientation: str | None = Field(
        description="where slices, rows and columns point: H F A P L R; null for an image"
    )
    study_instance_uid: str | None
    series_instance_uid: str | None
    sop_instance_uids: tuple[str, ...] = Field(
        description="by slice, all the same for one multi-frame instance; empty unless DICOM"
    )
    frame_numbers: tuple[int, ...] = Field(
        description="by slice, from 1; empty unless DICOM with several frames in an instance"
    )

    @classmethod
    def of(cls, scan: Scan) -> Self:
        source = scan.source
        first = source.datasets[0] if source.datasets else None
        slices, rows, columns = scan.volume.spatial_shape
        axes = scan.volume.get_closest_patient_orientation()
        return cls(
            format=source.format,
            slices=slices,
            rows=rows,
            columns=columns,
            pixel_spacing_mm=source.pixel_spacing_mm,
            slice_spacing_mm=source.slice_spacing_mm,
            orientation="".join(str(axis.value) for axis in axes)
            if source.has_patient_coordinates
            else None,
            study_instance_uid=_uid(first, "StudyInstanceUID"),
            series_instance_uid=_uid(first, "SeriesInstanceUID"),
            sop_instance_uids=source.sop_instance_uids,
            frame_numbers=source.frame_numbers,
        )


class ModelDocument(_Document):
    """Which model answered, on which device: read from the live session, not from the settings."""

    name: str
    version: str
    sha256: str
    provider: str
    device: str

    @classmethod
    def of(cls, model: Loaded) -> Self:
        return cls(
            name=model.contract.name,
            version=model.contract.version,
            sha256=model.sha256,
            provider=model.provider,
            device=model.device,
        )


class ExtentDocument(_Document):
    """Volumes are null where the voxel's size is unknown; areas are for single slices."""

    voxels: int
    volume_ml: float | None
    area_px: int | None
    area_mm2: float | None

    @classmethod
    def of(cls, extent: Extent) -> Self:
        return cls.model_validate(extent, from_attributes=True)


class LiverDocument(ExtentDocument):
    """The organ with its lesions."""

    parenchyma_volume_ml: float | None = Field(description="the organ without its lesions")


class TumorDocument(ExtentDocument):
    """All lesions together."""

    lesion_count: int


class DiameterDocument(_Document):
    """A length in the axial plane; ends are (slice, row, column) and LPS millimetres."""

    length_mm: float | None
    length_px: float | None = Field(description="given where length_mm is not known")
    ends_px: tuple[Point, Point]
    ends_mm: tuple[Point, Point] | None

    @classmethod
    def of(cls, diameter: Diameter) -> Self:
        return cls.model_validate(diameter, from_attributes=True)


class LesionDocument(_Document):
    """One connected component of tumour; id 1 is the largest."""

    id: int
    voxels: int
    volume_ml: float | None
    area_px: int | None
    area_mm2: float | None
    longest_diameter_mm: float | None
    short_diameter_mm: float | None
    longest_diameter: DiameterDocument
    short_diameter: DiameterDocument
    centroid_px: Point = Field(description="slice, row, column")
    centroid_mm: Point | None = Field(description="LPS")
    first_slice: int
    last_slice: int
    largest_slice: int
    sop_instance_uids: tuple[str, ...] = Field(description="first to last slice")
    mean_hu: float
    mean_tumor_probability: float
    recist_measurable: bool | None
    recist_target_candidate: bool

    @classmethod
    def of(cls, lesion: Lesion, targets: tuple[int, ...]) -> Self:
        longest, short = lesion.diameters.longest, lesion.diameters.short
        return cls(
            id=lesion.id,
            voxels=lesion.extent.voxels,
            volume_ml=lesion.extent.volume_ml,
            area_px=lesion.extent.area_px,
            area_mm2=lesion.extent.area_mm2,
            longest_diameter_mm=longest.length_mm,
            short_diameter_mm=short.length_mm,
            longest_diameter=DiameterDocument.of(longest),
            short_diameter=DiameterDocument.of(short),
            centroid_px=lesion.centroid_px,
            centroid_mm=lesion.centroid_mm,
            first_slice=lesion.slices[0],
            last_slice=lesion.slices[1],
            largest_slice=lesion.largest_slice,
            sop_instance_uids=lesion.sop_instance_uids,
            mean_hu=lesion.mean_hu,
            mean_tumor_probability=lesion.mean_tumor_probability,
            recist_measurable=lesion.recist_measurable,
            recist_target_candidate=lesion.id in targets,
        )


class FindingsDocument(_Document):
    """Volumes, burden and lesions; burden is tumour over organ, null without an organ."""

    liver: LiverDocument
    tumor: TumorDocument
    burden: float | None
    lesions: tuple[LesionDocument, ...]
    lesion_connectivity: Literal[26] = 26

    @classmethod
    def of(cls, findings: Findings) -> Self:
        liver, tumor = (
            ExtentDocument.of(item).model_dump() for item in (findings.liver, findings.tumor)
        )
        return cls(
            liver=LiverDocument(**liver, parenchyma_volume_ml=findings.parenchyma.volume_ml),
            tumor=TumorDocument(**tumor, lesion_count=len(findings.lesions)),
            burden=findings.burden,
            lesions=tuple(
                LesionDocument.of(lesion, findings.recist_targets) for lesion in findings.lesions
            ),
        )


class PolygonDocument(_Document):
    """One outline and its holes: vertices at pixel centres, the first not repeated at the end.

    `_px` are (column, row) from 0; `_mm` are LPS, null for an image. A pixel belongs to the polygon
    if its centre is inside the exterior or on it, and not strictly inside a hole.
    """

    exterior_px: list[tuple[int, int]]
    exterior_mm: list[Point] | None
    holes_px: list[list[tuple[int, int]]]
    holes_mm: list[list[Point]] | None


class ContourDocument(_Document):
    """All pieces of one structure in one slice; the liver's outline is that of the organ."""

    slice: int
    sop_instance_uid: str | None
    structure: Literal["liver", "lesion"]
    lesion_id: int | None
    polygons: tuple[PolygonDocument, ...]

    @classmethod
    def of(cls, contour: Contour, scan: Scan) -> Self:
        uids = scan.source.sop_instance_uids
        return cls(
            slice=contour.slice_index,
            sop_instance_uid=uids[contour.slice_index] if uids else None,
            structure=contour.structure,
            lesion_id=contour.lesion_id,
            polygons=tuple(
                PolygonDocument(
                    exterior_px=_px(polygon.exterior_px),
                    exterior_mm=_mm(scan, contour.slice_index, polygon.exterior_px),
                    holes_px=[_px(hole) for hole in polygon.holes_px],
                    holes_mm=[
                        points
                        for hole in polygon.holes_px
                        if (points := _mm(scan, contour.slice_index, hole)) is not None
                    ]
                    if scan.source.has_patient_coordinates
                    else None,
                )
                for polygon in contour.polygons
            ),
        )


class RemovalDocument(_Document):
    """What one post-processing rule took out of the network's labels, or why it did not run."""

    rule: Literal["liver_fragments", "distant_tumor", "small_lesions", "unlikely_lesions"]
    applied: bool
    reason: str | None
    components: int
    voxels: int

    @classmethod
    def of(cls, removal: Removal) -> Self:
        return cls.model_validate(removal, from_attributes=True)


class WarningDocument(_Document):
    """Something that the reader of this result should know."""

    code: NoticeCode
    message: str

    @classmethod
    def of(cls, notice: Notice) -> Self:
        return cls(code=notice.code, message=notice.message)


class MaskDocument(_Document):
    """The labels as a file: 0 background, 1 liver without lesions, 2 tumour."""

    media_type: Literal["image/png", "application/gzip"] = Field(
        description="PNG for one image, gzipped NIfTI for a volume or a stack of images"
    )
    base64: str


class ResultDocument(_Document):
    """The answer to one image or series. Research use only, not for diagnosis."""

    source: SourceDocument
    model: ModelDocument
    findings: FindingsDocument
    contours: tuple[ContourDocument, ...]
    postprocessing: tuple[RemovalDocument, ...]
    warnings: tuple[WarningDocument, ...]
    timings_s: dict[str, float]
    mask: MaskDocument | None = Field(None, description="with include=mask")
    disclaimer: Literal["Research use only. Not for diagnosis."] = (
        "Research use only. Not for diagnosis."
    )


def warnings_of(segmentation: Segmentation) -> tuple[WarningDocument, ...]:
    notices = (*segmentation.scan.notices, *segmentation.notices)
    return tuple(WarningDocument.of(notice) for notice in notices)


def _px(points: PixelPoints) -> list[tuple[int, int]]:
    return list(map(tuple, points.tolist()))


def _mm(scan: Scan, slice_index: int, points: PixelPoints) -> list[Point] | None:
    if not scan.source.has_patient_coordinates:
        return None
    rounded = to_patient_mm(scan, slice_index, points).round(MM_DECIMALS)
    return list(map(tuple, rounded.tolist()))


def _uid(header: Dataset | None, keyword: str) -> str | None:
    return (text(header, keyword) or None) if header is not None else None
