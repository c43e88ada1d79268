"""What is delivered, and what became of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

_BATCH_BYTES = 32 * 1024**2
_BATCH_INSTANCES = 100
"""Of one request or association: held in memory, and below what servers commonly take at once."""

Status = Literal["stored", "already_stored", "refused", "failed"]


@dataclass(frozen=True)
class Instance:
    """A DICOM file to be delivered; `data` reads it, each time that it is sent."""

    object_name: str
    study_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    data: Callable[[], bytes]


class Receipt(BaseModel):
    """What a destination said of one instance.

    "failed" may go well another time, "refused" will not. `code` is the destination's: a DIMSE
    status such as "0xA900", an HTTP status, or a word where it gave none: "unreachable",
    "rejected", "aborted", "no_context", "credentials". `detail` is a sentence of ours.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    object: str
    sop_instance_uid: str
    status: Status
    code: str | None = None
    detail: str | None = None

    @classmethod
    def of(
        cls, instance: Instance, status: Status, code: str | None = None, detail: str | None = None
    ) -> "Receipt":
        return cls(
            object=instance.object_name,
            sop_instance_uid=instance.sop_instance_uid,
            status=status,
            code=code,
            detail=detail,
        )

    @property
    def is_stored(self) -> bool:
        return self.status in ("stored", "already_stored")


class NotTaken(Exception):
    """A destination takes nothing from this service, as it is configured."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


@dataclass(frozen=True)
class Loaded:
    """An instance with its bytes."""

    instance: Instance
    data: bytes


def batches(instances: Sequence[Instance]) -> Iterator[list[Loaded]]:
    """In order, of one study each, and small unless an instance alone is large."""
    batch: list[Loaded] = []
    size = 0
    for instance in instances:
        loaded = Loaded(instance, instance.data())
        if batch and (
            size + len(loaded.data) > _BATCH_BYTES
            or len(batch) >= _BATCH_INSTANCES
            or batch[0].instance.study_instance_uid != instance.study_instance_uid
        ):
            yield batch
            batch, size = [], 0
        batch.append(loaded)
        size += len(loaded.data)
    if batch:
        yield batch


def receipt_of(instance: Instance, status: int) -> Receipt:
    """By a DIMSE status (PS3.7 annex C, PS3.4 B.2.3), which STOW-RS has as FailureReason too."""
    code = f"0x{status:04X}"
    if status == 0:
        return Receipt.of(instance, "stored")
    if status == 0x0111:
        return Receipt.of(instance, "already_stored", code)
    if 0xB000 <= status <= 0xBFFF or status in (0x0001, 0x0107, 0x0116):
        return Receipt.of(instance, "stored", code, "The destination stored it with a warning.")
    if 0xA700 <= status <= 0xA7FF:
        return Receipt.of(instance, "failed", code, "The destination is out of resources.")
    return Receipt.of(instance, "refused", code, "The destination does not take this object.")
