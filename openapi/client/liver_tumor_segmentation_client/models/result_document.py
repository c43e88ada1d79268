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
    from ..models.contour_document import ContourDocument
    from ..models.findings_document import FindingsDocument
    from ..models.mask_document import MaskDocument
    from ..models.model_document import ModelDocument
    from ..models.removal_document import RemovalDocument
    from ..models.source_document import SourceDocument
    from ..models.timings_s import TimingsS
    from ..models.warning_document import WarningDocument


T = TypeVar("T", bound="ResultDocument")


@_attrs_define
class ResultDocument:
    """The answer to one image or series. Research use only, not for diagnosis.

    Attributes:
        source (SourceDocument): What was segmented. Slices count from 0 along the slice normal, from the feet if axial.
        model (ModelDocument): Which model answered, on which device: read from the live session, not from the settings.
        findings (FindingsDocument): Volumes, burden and lesions; burden is tumour over organ, null without an organ.
        contours (list[ContourDocument]):
        postprocessing (list[RemovalDocument]):
        warnings (list[WarningDocument]):
        timings_s (TimingsS):
        mask (MaskDocument | None | Unset): with include=mask
        disclaimer (Literal['Research use only. Not for diagnosis.'] | Unset):  Default: 'Research use only. Not for
            diagnosis.'.
    """

    source: SourceDocument
    model: ModelDocument
    findings: FindingsDocument
    contours: list[ContourDocument]
    postprocessing: list[RemovalDocument]
    warnings: list[WarningDocument]
    timings_s: TimingsS
    mask: MaskDocument | None | Unset = UNSET
    disclaimer: Literal["Research use only. Not for diagnosis."] | Unset = (
        "Research use only. Not for diagnosis."
    )
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from ..models.mask_document import MaskDocument  # noqa: PLC0415

        source = self.source.to_dict()

        model = self.model.to_dict()

        findings = self.findings.to_dict()

        contours = []
        for contours_item_data in self.contours:
            contours_item = contours_item_data.to_dict()
            contours.append(contours_item)

        postprocessing = []
        for postprocessing_item_data in self.postprocessing:
            postprocessing_item = postprocessing_item_data.to_dict()
            postprocessing.append(postprocessing_item)

        warnings = []
        for warnings_item_data in self.warnings:
            warnings_item = warnings_item_data.to_dict()
            warnings.append(warnings_item)

        timings_s = self.timings_s.to_dict()

        mask: dict[str, Any] | None | Unset
        if isinstance(self.mask, Unset):
            mask = UNSET
        elif isinstance(self.mask, MaskDocument):
            mask = self.mask.to_dict()
        else:
            mask = self.mask

        disclaimer = self.disclaimer

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "source": source,
                "model": model,
                "findings": findings,
                "contours": contours,
                "postprocessing": postprocessing,
                "warnings": warnings,
                "timings_s": timings_s,
            }
        )
        if mask is not UNSET:
            field_dict["mask"] = mask
        if disclaimer is not UNSET:
            field_dict["disclaimer"] = disclaimer

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.contour_document import ContourDocument  # noqa: PLC0415
        from ..models.findings_document import FindingsDocument  # noqa: PLC0415
        from ..models.mask_document import MaskDocument  # noqa: PLC0415
        from ..models.model_document import ModelDocument  # noqa: PLC0415
        from ..models.removal_document import RemovalDocument  # noqa: PLC0415
        from ..models.source_document import SourceDocument  # noqa: PLC0415
        from ..models.timings_s import TimingsS  # noqa: PLC0415
        from ..models.warning_document import WarningDocument  # noqa: PLC0415

        d = dict(src_dict)
        source = SourceDocument.from_dict(d.pop("source"))

        model = ModelDocument.from_dict(d.pop("model"))

        findings = FindingsDocument.from_dict(d.pop("findings"))

        contours = []
        _contours = d.pop("contours")
        for contours_item_data in _contours:
            contours_item = ContourDocument.from_dict(contours_item_data)

            contours.append(contours_item)

        postprocessing = []
        _postprocessing = d.pop("postprocessing")
        for postprocessing_item_data in _postprocessing:
            postprocessing_item = RemovalDocument.from_dict(postprocessing_item_data)

            postprocessing.append(postprocessing_item)

        warnings = []
        _warnings = d.pop("warnings")
        for warnings_item_data in _warnings:
            warnings_item = WarningDocument.from_dict(warnings_item_data)

            warnings.append(warnings_item)

        timings_s = TimingsS.from_dict(d.pop("timings_s"))

        def _parse_mask(data: object) -> MaskDocument | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                mask_type_0 = MaskDocument.from_dict(data)

                return mask_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(MaskDocument | None | Unset, data)

        mask = _parse_mask(d.pop("mask", UNSET))

        disclaimer = cast(
            Literal["Research use only. Not for diagnosis."] | Unset, d.pop("disclaimer", UNSET)
        )
        if disclaimer != "Research use only. Not for diagnosis." and not isinstance(
            disclaimer, Unset
        ):
            raise ValueError(
                f"disclaimer must match const 'Research use only. Not for diagnosis.', got '{disclaimer}'"
            )

        result_document = cls(
            source=source,
            model=model,
            findings=findings,
            contours=contours,
            postprocessing=postprocessing,
            warnings=warnings,
            timings_s=timings_s,
            mask=mask,
            disclaimer=disclaimer,
        )

        result_document.additional_properties = d
        return result_document

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
