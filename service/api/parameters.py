"""What a request may ask for: query parameters, or form fields of the same names."""

from collections.abc import Iterable
from typing import Annotated, Literal, Self, get_args

from fastapi import Request
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from service.api.problems import describe
from service.encode.objects import USUAL, ObjectName, check_objects
from service.errors import InvalidParameter, NotAcceptable
from service.inference.postprocess import Rules
from service.jobs.records import DeliveryOrder, Priority, SeriesAtOrigin, Urgency
from service.pipeline import Options
from service.volume import HounsfieldWindow

WindowEnd = Annotated[float, Field(ge=-65536, le=65536, allow_inf_nan=False)]
"""Beyond the CT scale, so that each step of a 16-bit image can stand for a Hounsfield unit."""

InstanceUid = Annotated[str, Field(max_length=64, pattern=r"^[0-9]+(\.[0-9]+)*$")]

NodeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]

_OBJECT = "|".join(get_args(ObjectName))
_OBJECT_NAMES: TypeAdapter[tuple[ObjectName, ...]] = TypeAdapter(tuple[ObjectName, ...])

AnswerType = Literal["application/json", "application/dicom", "application/zip"]
ANSWER_TYPES: tuple[AnswerType, ...] = ("application/json", "application/dicom", "application/zip")


class PipelineParameters(BaseModel):
    """What decides a result; a name that is not one of these is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    series_instance_uid: str | None = Field(
        None,
        pattern=r"^[0-9.]{1,64}$",
        examples=["1.2.840.113619.2.55.3.2831868886.1"],
        description="Which CT series; by default the axial one with most slices, then thinnest.",
    )
    resample: bool = Field(
        False,
        description="Take a tilted or unevenly spaced axial series, which is refused otherwise.",
    )
    pixel_spacing_mm: float | None = Field(
        None,
        ge=0.01,
        le=10,
        examples=[0.75],
        description="Pixel side of images; DICOM and NIfTI know theirs.",
    )
    window_lower_hu: WindowEnd | None = Field(
        None,
        examples=[-160],
        description="What grey 0 of an image stands for; with window_upper_hu.",
    )
    window_upper_hu: WindowEnd | None = Field(
        None,
        examples=[240],
        description="What grey 255 of an 8-bit image, 65535 of a 16-bit one, stands for; with "
        "window_lower_hu. 16-bit images need both.",
    )
    drop_liver_fragments: bool = Field(
        True,
        description="Drop pieces of liver under 5 % of the largest, and all where that is under "
        "1 mL, in volumes.",
    )
    drop_distant_tumor: bool = Field(
        True, description="Drop tumour farther than 5 mm from the filled liver, in volumes."
    )
    drop_small_lesions: bool = Field(
        True, description="Drop lesions under the model's smallest size."
    )
    drop_unlikely_lesions: bool = Field(
        True,
        description="Drop lesions that the model's limits take for none: hardly surrounded by "
        "liver, of fluid, or no different from the liver around them.",
    )

    @model_validator(mode="after")
    def _window_has_two_ends(self) -> Self:
        if (self.window_lower_hu is None) != (self.window_upper_hu is None):
            raise ValueError("window_lower_hu and window_upper_hu belong together")
        if (
            self.window_lower_hu is not None
            and self.window_upper_hu is not None
            and self.window_lower_hu >= self.window_upper_hu
        ):
            raise ValueError("window_lower_hu must be below window_upper_hu")
        return self

    @classmethod
    def of(cls, request: Request, fields: Iterable[tuple[str, str]]) -> Self:
        """From the query and the form together; an empty value is that of a field left blank.

        Raises `InvalidParameter`, also for repeats.
        """
        both = (*request.query_params.multi_items(), *fields)
        given = [(name, value) for name, value in both if value or name not in cls.model_fields]
        values = dict(given)
        if len(values) != len(given):
            raise InvalidParameter("Expected each parameter once, found one given twice.")
        unknown = len(values.keys() - cls.model_fields.keys())
        if unknown:
            known = ", ".join(cls.model_fields)
            raise InvalidParameter(f"Expected only {known}; found {unknown} unknown parameter(s).")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InvalidParameter(describe(error.errors(include_input=False))) from error

    def options(self) -> Options:
        window = None
        if self.window_lower_hu is not None and self.window_upper_hu is not None:
            window = HounsfieldWindow(lower_hu=self.window_lower_hu, upper_hu=self.window_upper_hu)
        return Options(
            image_window=window,
            pixel_spacing_mm=self.pixel_spacing_mm,
            series_instance_uid=self.series_instance_uid,
            resample=self.resample,
            rules=Rules(
                liver_fragments=self.drop_liver_fragments,
                distant_tumor=self.drop_distant_tumor,
                small_lesions=self.drop_small_lesions,
                unlikely_lesions=self.drop_unlikely_lesions,
            ),
        )


class UrgencyParameters(PipelineParameters):
    """When a durable result is wanted."""

    priority: Priority = Field(
        "routine", description="`stat` comes before all `routine` ones that have not begun."
    )
    deadline_s: float | None = Field(
        None,
        ge=1,
        le=604_800,
        allow_inf_nan=False,
        examples=[900],
        description="Seconds from now after which the segmentation fails if it is not done.",
    )

    def urgency(self) -> Urgency:
        return Urgency(priority=self.priority, deadline_s=self.deadline_s)


class DurableParameters(UrgencyParameters):
    """Parameters of `POST /v1/segmentations`."""

    destination: NodeName | None = Field(
        None,
        examples=["archive"],
        description="Name of the PACS node of the settings that the objects are sent to.",
    )
    objects: str | None = Field(
        None,
        pattern=rf"^({_OBJECT})(,({_OBJECT}))*$",
        examples=["seg,sr"],
        description="Which objects, separated by commas; by default seg,sr,rtstruct. sr needs seg.",
    )

    @model_validator(mode="after")
    def _objects_go_somewhere(self) -> Self:
        if self.objects is not None and self.destination is None:
            raise ValueError("objects needs a destination")
        check_objects(self._object_names)
        return self

    @property
    def _object_names(self) -> tuple[ObjectName, ...]:
        given = USUAL if self.objects is None else tuple(self.objects.split(","))
        return _OBJECT_NAMES.validate_python(given)

    def delivery(self) -> DeliveryOrder | None:
        """What is to be sent where, None for nothing."""
        if self.destination is None:
            return None
        return DeliveryOrder(node=self.destination, objects=self._object_names)


class SeriesParameters(UrgencyParameters):
    """The body of `POST /v1/segmentations/dicomweb`: a series of a PACS, and what goes back."""

    origin: NodeName = Field(description="Name of the PACS node of the settings that has it.")
    study_instance_uid: InstanceUid
    series_instance_uid: InstanceUid
    destination: NodeName | None = Field(
        None, description="The node that the objects are sent to; by default the origin."
    )
    objects: tuple[ObjectName, ...] = Field(
        USUAL, description="Which objects are sent, none if empty; sr needs seg."
    )

    @model_validator(mode="after")
    def _objects_go_together(self) -> Self:
        if self.objects:
            check_objects(self.objects)
        return self

    @classmethod
    def of_json(cls, body: bytes) -> Self:
        """From a request's body. Raises `InvalidParameter`."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise InvalidParameter(describe(error.errors(include_input=False))) from error

    def series(self) -> SeriesAtOrigin:
        return SeriesAtOrigin(
            node=self.origin,
            study_instance_uid=self.study_instance_uid,
            series_instance_uid=self.series_instance_uid,
        )

    def delivery(self) -> DeliveryOrder | None:
        """What is to be sent where, None for nothing."""
        if not self.objects:
            return None
        return DeliveryOrder(node=self.destination or self.origin, objects=self.objects)


class SegmentParameters(PipelineParameters):
    """Parameters of `POST /v1/segment`."""

    include: Literal["mask"] | None = Field(
        None, description="`mask`: put the mask into the JSON answer, as base64."
    )


def answer_type(accept: str) -> AnswerType:
    """The best of our media types by RFC 9110 12.5.1; JSON where all are equal.

    Raises `NotAcceptable`.
    """
    ranges = [_media_range(part) for part in accept.split(",") if part.strip()]
    if not ranges:
        return ANSWER_TYPES[0]
    qualities = {offered: _quality(offered, ranges) for offered in ANSWER_TYPES}
    best = max(ANSWER_TYPES, key=lambda offered: qualities[offered])
    if qualities[best] <= 0:
        raise NotAcceptable(f"Expected Accept to allow one of {', '.join(ANSWER_TYPES)}.")
    return best


def _media_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip() for piece in part.lower().split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return name, min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                return name, 0.0
    return name, 1.0


def _quality(offered: str, ranges: list[tuple[str, float]]) -> float:
    """That of the most specific range that matches; 0 without a match."""
    for pattern in (offered, offered.split("/", maxsplit=1)[0] + "/*", "*/*"):
        for name, quality in ranges:
            if name == pattern:
                return quality
    return 0.0
