"""Who made a result, with which model, when: what every DICOM object says of itself alike."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict
from pydicom import Dataset
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import UID

from service import __version__
from service.encode.identity import derived_uid
from service.encode.source_headers import content_moment
from service.inference.contract import Code, SegmentClass
from service.inference.work import Loaded
from service.volume import Scan

MANUFACTURER = "liver-tumor-segmentation project"
NOT_FOR_DIAGNOSIS = "AI result, not for diagnosis"

AI_FAMILY = DicomCode("123110", "DCM", "Artificial Intelligence")
_PROCESSING_EQUIPMENT = DicomCode("109102", "DCM", "Processing Equipment")


class Algorithm(BaseModel):
    """What results say of their model and of this software; kept with them, since both change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    sha256: str
    service_version: str
    liver: SegmentClass
    tumor: SegmentClass

    @classmethod
    def of(cls, model: Loaded) -> Self:
        liver, tumor = model.contract.classes
        return cls(
            name=model.contract.name,
            version=model.contract.version,
            sha256=model.sha256,
            service_version=__version__,
            liver=liver,
            tumor=tumor,
        )


@dataclass(frozen=True)
class Provenance:
    """The same provenance gives the same UIDs, dates and bytes.

    `fingerprint` is the hash over all that decides a result; objects are dated `made_at`, else as
    their source, since a stateless service cannot know when it was first asked.
    """

    algorithm: Algorithm
    fingerprint: str
    made_at: datetime | None = None

    @property
    def software_versions(self) -> list[str]:
        """Of the service and of the model; each a value of its own (LO, at most 64 characters)."""
        return [
            self.algorithm.service_version,
            f"model {self.algorithm.version}",
            self.algorithm.sha256,
        ]

    def uid(self, purpose: str) -> UID:
        """The UID of this result for one purpose; another fingerprint or purpose gives another."""
        return derived_uid(self.fingerprint, purpose)

    @property
    def serial_number(self) -> str:
        """Of the device that a result comes from: the model, whichever machine ran it."""
        return self.algorithm.sha256[:16]

    def moment(self, scan: Scan) -> tuple[str, str, str]:
        """Date, time and offset from UTC as DICOM writes them (DA, TM, &ZZXX).

        In the time zone of the service, since DA and TM are local times; the offset is empty where
        the moment is the source's.
        """
        if self.made_at is None:
            return *content_moment(scan), ""
        local = self.made_at.astimezone()
        return local.strftime("%Y%m%d"), local.strftime("%H%M%S"), local.strftime("%z")


def stamp(result: Dataset, scan: Scan, provenance: Provenance) -> None:
    """Write equipment (PS3.3 C.7.5.2), contributing equipment (C.12.1) and dates into an object.

    It replaces what a library takes from the clock, so that a retry writes the same bytes.
    """
    date, time, offset = provenance.moment(scan)
    for prefix in ("InstanceCreation", "Content", "Series"):
        setattr(result, f"{prefix}Date", date)
        setattr(result, f"{prefix}Time", time)
    result.Manufacturer = MANUFACTURER
    result.ManufacturerModelName = provenance.algorithm.name
    result.DeviceSerialNumber = provenance.serial_number
    result.SoftwareVersions = provenance.software_versions
    result.ContributingEquipmentSequence = [
        *result.get("ContributingEquipmentSequence", []),
        _algorithm_item(provenance),
    ]
    for item in result.ContributingEquipmentSequence:
        item.ContributionDateTime = date + time + offset


def _algorithm_item(provenance: Provenance) -> Dataset:
    """The algorithm as IHE AI Results asks to name it."""
    item = Dataset()
    purpose = Dataset()
    purpose.CodeValue = _PROCESSING_EQUIPMENT.value
    purpose.CodingSchemeDesignator = _PROCESSING_EQUIPMENT.scheme_designator
    purpose.CodeMeaning = _PROCESSING_EQUIPMENT.meaning
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = provenance.algorithm.name
    item.SoftwareVersions = provenance.software_versions
    item.ContributionDescription = "Segmentation of liver and tumours"
    return item


def dicom_code(code: Code) -> DicomCode:
    """A contract's code as pydicom and highdicom take it."""
    return DicomCode(code.value, code.scheme, code.meaning)


def tracking_id(lesion_id: int | None) -> str:
    """How SEG, SR and RTSTRUCT name the same structure; None is the liver."""
    return "liver" if lesion_id is None else f"lesion-{lesion_id}"


def tracking_uid(provenance: Provenance, lesion_id: int | None) -> UID:
    """The same structure's UID in every object of one result."""
    return provenance.uid(f"tracking {tracking_id(lesion_id)}")
