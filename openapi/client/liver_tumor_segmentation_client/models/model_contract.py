from __future__ import annotations

from collections.abc import Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeVar,
    cast,
)

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.context import Context
    from ..models.field_of_view import FieldOfView
    from ..models.hounsfield_window import HounsfieldWindow
    from ..models.lesion_limits import LesionLimits
    from ..models.segment_class import SegmentClass
    from ..models.self_test import SelfTest
    from ..models.thresholds import Thresholds
    from ..models.training_data import TrainingData
    from ..models.validation import Validation


T = TypeVar("T", bound="ModelContract")


@_attrs_define
class ModelContract:
    """Everything that the service, its callers and its results need to know of a model.

    Attributes:
        name (str):
        version (str):
        description (str):
        license_ (str):
        modality (Literal['CT']): as DICOM writes it in Modality
        architecture (str):
        precision (str):
        grid (int): rows and columns of the network's own square grid
        window (HounsfieldWindow): A range of CT values; what lies outside is clipped to its ends.
        field_of_view (FieldOfView): Sides of the square field of view seen in training; beyond them a result warns.
        min_lesion_mm3 (float): smaller lesions are dropped
        min_lesion_px (int): the same where the spacing is not known
        training_data (TrainingData): What the model learned from.
        validation (Validation): How the metrics were obtained, in numbers and in a sentence.
        self_test (SelfTest): A phantom the model must label as it did when it was exported.

            The tolerance is a part of the expected count: CPU and GPU round differently.
        schema_version (Literal[1] | Unset):  Default: 1.
        context (Context | Unset): Neighbouring slices that the network sees beside the one it labels.
        classes (list[SegmentClass] | Unset):
        thresholds (Thresholds | Unset): Decision on the class probabilities: organ first (liver or tumour), tumour
            within it.
        lesion_limits (LesionLimits | Unset): What a lesion must show to be kept; by default every lesion does.
        limitations (list[str] | Unset):
    """

    name: str
    version: str
    description: str
    license_: str
    modality: Literal["CT"]
    architecture: str
    precision: str
    grid: int
    window: HounsfieldWindow
    field_of_view: FieldOfView
    min_lesion_mm3: float
    min_lesion_px: int
    training_data: TrainingData
    validation: Validation
    self_test: SelfTest
    schema_version: Literal[1] | Unset = 1
    context: Context | Unset = UNSET
    classes: list[SegmentClass] | Unset = UNSET
    thresholds: Thresholds | Unset = UNSET
    lesion_limits: LesionLimits | Unset = UNSET
    limitations: list[str] | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        name = self.name

        version = self.version

        description = self.description

        license_ = self.license_

        modality = self.modality

        architecture = self.architecture

        precision = self.precision

        grid = self.grid

        window = self.window.to_dict()

        field_of_view = self.field_of_view.to_dict()

        min_lesion_mm3 = self.min_lesion_mm3

        min_lesion_px = self.min_lesion_px

        training_data = self.training_data.to_dict()

        validation = self.validation.to_dict()

        self_test = self.self_test.to_dict()

        schema_version = self.schema_version

        context: dict[str, Any] | Unset = UNSET
        if not isinstance(self.context, Unset):
            context = self.context.to_dict()

        classes: list[dict[str, Any]] | Unset = UNSET
        if not isinstance(self.classes, Unset):
            classes = []
            for classes_item_data in self.classes:
                classes_item = classes_item_data.to_dict()
                classes.append(classes_item)

        thresholds: dict[str, Any] | Unset = UNSET
        if not isinstance(self.thresholds, Unset):
            thresholds = self.thresholds.to_dict()

        lesion_limits: dict[str, Any] | Unset = UNSET
        if not isinstance(self.lesion_limits, Unset):
            lesion_limits = self.lesion_limits.to_dict()

        limitations: list[str] | Unset = UNSET
        if not isinstance(self.limitations, Unset):
            limitations = self.limitations

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "name": name,
                "version": version,
                "description": description,
                "license": license_,
                "modality": modality,
                "architecture": architecture,
                "precision": precision,
                "grid": grid,
                "window": window,
                "field_of_view": field_of_view,
                "min_lesion_mm3": min_lesion_mm3,
                "min_lesion_px": min_lesion_px,
                "training_data": training_data,
                "validation": validation,
                "self_test": self_test,
            }
        )
        if schema_version is not UNSET:
            field_dict["schema_version"] = schema_version
        if context is not UNSET:
            field_dict["context"] = context
        if classes is not UNSET:
            field_dict["classes"] = classes
        if thresholds is not UNSET:
            field_dict["thresholds"] = thresholds
        if lesion_limits is not UNSET:
            field_dict["lesion_limits"] = lesion_limits
        if limitations is not UNSET:
            field_dict["limitations"] = limitations

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.context import Context  # noqa: PLC0415
        from ..models.field_of_view import FieldOfView  # noqa: PLC0415
        from ..models.hounsfield_window import HounsfieldWindow  # noqa: PLC0415
        from ..models.lesion_limits import LesionLimits  # noqa: PLC0415
        from ..models.segment_class import SegmentClass  # noqa: PLC0415
        from ..models.self_test import SelfTest  # noqa: PLC0415
        from ..models.thresholds import Thresholds  # noqa: PLC0415
        from ..models.training_data import TrainingData  # noqa: PLC0415
        from ..models.validation import Validation  # noqa: PLC0415

        d = dict(src_dict)
        name = d.pop("name")

        version = d.pop("version")

        description = d.pop("description")

        license_ = d.pop("license")

        modality = cast(Literal["CT"], d.pop("modality"))
        if modality != "CT":
            raise ValueError(f"modality must match const 'CT', got '{modality}'")

        architecture = d.pop("architecture")

        precision = d.pop("precision")

        grid = d.pop("grid")

        window = HounsfieldWindow.from_dict(d.pop("window"))

        field_of_view = FieldOfView.from_dict(d.pop("field_of_view"))

        min_lesion_mm3 = d.pop("min_lesion_mm3")

        min_lesion_px = d.pop("min_lesion_px")

        training_data = TrainingData.from_dict(d.pop("training_data"))

        validation = Validation.from_dict(d.pop("validation"))

        self_test = SelfTest.from_dict(d.pop("self_test"))

        schema_version = cast(Literal[1] | Unset, d.pop("schema_version", UNSET))
        if schema_version != 1 and not isinstance(schema_version, Unset):
            raise ValueError(f"schema_version must match const 1, got '{schema_version}'")

        _context = d.pop("context", UNSET)
        context: Context | Unset
        if isinstance(_context, Unset):
            context = UNSET
        else:
            context = Context.from_dict(_context)

        _classes = d.pop("classes", UNSET)
        classes: list[SegmentClass] | Unset = UNSET
        if _classes is not UNSET:
            classes = []
            for classes_item_data in _classes:
                classes_item = SegmentClass.from_dict(classes_item_data)

                classes.append(classes_item)

        _thresholds = d.pop("thresholds", UNSET)
        thresholds: Thresholds | Unset
        if isinstance(_thresholds, Unset):
            thresholds = UNSET
        else:
            thresholds = Thresholds.from_dict(_thresholds)

        _lesion_limits = d.pop("lesion_limits", UNSET)
        lesion_limits: LesionLimits | Unset
        if isinstance(_lesion_limits, Unset):
            lesion_limits = UNSET
        else:
            lesion_limits = LesionLimits.from_dict(_lesion_limits)

        limitations = cast(list[str], d.pop("limitations", UNSET))

        model_contract = cls(
            name=name,
            version=version,
            description=description,
            license_=license_,
            modality=modality,
            architecture=architecture,
            precision=precision,
            grid=grid,
            window=window,
            field_of_view=field_of_view,
            min_lesion_mm3=min_lesion_mm3,
            min_lesion_px=min_lesion_px,
            training_data=training_data,
            validation=validation,
            self_test=self_test,
            schema_version=schema_version,
            context=context,
            classes=classes,
            thresholds=thresholds,
            lesion_limits=lesion_limits,
            limitations=limitations,
        )

        model_contract.additional_properties = d
        return model_contract

    @property
    def additional_keys(self) -> list[str]:
        return list(self.additional_properties.keys())

    def __getitem__(self, key: str) -> Any:
        return self.additional_properties[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.additional_properties[key] = value

    def __delitem__(self, key: str) -> None:
        del self.additional_properties[key]

    def __contains__(self, key: str) -> bool:
        return key in self.additional_properties
