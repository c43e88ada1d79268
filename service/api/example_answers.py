"""Answers for examples: what the service says of a phantom. Tests ask a service for the same."""

from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from service.api.health import Live, Ready, Started
from service.api.models import ModelCard, ModelList
from service.api.segmentation_documents import (
    PATH,
    ContoursDocument,
    DeliveryDocument,
    EventDocument,
    Links,
    ProgressDocument,
    SegmentationDocument,
    SegmentationList,
)
from service.encode.document import (
    ContourDocument,
    DiameterDocument,
    FindingsDocument,
    LesionDocument,
    LiverDocument,
    ModelDocument,
    PolygonDocument,
    RemovalDocument,
    ResultDocument,
    SourceDocument,
    TumorDocument,
    WarningDocument,
)
from service.errors import Cancelled, UnsupportedPixels
from service.inference.contract import (
    FieldOfView,
    LesionLimits,
    ModelContract,
    SelfTest,
    Thresholds,
    TrainingData,
    Validation,
)
from service.jobs.records import JobError
from service.pacs.receipts import Receipt
from service.volume import HounsfieldWindow

STUDY_UID = "1.2.826.0.1.3680043.8.498.84685047378257277399931041391615548585"
SERIES_UID = "1.2.826.0.1.3680043.8.498.70468624280804882852421053127146880851"

ID = "6f9619ff8b86d011b42d00c04fc964ff"

_MODEL = ModelDocument(
    name="liver-tumor",
    version="0.2.0",
    sha256="a25e7d556e351b2616d9b5fb8894105f7145fbb3f4ab9286b5ba5bc58c1a69d5",
    provider="CPUExecutionProvider",
    device="cpu",
)

_ROOT_UID = "1.2.826.0.1.3680043.8.498."
_SLICES = tuple(
    _ROOT_UID + end
    for end in (
        "19409703660624258437117092894909682182",
        "76353162635333188501968951822183553841",
        "36180731105813523975714689608157784057",
        "15679051876564071011913365372369651492",
        "33857713584481956859969794685828460279",
    )
)

_SOURCE = SourceDocument(
    format="dicom",
    slices=5,
    rows=96,
    columns=96,
    pixel_spacing_mm=(4.16666667, 4.16666667),
    slice_spacing_mm=5.0,
    orientation="HPL",
    study_instance_uid=STUDY_UID,
    series_instance_uid=SERIES_UID,
    sop_instance_uids=_SLICES,
    frame_numbers=(),
)

_LESION = LesionDocument(
    id=1,
    voxels=26,
    volume_ml=2.2569,
    area_px=None,
    area_mm2=None,
    longest_diameter_mm=25.3448,
    short_diameter_mm=21.1207,
    longest_diameter=DiameterDocument(
        length_mm=25.3448,
        length_px=None,
        ends_px=((0.0, 45.5, 25.0), (0.0, 39.5, 26.0)),
        ends_mm=((-93.75, -8.3333, 12.5), (-89.5833, -33.3333, 12.5)),
    ),
    short_diameter=DiameterDocument(
        length_mm=21.1207,
        length_px=None,
        ends_px=((0.0, 41.8333, 27.5), (0.0, 41.0, 22.5)),
        ends_mm=((-83.3333, -23.6111, 12.5), (-104.1667, -27.0833, 12.5)),
    ),
    centroid_px=(0.1154, 42.2308, 25.1154),
    centroid_mm=(-93.2692, -21.9551, 13.0769),
    first_slice=0,
    last_slice=1,
    largest_slice=0,
    sop_instance_uids=_SLICES[:2],
    mean_hu=52.0,
    mean_tumor_probability=0.8,
    recist_measurable=True,
    recist_target_candidate=True,
)

_FINDINGS = FindingsDocument(
    liver=LiverDocument(
        voxels=4122, volume_ml=357.8125, area_px=None, area_mm2=None, parenchyma_volume_ml=355.5556
    ),
    tumor=TumorDocument(voxels=26, volume_ml=2.2569, area_px=None, area_mm2=None, lesion_count=1),
    burden=0.0063,
    lesions=(_LESION,),
)

