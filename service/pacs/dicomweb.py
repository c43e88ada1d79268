"""Fetching a series by DICOMweb (PS3.18): search by QIDO-RS, retrieve by WADO-RS.

The series is asked for as a whole, and what the search named and the answer lacks is asked for one
by one. Each instance is in memory while it comes, and then in a spool.
"""

import json
import re
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import structlog

from service.decode.headers import Allowance, read_instance, text
from service.errors import (
    ArchiveTooLarge,
    InvalidParameter,
    OriginIncomplete,
    OriginInvalid,
    OriginUnreachable,
    RequestTooLarge,
    SeriesNotFound,
    ServiceError,
    TooManyFiles,
    UnreadableFile,
)
from service.pacs.connection import Answer, Client, Cut
from service.pacs.multipart import Truncated, parts
from service.pacs.nodes import DicomwebNode
from service.pacs.retry import Tried, TryAgain, retrying
from service.settings import Settings
from service.spool import Spool
from service.stopping import StopSignal

_JSON = "application/dicom+json"
_MULTIPART = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""As they are stored (PS3.18 section 8.7.3.5.2): nothing is decoded and encoded again."""

_PAGE = 1000
_PAGE_BYTES = 64 * 1024**2

_ABSENT = (404, 410)

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")

_SERIES, _INSTANCE = "0020000E", "00080018"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Fetched:
    """What came of a series.

    `instances` are in the spool, `unnamed` of them although the search did not name them: an
    archive may limit its answers. Dropped were `foreign` ones of another series, `repeated` ones
    (the first is kept), and `unreadable` ones that are no DICOM.
    """

    instances: int = 0
    unnamed: int = 0
    foreign: int = 0
    repeated: int = 0
    unreadable: int = 0


def fetch_series(
    node: DicomwebNode,
    study_uid: str,
    series_uid: str,
    spool: Spool,
    settings: Settings,
    stop: StopSignal,
    tried: Tried = lambda _: None,
) -> Fetched:
    """Put all instances of a series into the spool, in the order in which they come.

    Raises `SeriesNotFound`, an `OriginError`, `RequestTooLarge` or `TooManyFiles` by the limits of
    a request, `StorageFull`, `InvalidParameter` for what is no UID, or the reason to stop.
    """
    if not all(len(uid) <= 64 and _UID.fullmatch(uid) for uid in (study_uid, series_uid)):
        raise InvalidParameter("Expected UIDs: at most 64 digits and dots.")
    started = time.monotonic()
    fetch = _Fetch(node, study_uid, series_uid, spool, settings, stop)
    code = None
    try:
        return retrying(fetch.attempt, stop, settings, tried)
    except ServiceError as error:
        code = error.code
        raise
    finally:
        _log.info(
            "series fetched" if code is None else "series not fetched",
            node=node.name,
            code=code,
            instances=fetch.fetched.instances,
            bytes=spool.total_bytes,
            seconds=round(time.monotonic() - started, 3),
        )


class _Fetch:
    """One series on its way, over several attempts: what came stays."""

    def __init__(
        self,
        node: DicomwebNode,
        study_uid: str,
        series_uid: str,
        spool: Spool,
        settings: Settings,
        stop: StopSignal,
    ) -> None:
        self._node, self._settings, self._stop = node, settings, stop
        self._study_uid, self._series_uid = study_uid, series_uid
        self._path = f"/studies/{study_uid}/series/{series_uid}"
        self._spool = spool
        self._allowance = Allowance(settings.max_decompressed_bytes)
        self._listing: _Listing | None = None
        self._received: set[str] = set()
        self._asked_for_all = False
        self.fetched = Fetched()

    def attempt(self) -> Fetched:
        """Fetch what is missing. Raises `TryAgain` where something still is."""
        with Client(self._node, self._settings, self._stop) as client:
            if self._listing is None:
                self._listing = _search(client, self._path, self._series_uid, self._settings)
            if not self._asked_for_all:
                self._take_series(client)
            for uid in self._missing():
                self._take_instance(client, uid)
        return self.fetched

    def _take_series(self, client: Client) -> None:
        with client.ask(self._path, _MULTIPART) as answer:
            if answer.status in _ABSENT:
                raise SeriesNotFound(f"Expected the series, found status {answer.status}.")
            answer.check()
            try:
                self._take_parts(answer)
            except (Cut, Truncated) as cut:
                if self._listing is None or not self._listing.is_whole:
                    raise self._again(cut) from None  # for nothing says what the answer lacks
        self._asked_for_all = True

    def _take_instance(self, client: Client, uid: str) -> None:
        unreadable = self.fetched.unreadable
        with client.ask(f"{self._path}/instances/{uid}", _MULTIPART) as answer:
            if answer.status in _ABSENT:
                raise self._incomplete()
            answer.check()
            try:
                self._take_parts(answer)
            except (Cut, Truncated) as cut:
                raise self._again(cut) from None
        if uid not in self._received:
            if self.fetched.unreadable > unreadable:
                raise OriginInvalid("Expected DICOM instances, found something else.")
            raise TryAgain(self._incomplete())

    def _missing(self) -> list[str]:
        named: Collection[str] = () if self._listing is None else self._listing.uids
        return [uid for uid in named if uid not in self._received]

    def _again(self, cut: Exception) -> TryAgain:
        if isinstance(cut, Cut) and cut.too_slow:
            return TryAgain(OriginUnreachable("Expected the series in time, found it too slow."))
        return TryAgain(self._incomplete())

    def _incomplete(self) -> OriginIncomplete:
        found, missing = self.fetched.instances, len(self._missing())
        return OriginIncomplete(
            f"Expected {found + missing} instances or more, received {found} of them."
        )

    def _take_parts(self, answer: Answer) -> None:
        """Raises `Cut` or `Truncated` before the end, with the parts before kept."""
        if answer.status == 204:
            return
        if answer.media_type != "multipart/related" or not answer.boundary:
            raise OriginInvalid("Expected a multipart answer, found another type.")
        chunks = _bounded(answer.chunks(), self._settings.max_request_bytes)
        for count, part in enumerate(parts(chunks, answer.boundary)):
            _check_files(count + 1, self._settings)  # dropped ones too, or they would never end
            self._take(b"".join(part))
        if answer.ends_by_itself:
            with suppress(Cut):
                deque(chunks, maxlen=0)  # so that the connection serves the next request

    def _take(self, data: bytes) -> None:
        uid = self._judge(data)
        if uid is None:
            return
        _check_bytes(self._spool.total_bytes + len(data), self._settings.max_request_bytes)
        self._received.add(uid)
        _check_files(len(self._received), self._settings)
        self._spool.begin()
        self._spool.write(data)
        named = self._listing is not None and uid in self._listing.uids
        self._count(instances=1, unnamed=0 if named else 1)

    def _judge(self, data: bytes) -> str | None:
        """The instance's UID, None where it is not to be kept."""
        try:
            header = read_instance(data, 0, self._allowance).header
        except (UnreadableFile, ArchiveTooLarge):
            self._count(unreadable=1)
            return None
        series = text(header, "StudyInstanceUID"), text(header, "SeriesInstanceUID")
        if series != (self._study_uid, self._series_uid):
            self._count(foreign=1)
            return None
        uid = text(header, "SOPInstanceUID")
        if uid in self._received:
            self._count(repeated=1)
            return None
        return uid

    def _count(self, **more: int) -> None:
        counts = {name: getattr(self.fetched, name) + count for name, count in more.items()}
        self.fetched = replace(self.fetched, **counts)


