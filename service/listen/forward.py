"""Series that are whole to segmentations, by POST to the service; again until it has spoken.

The service has a series once it names a segmentation for it, also one that failed. It refuses one
with a problem document of its own about what it was sent; the series is then put aside. Anything
else, a proxy's 413 as well as the service's 503, says nothing about the series: it is sent again,
under the same Idempotency-Key and with the same bytes, so that there is one segmentation of it.
"""

import json
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import requests
import structlog

from service.errors import (
    BadRequest,
    IdempotencyConflict,
    InvalidParameter,
    ServiceError,
    UnknownNode,
    UploadTimeout,
    with_code,
)
from service.listen.received import Problem, Received, Series
from service.listen.tar import Tar
from service.logs import place_of
from service.pacs.nodes import Caller
from service.settings import Settings

_AT_ONCE = 2
"""Series sent at the same time: one slow answer holds up none of the others."""

_POLL_S = 0.25
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0

_CONNECT_S, _ANSWER_S = 30, 300
"""The answer to a body comes once its headers are checked, which may wait for its turn."""

_NO_PROXIES = {"http": "", "https": ""}
"""Instead of the environment's: the service is the operator's own."""

_ANSWER_BYTES = 64 * 1024

_NOT_ABOUT_THE_SERIES = (InvalidParameter, UnknownNode, UploadTimeout)
"""Refusals of ours that another setting or another time may change."""

_SEGMENTATION = re.compile(r"/v1/segmentations/([0-9a-f]{32})$")
_SERIES_UID = re.compile(r"[0-9.]{1,64}")
_CODE = re.compile(r"[a-z_]{1,64}")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Answer:
    """What the service said; `code` is that of its problem, `job_id` where it has the series."""

    status: int
    code: str | None
    job_id: str | None

    @classmethod
    def of(cls, response: requests.Response) -> Self:
        job = _SEGMENTATION.search(response.headers.get("Location", ""))
        code = None if response.ok else _code(response) or f"http_{response.status_code}"
        return cls(response.status_code, code, job and job[1])

    @property
    def is_known(self) -> bool:
        """Whether the service has the series: as a segmentation, or from an earlier try.

        The key is the series' own, so a conflict means that only its parameters changed since.
        """
        return self.job_id is not None or self.code == IdempotencyConflict.code

    @property
    def is_refusal(self) -> bool:
        """Whether it is about the series itself."""
        kind = _kind(self.code)
        return isinstance(kind, BadRequest) and not isinstance(kind, _NOT_ABOUT_THE_SERIES)


class Forwarder:
    """Sends series that are whole, in threads of its own."""

    def __init__(
        self,
        received: Received,
        settings: Settings,
        callers: Mapping[str, Caller],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`tell` hears of each try: `accepted`, `refused`, or `not_taken` for now."""
        self._received, self._tell = received, tell
        self._address = f"{settings.service_url.rstrip('/')}/v1/segmentations"
        key = settings.service_key
        self._key = {} if key is None else {"X-API-Key": key.get_secret_value()}
        self._callers = callers
        self._stopped = threading.Event()

    def start(self) -> None:
        for _ in range(_AT_ONCE):
            # What is being sent when the process ends is sent again by the next one.
            threading.Thread(target=self._work, daemon=True).start()

    def stop(self) -> None:
        """Begin with no other series."""
        self._stopped.set()

    def _work(self) -> None:
        while not self._stopped.wait(_POLL_S):
            while not self._stopped.is_set() and (series := self._received.take()) is not None:
                try:
                    self._send(series)
                except Exception as error:  # a disk that fails, or a defect: others go on
                    _log.error("series not sent", place=place_of(error))
                    self._put_back(series, "internal_error")

    def _send(self, series: Series) -> None:
        started = time.monotonic()
        try:
            answer = self._post(series, Tar(series.files))
        except requests.RequestException:
            self._put_back(series, "service_unreachable")
            return
        facts = {"caller": series.origin.caller, "instances": series.instances}
        facts |= {"status_code": answer.status, "code": answer.code}
        if answer.is_known:
            self._received.remove(series)
            seconds = round(time.monotonic() - started, 3)
            _log.info("series accepted", job_id=answer.job_id, seconds=seconds, **facts)
            self._tell("accepted")
        elif answer.code is not None and answer.is_refusal:
            problem = Problem(status=answer.status, code=answer.code, title=_title(answer.code))
            self._received.refuse(series, problem)
            _log.warning("series refused", **facts)
            self._tell("refused")
        else:
            self._put_back(series, answer.code or "no_segmentation_named")

    def _post(self, series: Series, body: Tar) -> _Answer:
        """Raises `requests.RequestException` where there is no answer."""
        with requests.post(
            self._address,
            data=body,
            params=self._parameters(series),
            headers={
                "Content-Type": "application/x-tar",
                "Idempotency-Key": series.key,
                "Prefer": "respond-async",
                **self._key,
            },
            timeout=(_CONNECT_S, _ANSWER_S),
            proxies=_NO_PROXIES,
            allow_redirects=False,  # which would make a GET of it
            stream=True,
        ) as response:
            return _Answer.of(response)

    def _parameters(self, series: Series) -> dict[str, str]:
        parameters = {}
        if _SERIES_UID.fullmatch(series.origin.series_uid):  # else it can only be the only one
            parameters["series_instance_uid"] = series.origin.series_uid
        caller = self._callers.get(series.origin.caller)
        if caller is not None and caller.destination is not None:
            parameters |= {
                "destination": caller.destination,
                "objects": ",".join(caller.objects),
            }
        return parameters

    def _put_back(self, series: Series, trouble: str) -> None:
        """Try again later; the log has it once, until the reason is another one."""
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(series.tries, 16))
        series.due = time.monotonic() + pause_s * random.uniform(0.5, 1)  # noqa: S311  # no secret
        series.tries += 1
        if series.trouble != trouble:
            series.trouble = trouble
            _log.warning("series not taken yet", code=trouble, caller=series.origin.caller)
        self._received.put_back(series)
        self._tell("not_taken")


def _code(response: requests.Response) -> str | None:
    """The stable code of a problem document of ours; None for any other answer."""
    if not response.headers.get("Content-Type", "").startswith("application/problem+json"):
        return None
    try:
        code = json.loads(_body(response))["code"]
    except (ValueError, LookupError, TypeError):
        return None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None


def _body(response: requests.Response) -> bytes:
    """The answer's body, or as much of it as an answer of ours may have."""
    body, deadline = b"", time.monotonic() + _ANSWER_S
    for chunk in response.iter_content(None):
        body += chunk
        if len(body) > _ANSWER_BYTES or time.monotonic() > deadline:
            break
    return body


def _kind(code: str | None) -> ServiceError | None:
    """The error of a code, None for one that is not ours."""
    try:
        return None if code is None else with_code(code, "")
    except KeyError:
        return None


def _title(code: str) -> str | None:
    """The sentence of a code, as we have it: what the answer holds may be anything."""
    kind = _kind(code)
    return None if kind is None else kind.title