_CONTOURS = (
    ContourDocument(
        slice=1,
        sop_instance_uid=_SLICES[1],
        structure="lesion",
        lesion_id=1,
        polygons=(
            PolygonDocument(
                exterior_px=[(25, 42), (25, 43), (26, 42)],
                exterior_mm=[
                    (-93.75, -22.917, 17.5),
                    (-93.75, -18.75, 17.5),
                    (-89.583, -22.917, 17.5),
                ],
                holes_px=[],
                holes_mm=[],
            ),
        ),
    ),
)
"""One of several: the liver's have some fifty points a slice."""

_POSTPROCESSING = (
    RemovalDocument(rule="liver_fragments", applied=True, reason=None, components=0, voxels=0),
    RemovalDocument(rule="distant_tumor", applied=True, reason=None, components=0, voxels=0),
    RemovalDocument(rule="small_lesions", applied=True, reason=None, components=0, voxels=0),
    RemovalDocument(
        rule="unlikely_lesions",
        applied=False,
        reason="the model sets no limits",
        components=0,
        voxels=0,
    ),
)

_WARNINGS = (
    WarningDocument(
        code="sent_twice", message="1 file(s) came twice and were read once: slice(s) 1."
    ),
)

_TIMINGS_S = {
    "inspect": 0.0042,
    "read": 0.0031,
    "label": 0.2874,
    "clean_up": 0.0009,
    "measure": 0.0012,
    "trace": 0.0003,
}

_RESULT = ResultDocument(
    source=_SOURCE,
    model=_MODEL,
    findings=_FINDINGS,
    contours=_CONTOURS,
    postprocessing=_POSTPROCESSING,
    warnings=_WARNINGS,
    timings_s=_TIMINGS_S,
)

_CREATED_AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
_FINISHED_AT = datetime(2026, 1, 2, 3, 4, 6, 123000, tzinfo=UTC)

_RUNNING = SegmentationDocument(
    id=ID,
    status="running",
    priority="routine",
    progress=ProgressDocument(stage="label", fraction=0.39, slices_done=2, slices_total=5),
    created_at=_CREATED_AT,
    deadline_at=None,
    finished_at=None,
    expires_at=None,
    source=None,
    model=None,
    findings=None,
    postprocessing=None,
    warnings=None,
    timings_s=None,
    delivery=None,
    links=Links.of(ID),
    error=None,
)

_SUCCEEDED = _RUNNING.model_copy(
    update={
        "status": "succeeded",
        "progress": ProgressDocument(stage="done", fraction=1.0, slices_done=5, slices_total=5),
        "finished_at": _FINISHED_AT,
        "expires_at": _FINISHED_AT + timedelta(hours=168),
        "source": _SOURCE,
        "model": _MODEL,
        "findings": _FINDINGS,
        "postprocessing": _POSTPROCESSING,
        "warnings": _WARNINGS,
        "timings_s": _TIMINGS_S,
    }
)


_DELIVERED = _SUCCEEDED.model_copy(
    update={
        "delivery": DeliveryDocument(
            destination="archive",
            objects=("seg", "sr"),
            complete=True,
            receipts=(
                Receipt(
                    object="seg",
                    sop_instance_uid="2.25.136131322540919155945372945793860122754",
                    status="stored",
                ),
                Receipt(
                    object="sr",
                    sop_instance_uid="2.25.316897231458543105035012375782515606737",
                    status="already_stored",
                ),
            ),
        )
    }
)

_CANCELLED = _RUNNING.model_copy(
    update={
        "status": "cancelled",
        "progress": ProgressDocument(stage="done", fraction=1.0, slices_done=0, slices_total=0),
        "finished_at": _FINISHED_AT,
        "expires_at": _FINISHED_AT + timedelta(hours=168),
        "timings_s": {},
        "error": JobError.of(Cancelled("The segmentation was cancelled by request.")),
    }
)

_FAILED = _RUNNING.model_copy(
    update={
        "status": "failed",
        "progress": ProgressDocument(stage="done", fraction=1.0, slices_done=0, slices_total=0),
        "finished_at": _FINISHED_AT,
        "expires_at": _FINISHED_AT + timedelta(hours=168),
        "timings_s": {"inspect": 0.0042},
        "error": JobError.of(
            UnsupportedPixels("Expected one sample a pixel, found more in slice 12.")
        ),
    }
)