@dataclass(frozen=True)
class _Listing:
    """The instances that a search named; not whole where the archive may know more."""

    uids: Collection[str]
    is_whole: bool


def _search(client: Client, path: str, series_uid: str, settings: Settings) -> _Listing:
    """Page by page until one brings nothing new: some servers ignore `offset`, some limit a page.

    Raises `SeriesNotFound`, `TooManyFiles`, `OriginRefused`, `OriginInvalid`, `TryAgain`.
    """
    uids: dict[str, None] = {}  # in order
    rows_seen = rows_before = 0
    while True:
        try:
            rows, warns = _page(client, f"{path}/instances", rows_seen)
        except OriginInvalid:
            if not uids:
                raise
            rows, warns = [], rows_before == _PAGE  # some refuse an offset beyond the end
        new = [uid for uid in _uids(rows, series_uid) if uid not in uids]
        uids.update(dict.fromkeys(new))
        _check_files(len(uids), settings)
        if not uids:
            raise SeriesNotFound("Expected instances of the series, found none.")
        if not new:
            return _Listing(uids, is_whole=len(rows) != _PAGE and not warns)
        rows_seen, rows_before = rows_seen + len(rows), len(rows)


def _page(client: Client, path: str, offset: int) -> tuple[list[Any], bool]:
    """The rows, and whether the server says that it could name more."""
    query = {"limit": str(_PAGE), "offset": str(offset)}
    with client.ask(path, _JSON, query) as answer:
        if answer.status in (204, *_ABSENT):
            return [], False
        answer.check()
        try:
            found = json.loads(answer.body(_PAGE_BYTES) or b"[]")
        except Cut:
            failure = OriginUnreachable("Expected the search's whole answer, found it cut off.")
            raise TryAgain(failure) from None
        except (ValueError, RecursionError):
            raise OriginInvalid("Expected the search's answer as JSON, found another.") from None
        if not isinstance(found, list):
            raise OriginInvalid("Expected the search's answer as a list, found another.")
        return found, answer.warns


def _uids(rows: list[Any], series_uid: str) -> Iterator[str]:
    for row in rows:
        if _first(row, _SERIES) in (None, series_uid):
            uid = str(_first(row, _INSTANCE)).strip()
            if len(uid) > 64 or not _UID.fullmatch(uid):  # it becomes part of an address
                raise OriginInvalid("Expected UIDs in the search's answer, found something else.")
            yield uid


def _first(row: object, tag: str) -> object:
    """An attribute's first value in DICOM JSON (PS3.18 annex F), None where there is none."""
    attribute = row.get(tag) if isinstance(row, dict) else None
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _bounded(chunks: Iterator[bytes], max_bytes: int) -> Iterator[bytes]:
    count = 0
    for chunk in chunks:
        count += len(chunk)
        _check_bytes(count, max_bytes)
        yield chunk


def _check_bytes(count: int, most: int) -> None:
    if count > most:
        raise RequestTooLarge(f"Expected a series of at most {most} bytes, found more.")


def _check_files(count: int, settings: Settings) -> None:
    if count > settings.max_files:
        raise TooManyFiles(f"Expected at most {settings.max_files} instances, found more.")
