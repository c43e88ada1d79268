"""Delivering by DICOMweb: STOW-RS (PS3.18 section 10.5), several instances in one request."""

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self
from xml.etree import ElementTree

from service.errors import OriginInvalid
from service.pacs.connection import Answer, Client, Cut
from service.pacs.nodes import DicomwebNode
from service.pacs.receipts import Instance, Loaded, NotTaken, Receipt, batches, receipt_of
from service.settings import Settings
from service.stopping import StopSignal

_JSON = "application/dicom+json"

_FAILED, _STORED, _OTHER_FAILURES = "00081198", "00081199", "0008119A"
_REASON, _WARNING, _INSTANCE = "00081197", "00081196", "00081155"

_ANSWER_BYTES = 2 * 1024**2
"""Of what is said of a hundred instances; expat lets entities expand to a hundred times that."""

_CHUNK_BYTES = 64 * 1024

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")

_TOO_LARGE = 413
_PARTLY = 202


def send(
    node: DicomwebNode, instances: Sequence[Instance], settings: Settings, stop: StopSignal
) -> Iterator[Receipt]:
    """A receipt for each instance, as soon as it is known.

    Raises `TryAgain` where the rest may go well later, `NotTaken` where it will not, or the reason
    to stop.
    """
    with Client(node, settings, stop) as client:
        for batch in batches(instances):
            yield from _send(client, batch)


def _send(client: Client, batch: Sequence[Loaded]) -> Iterator[Receipt]:
    path = _path(batch[0].instance.study_instance_uid)
    with client.ask(path, _JSON, body=_Multipart(batch)) as answer:
        said = _Said.of(answer)
    yield from said.receipts(batch)
    for half in said.again(batch):
        yield from _send(client, half)


def _path(study_uid: str) -> str:
    """Of the study; of all studies where its UID is none, and could name another place."""
    return f"/studies/{study_uid}" if _UID.fullmatch(study_uid) else "/studies"


@dataclass(frozen=True)
class _Said:
    """A destination's answer: its status, and what it says of single instances.

    A reason or a warning is None where the answer names the instance and no more. `is_vague` says
    that something failed that is not named.
    """

    status: int
    warnings: Mapping[str, int | None]
    reasons: Mapping[str, int | None]
    is_vague: bool

    @classmethod
    def of(cls, answer: Answer) -> Self:
        """Raises `TryAgain`, `NotTaken`, or the reason to stop."""
        if answer.refuses:
            raise NotTaken(str(answer.status), "The destination does not let the service in.")
        answer.check_passing()
        dataset = _dataset(answer)
        failed = [*_items(dataset, _FAILED), *_items(dataset, _OTHER_FAILURES)]
        reasons = {_uid(item): _number(item, _REASON) for item in failed}
        warnings = {_uid(item): _number(item, _WARNING) for item in _items(dataset, _STORED)}
        return cls(answer.status, warnings, reasons, is_vague="" in reasons)

    def receipts(self, batch: Sequence[Loaded]) -> Iterator[Receipt]:
        """Of all instances but those that have to be sent again."""
        for instance in (loaded.instance for loaded in batch):
            uid = instance.sop_instance_uid
            if uid in self.reasons:
                yield self._failed(instance, self.reasons[uid])
            elif uid in self.warnings:
                yield receipt_of(instance, self.warnings[uid] or 0)
            elif len(batch) == 1 or not self._is_unclear:
                yield self._unnamed(instance)

    def again(self, batch: Sequence[Loaded]) -> list[Sequence[Loaded]]:
        """What a smaller request has to show, as such requests.

        That is so where a request is too large (413), and where some was stored (202) or failed
        that is not named.
        """
        if len(batch) == 1 or not self._is_unclear:
            return []
        named = self.reasons.keys() | self.warnings.keys()
        rest = [loaded for loaded in batch if loaded.instance.sop_instance_uid not in named]
        middle = (len(rest) + 1) // 2
        halves = [rest] if len(rest) < len(batch) else [rest[:middle], rest[middle:]]
        return [half for half in halves if half]

    @property
    def _is_unclear(self) -> bool:
        return self.status in (_PARTLY, _TOO_LARGE) or self.is_vague

    def _failed(self, instance: Instance, reason: int | None) -> Receipt:
        receipt = receipt_of(instance, reason or 0)
        return self._refused(instance) if receipt.status == "stored" else receipt

    def _unnamed(self, instance: Instance) -> Receipt:
        success = 200 <= self.status < 300 and not self.is_vague
        return Receipt.of(instance, "stored") if success else self._refused(instance)

    def _refused(self, instance: Instance) -> Receipt:
        detail = "The destination does not take this object."
        return Receipt.of(instance, "refused", str(self.status), detail)


class _Multipart:
    """A request's body (RFC 2387) with one part for each instance."""

    def __init__(self, batch: Sequence[Loaded]) -> None:
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        content = [piece for loaded in batch for piece in (head, loaded.data, b"\r\n")]
        self._pieces = [*content, f"--{boundary}--\r\n".encode()]
        self.media_type = f'multipart/related; type="application/dicom"; boundary={boundary}'

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            for start in range(0, len(piece), _CHUNK_BYTES):
                yield piece[start : start + _CHUNK_BYTES]


def _dataset(answer: Answer) -> object:
    """The body in the form of DICOM JSON, whatever its form; None where it says nothing."""
    try:
        body = answer.body(_ANSWER_BYTES).lstrip(b"\xef\xbb\xbf\r\n\t ")
        if body.startswith(b"<"):
            return _from_xml(ElementTree.fromstring(body))  # noqa: S314  # bounded, see above
        found = json.loads(body or b"null")
    except (Cut, OriginInvalid, ValueError, LookupError, RecursionError, ElementTree.ParseError):
        return None
    return found[0] if isinstance(found, list) and found else found


def _from_xml(parent: ElementTree.Element) -> dict[str, object]:
    """A Native DICOM Model (PS3.19 annex A.1), with or without its namespace."""
    return {
        attribute.get("tag", ""): {
            "Value": [
                _from_xml(child) if child.tag.endswith("Item") else child.text
                for child in attribute
            ]
        }
        for attribute in parent
    }


def _items(dataset: object, tag: str) -> list[object]:
    attribute = dataset.get(tag) if isinstance(dataset, dict) else None
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values if isinstance(values, list) else []


def _first(item: object, tag: str) -> object:
    values = _items(item, tag)
    return values[0] if values else None


def _uid(item: object) -> str:
    """Of an instance; empty where the item names none."""
    return str(_first(item, _INSTANCE) or "").strip("\0 ")


def _number(item: object, tag: str) -> int | None:
    """An unsigned short, as a number or as text."""
    try:
        number = int(str(_first(item, tag)), 0)
    except ValueError:
        return None
    return number if 0 <= number <= 0xFFFF else None