_CONTRACT = ModelContract(
    name=_MODEL.name,
    version=_MODEL.version,
    description="Liver and liver tumours on axial CT slices, each slice by itself.",
    license="Weights for research use only, not for clinical use",
    modality="CT",
    architecture="U-Net, ResNet-50 encoder, decoder 256-128-64-32-16",
    precision="int8",
    grid=512,
    window=HounsfieldWindow(lower_hu=-40, upper_hu=160),
    thresholds=Thresholds(liver=0.7, tumor=0.8),
    field_of_view=FieldOfView(smallest_mm=287, largest_mm=512),
    min_lesion_mm3=120,
    min_lesion_px=40,
    lesion_limits=LesionLimits(surrounded=0.6, fluid_hu=35, contrast_hu=16),
    training_data=TrainingData(
        name="LiTS (every second slice)",
        license="CC BY-NC-ND 4.0 (data); weights for research use only",
        cases=2,
        slices=180,
        volumes=("volume-000", "volume-003"),
    ),
    validation=Validation(
        method="Out of fold, whole volumes, Dice per volume.",
        cases=2,
        liver_dice_per_case=0.968,
        tumor_dice_per_case=0.689,
        cases_with_tumor=2,
        per_case={
            "volume-000": {"liver": 0.9631, "tumor": 0.6174},
            "volume-003": {"liver": 0.9728, "tumor": 0.7606},
        },
    ),
    self_test=SelfTest(
        seed=7, size=256, slices=5, liver_voxels=50356, tumor_voxels=4728, tolerance=0.05
    ),
    limitations=("Research use only; not a medical device.",),
)

REPORT: dict[str, object] = {
    "resourceType": "DiagnosticReport",
    "language": "en",
    "contained": [
        {
            "resourceType": "Observation",
            "id": "liver-volume",
            "status": "preliminary",
            "subject": {"type": "Patient", "identifier": {"value": "PHANTOM-1"}},
            "code": {
                "coding": [
                    {
                        "system": "http://snomed.info/sct",
                        "code": "118565006",
                        "display": "Volume",
                    }
                ],
                "text": "Volume of the liver with its lesions",
            },
            "valueQuantity": {
                "value": 357.8125,
                "unit": "mL",
                "system": "http://unitsofmeasure.org",
                "code": "mL",
            },
        },
    ],
    "status": "preliminary",
    "subject": {"type": "Patient", "identifier": {"value": "PHANTOM-1"}},
    "effectiveDateTime": "2020-01-02",
    "code": {
        "coding": [
            {
                "system": "http://loinc.org",
                "code": "18748-4",
                "display": "Diagnostic imaging study",
            }
        ],
        "text": "Volumes and lesions of the liver on CT, by software",
    },
    "result": [{"reference": "#liver-volume"}],
    "conclusion": "1 lesion found in the liver, 2.3 mL, 0.6% of the liver, the longest diameter "
    "25 mm. Research use only, not for diagnosis.",
    "imagingStudy": [
        {
            "type": "ImagingStudy",
            "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY_UID}"},
        }
    ],
}
"""Of the FHIR report the outline and one of its observations."""

ANSWERS: dict[str, dict[str, BaseModel]] = {
    "ResultDocument": {"result": _RESULT},
    "SegmentationDocument": {
        "segmentation_running": _RUNNING,
        "segmentation_succeeded": _SUCCEEDED,
        "segmentation_delivered": _DELIVERED,
        "segmentation_failed": _FAILED,
        "segmentation_cancelled": _CANCELLED,
    },
    "SegmentationList": {
        "segmentations": SegmentationList(items=(_RUNNING,), next=f"{PATH}?limit=1&offset=1"),
    },
    "ContoursDocument": {"contours": ContoursDocument(contours=_CONTOURS)},
    "ModelList": {"models": ModelList(models=(_MODEL,))},
    "ModelCard": {"model": ModelCard(model=_MODEL, contract=_CONTRACT)},
    "Live": {"live": Live()},
    "Started": {"started": Started()},
    "Ready": {
        "ready": Ready(
            model=_MODEL.name,
            version=_MODEL.version,
            provider=_MODEL.provider,
            device=_MODEL.device,
        )
    },
}
"""Answers by the class that is their schema, each by its name among the examples."""


def _event(name: str, of: SegmentationDocument) -> str:
    event = EventDocument(status=of.status, progress=of.progress, error=of.error)
    return f"event: {name}\ndata: {event.model_dump_json()}\n\n"


EVENTS = "retry: 2000\n\n" + _event("progress", _RUNNING) + _event("end", _SUCCEEDED)
"""A stream of events."""
