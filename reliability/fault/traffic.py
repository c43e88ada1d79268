"""Good clients of a stream: each posts a study, repeats until it is taken, and waits for its end.

A request is repeated with the same key and body where its connection broke, or the service says
that it cannot take it now; anything else that is said to a good study is wrong.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from itertools import count
from typing import Any

from reliability.fault.bench import AT
from reliability.process import Answer, Wrong, ask, check
from reliability.studies import Study

CLIENTS = 6

AGAIN = (502, 503, 504)
"""What a client may hear of a service that is struck: of nginx, and of the service itself."""

NEVER = "abandoned"
"""Of a job that ended its process time and again; a 503, too, but none of these did."""

PATIENCE_S = 180
"""For one request until it is taken, or one job until it has ended, all strikes included."""

ANSWER_S = 60

PREFERENCES = ("respond-async", "wait=1", "wait=5", "wait=30")


@dataclass(frozen=True)
class Accepted:
    """A job whose acceptance a client has seen."""

    key: str
    job_id: str
    study: Study


@dataclass
class Ledger:
    """What clients have seen, from any thread."""

    accepted: dict[str, Accepted] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)
    repeated: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def accept(self, key: str, job_id: str, study: Study) -> None:
        """Note an acceptance. Raises `Wrong` where the key was accepted as another job before."""
        with self.lock:
            known = self.accepted.setdefault(key, Accepted(key, job_id, study))
        check(known.job_id == job_id, f"one key, two jobs: {known.job_id} and {job_id}")

    def repeat(self, why: str) -> None:
        with self.lock:
            self.repeated[why] += 1

    def check(self) -> None:
        """Raise `Wrong` for the first thing that a client found wrong."""
        if self.wrong:
            raise Wrong(self.wrong[0])


@dataclass(frozen=True)
class Client:
    """One client on a thread of its own."""

    name: str
    port: int
    studies: Sequence[Study]
    findings: Mapping[str, Any]
    ledger: Ledger
    rng: random.Random

    def work(self) -> None:
        """One study after the other until the stream is over; what is wrong goes to the ledger."""
        try:
            for number in count():
                if self.ledger.over.is_set() or self.ledger.wrong:
                    return
                self._one(f"{self.name}-{number}", self.rng.choice(self.studies))
        except Wrong as wrong:
            self.ledger.wrong.append(str(wrong))
        except Exception as error:
            self.ledger.wrong.append(f"{self.name}: {type(error).__name__}: {error}")

    def _one(self, key: str, study: Study) -> None:
        job_id = self._post(key, study)
        if self.rng.random() < 0.1:  # an answer that the client lost afterwards
            self.ledger.repeat("for no reason")
            self._post(key, study)
        document = self._await_end(job_id, study)
        with self.ledger.lock:
            self.ledger.documents[job_id] = document

    def _post(self, key: str, study: Study) -> str:
        headers = {"Content-Type": study.media_type, "Idempotency-Key": key}
        headers["Prefer"] = self.rng.choice(PREFERENCES)
        answer = self._until_answered("POST", AT, study.body, headers)
        check(
            answer.status in (201, 202),
            f"{key}: a good {study.name} was answered with {answer.status}: {answer.body[:300]!r}",
        )
        job_id = str(answer.json()["id"])
        self.ledger.accept(key, job_id, study)
        return job_id

    def _await_end(self, job_id: str, study: Study) -> Any:
        """The job's document once it has succeeded, its findings right."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = self._until_answered("GET", f"{AT}/{job_id}")
            check(answer.status == 200, f"accepted job {job_id} is lost: GET says {answer.status}")
            job = answer.json()
            if job["status"] == "succeeded":
                right = job["findings"] == self.findings[study.name]
                check(right, f"job {job_id} of {study.name}: other findings than its phantom's")
                return job
            check(job["status"] in ("queued", "running"), f"job {job_id}: {job['error']}")
            check(time.monotonic() < deadline, f"job {job_id}: {job['status']} for {PATIENCE_S} s")
            time.sleep(self.rng.uniform(0.1, 0.4))

    def _until_answered(
        self, method: str, path: str, body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        """The first answer that is none to be repeated after."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = ask(self.port, method, path, body, headers, ANSWER_S)
                why = f"after {answer.status}"
                if answer.status not in AGAIN or NEVER.encode() in answer.body:
                    return answer
            except (OSError, HTTPException):
                why = "after a broken connection"
            if method == "POST":
                self.ledger.repeat(why)
            check(time.monotonic() < deadline, f"{method} {path}: no answer for {PATIENCE_S} s")
            check(not self.ledger.wrong, "another client found something wrong")
            time.sleep(self.rng.uniform(0.1, 0.6))


@contextmanager
def traffic(
    port: int, studies: Sequence[Study], findings: Mapping[str, Any], rng: random.Random
) -> Iterator[Ledger]:
    """Clients at work while the block runs; it is left when each has its last answer.

    Raises `Wrong` for what they found, and where one never gets that answer.
    """
    ledger = Ledger()
    threads = []
    for number in range(CLIENTS):
        name = f"{rng.getrandbits(32):08x}-client-{number}"
        client = Client(name, port, studies, findings, ledger, random.Random(rng.random()))
        threads.append(threading.Thread(target=client.work, name=name, daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield ledger
        ledger.over.set()
        deadline = time.monotonic() + 2 * PATIENCE_S + ANSWER_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        ledger.check()
        check(not any(thread.is_alive() for thread in threads), "a client waits for ever")
    finally:
        ledger.over.set()
