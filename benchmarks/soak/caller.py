"""What clients of every kind share: requests that are counted, and answers that are checked."""

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from gevent import GreenletExit
from locust import HttpUser, task
from locust.clients import ResponseContextManager
from locust.exception import StopUser

from reliability.process import Wrong, check
from reliability.studies import Study

AT = "/v1/segmentations"

PATIENCE_S = 300
"""For one answer, for one request until it is taken, and for one job until it has ended."""

PAUSE_S = 0.2


@dataclass
class Shared:
    """One load: what its clients share, and what they have seen."""

    small: list[Study]
    series: Study
    numbers: Iterator[int] = field(default_factory=count)
    first: dict[str, object] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    rounds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    began_s: float = 0.0
    ended_s: float = 0.0
    """0 until the clients are told to finish."""


@dataclass(frozen=True)
class Drip:
    """A body that is sent in so many pieces, with a pause between them."""

    body: bytes
    pieces: int
    pause_s: float

    def __len__(self) -> int:
        return len(self.body)

    def __iter__(self) -> Iterator[bytes]:
        step = -(-len(self.body) // self.pieces)
        for at in range(0, len(self.body), step):
            time.sleep(self.pause_s if at else 0)
            yield self.body[at : at + step]


class Caller(HttpUser):
    """A client on a connection of its own, which repeats its `work` with a pause after each."""

    abstract = True
    pause_s = 0.0

    def on_start(self) -> None:
        self.client.trust_env = False  # no proxy between loopback and loopback
        self.rng = random.Random(next(self.shared.numbers))  # noqa: S311  # the order of requests

    @property
    def shared(self) -> Shared:
        """What the locustfile has put there."""
        return self.environment.shared

    @task
    def rounds(self) -> None:
        """Work until the end; in Locust's own pauses a client may be cut off in its next round."""
        while not (self.shared.ended_s or self.shared.wrong):
            try:
                self.work()
            except GreenletExit:
                self.shared.wrong.append(f"{type(self).__name__}: still at work at the end")
                raise
            self.shared.rounds[type(self).__name__] += 1
            time.sleep(self.pause_s)
        raise StopUser

    def work(self) -> None:
        """One round. Raises `Wrong`."""
        raise NotImplementedError

    def ask(
        self,
        name: str,
        method: str,
        path: str,
        body: bytes | Drip | None = None,
        headers: Mapping[str, str] | None = None,
        expected: tuple[int, ...] = (200,),
        stream: bool = False,
    ) -> ResponseContextManager:
        """One request, repeated where the service says that it is busy.

        Raises `Wrong` for no answer and for any status that is not expected.
        """
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with self.client.request(
                method, path, name=name, catch_response=True, data=body, headers=headers,
                timeout=PATIENCE_S, stream=stream,
            ) as answer:  # fmt: skip
                status = answer.status_code
                check(status, f"{name}: {answer.error!r}")
                self.shared.statuses[str(status)] += 1
                answer.success()
                if status != 503:
                    check(status in expected, f"{name}: {status} instead of {expected}")
                    return answer
                _check_busy(name, answer)
                answer.request_meta["name"] = "refused as busy"
            time.sleep(PAUSE_S)
        raise Wrong(f"{name}: busy for {PATIENCE_S} s")

    def post(
        self,
        name: str,
        path: str,
        study: Study,
        body: bytes | Drip | None = None,
        expected: tuple[int, ...] = (200,),
        **headers: str,
    ) -> ResponseContextManager:
        """A study, as it is or as this body."""
        names = {key.replace("_", "-"): value for key, value in headers.items()}
        names["Content-Type"] = study.media_type
        return self.ask(name, "POST", path, body or study.body, names, expected)

    def accepted(self, study: Study, name: str = "segmentation", **headers: str) -> str:
        """Where a study's durable segmentation is, which may not be done."""
        headers["Prefer"] = "respond-async"
        answer = self.post(name, AT, study, expected=(201, 202), **headers)
        return str(answer.headers["location"])

    def until_ended(self, at: str, study: Study) -> None:
        """Ask until the segmentation has succeeded, with the numbers that the study has."""
        deadline = time.monotonic() + PATIENCE_S
        while (job := self.ask("state", "GET", at).json())["status"] in ("queued", "running"):
            check(time.monotonic() < deadline, f"{study.name}: still {job['status']}")
            time.sleep(PAUSE_S)
        check(job["status"] == "succeeded", f"{study.name}: {job['status']}, {job['error']}")
        self.check_same(study, job)

    def delete(self, at: str) -> None:
        """Delete a segmentation, and see that it is gone."""
        self.ask("segmentation", "DELETE", at, expected=(204,))
        self.ask("deleted segmentation", "GET", at, expected=(404,))

    def check_same(self, study: Study, document: Mapping[str, object]) -> None:
        """Raise `Wrong` unless a study's numbers are those of its first answer."""
        found = document["findings"]
        expected = self.shared.first.setdefault(study.name, found)
        check(found == expected, f"{study.name}: other numbers than at first")


def _check_busy(name: str, answer: ResponseContextManager) -> None:
    code = answer.json()["code"]
    check(code == "busy", f"{name}: 503 {code}")
    check("retry-after" in answer.headers, f"{name}: 503 without Retry-After")
