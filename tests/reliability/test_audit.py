"""What the streams of `make fault` ask at their end is noticed where it is not so."""

import random
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from reliability.fault import audit
from reliability.fault.chaos import Strike, recoveries_s
from reliability.fault.traffic import Client, Ledger
from reliability.process import Answer, Wrong
from reliability.studies import Study
from service.jobs.records import JobRequest, JobRow, Outcome, now
from service.jobs.registry import Registry
from service.pipeline import Options
from service.store import Store

RIGHT = {"result.json": b"{}", "mask.nii.gz": b"mask"}


def job(name: str, **changes: object) -> JobRow:
    """A job that has succeeded, all tidied."""
    request = JobRequest(
        id=name, created_at=now(), options=Options(), file_bytes=(1,), input_sha256="0"
    )
    row = JobRow(
        id=name,
        folder=f"{name}-{uuid.uuid4().hex[:8]}",
        created_ms=1000,
        priority=1,
        lane="small",
        input_bytes=1,
        request=request.model_dump_json(),
        status="succeeded",
        attempts=1,
        result="12345678",
        outcome=Outcome(status="succeeded", finished_at=now()).model_dump_json(),
        finished_ms=5000,
    )
    return row.model_copy(update=changes)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(None, tmp_path / "store", tmp_path, 0)


def keep(store: Store, row: JobRow) -> None:
    """What a job that went well leaves."""
    for name, content in RIGHT.items():
        store.put(f"{row.result_folder}/{name}", content)


def test_a_stream_that_went_well(store: Store) -> None:
    """Every job once, one result folder each, and the right bytes."""
    rows = [job("a"), job("b")]
    for row in rows:
        keep(store, row)
    audit.check_jobs(rows, {"a", "b"})
    keys = audit.check_folders(store, rows)
    assert {name: len(found) for name, found in keys.items()} == {"a": 2, "b": 2}
    for row in rows:
        audit.check_bytes(store, row, keys[row.id], RIGHT)
    assert audit.orphans(store, rows) == set()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([job("a")], "lost: ..b"),
        ([job("a"), job("b"), job("c")], "nobody posted: ..c"),
        ([job("a"), job("b"), job("b")], "twice"),
        ([job("a"), job("b", status="failed")], "b is failed"),
        ([job("a"), job("b", status="receiving")], "b is receiving"),
        ([job("a"), job("b", result=None)], "no result"),
        ([job("a"), job("b", outcome=None)], "no outcome"),
    ],
)
def test_wrong_jobs(rows: list[JobRow], words: str) -> None:
    """Lost, unknown, doubled, failed and half-written jobs are seen."""
    with pytest.raises(Wrong, match=words):
        audit.check_jobs(rows, {"a", "b"})


def _second_result(store: Store, row: JobRow) -> None:
    store.put(f"{row.folder}/87654321/result.json", b"{}")


def _input(store: Store, row: JobRow) -> None:
    store.put(f"{row.folder}/input", b"x")


def _second_folder(store: Store, row: JobRow) -> None:
    store.put(f"{row.id}-ffffffff/{row.result}/result.json", b"{}")


@pytest.mark.parametrize(
    ("leave", "words"),
    [
        (_second_result, "of job a, whose result is 12345678"),
        (_input, "input: of job a"),
        (_second_folder, "of no job"),
    ],
)
def test_what_is_left_beside_results(
    store: Store, leave: Callable[[Store, JobRow], None], words: str
) -> None:
    """A second result, a kept input, and a folder of no job are seen."""
    row = job("a")
    keep(store, row)
    leave(store, row)
    with pytest.raises(Wrong, match=words):
        audit.check_folders(store, [row], within_s=0)


@pytest.mark.parametrize(
    "found",
    [{"result.json": b"{ }", "mask.nii.gz": b"mask"}, {"result.json": b"{}"}, {**RIGHT, "x": b""}],
)
def test_wrong_bytes(store: Store, found: dict[str, bytes]) -> None:
    """An object that is another one, missing, or too many is seen."""
    row = job("a")
    for name, content in found.items():
        store.put(f"{row.result_folder}/{name}", content)
    keys = audit.check_folders(store, [row])["a"]
    with pytest.raises(Wrong, match="other bytes"):
        audit.check_bytes(store, row, keys, RIGHT)


def test_a_second_end_is_seen() -> None:
    """A job whose end is not the one that its client saw."""
    row = job("a")
    ended = row.ended
    assert ended is not None
    audit.check_documents([row], {"a": {"finished_at": ended.finished_at.isoformat()}})
    with pytest.raises(Wrong, match="ended twice"):
        audit.check_documents([row], {"a": {"finished_at": "2026-01-01T00:00:00+00:00"}})
    with pytest.raises(Wrong, match="never saw"):
        audit.check_documents([row], {})


def test_what_is_left_after_deleting(tmp_path: Path, store: Store) -> None:
    """A row, an object, or a note of the engine that outlives its job is seen."""
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    registry = Registry(url)
    try:
        audit.check_nothing_left(registry, store, url)
        store.put("a/x", b"")
        with pytest.raises(Wrong, match="objects are left"):
            audit.check_nothing_left(registry, store, url)
        store.delete("a/x")
        assert registry.add(job("a"), 9, 9, 9)
        with pytest.raises(Wrong, match="are written down"):
            audit.check_nothing_left(registry, store, url)
        with pytest.raises(Wrong, match="nobody posted"):
            audit.check_jobs(audit.settled(registry), set())
    finally:
        registry.close()


def test_a_job_that_is_held_for_ever_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that some process still works on, or has yet to tidy up."""
    monkeypatch.setattr(audit, "SETTLE_S", 0)
    registry = Registry(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    try:
        registry.add(job("a", executor="host-1-abc"), 9, 9, 9)
        with pytest.raises(Wrong, match=r"still held: ..a"):
            audit.settled(registry)
    finally:
        registry.close()


STUDY = Study("zip", "application/zip", b"", ())


def client(answer: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> Client:
    """One whose requests are answered so."""
    monkeypatch.setattr("reliability.fault.traffic.ask", answer)
    return Client("c", 1, [STUDY], {"zip": "right"}, Ledger(), random.Random(1))


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([(500, b"{}")], "answered with 500"),
        ([(503, b'{"code":"abandoned"}')], "answered with 503"),
        ([(202, b'{"id":"a"}'), (404, b"{}")], "accepted job a is lost"),
        ([(202, b'{"id":"a"}'), (200, b'{"status":"failed","error":"x"}')], "job a: x"),
        (
            [(202, b'{"id":"a"}'), (200, b'{"status":"succeeded","findings":"wrong"}')],
            "other findings",
        ),
    ],
)
def test_what_a_client_notices(
    answers: list[tuple[int, bytes]], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal of a good study, a lost or failed job, and findings of another patient."""
    left = [Answer(status, {}, body) for status, body in answers]
    one = client(lambda *_: left.pop(0), monkeypatch)
    one.rng.random()  # the next one does not repeat for no reason
    one.work()
    with pytest.raises(Wrong, match=words):
        one.ledger.check()


def test_a_client_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a broken connection, 502 and 503, with the same key."""
    said: list[object] = [OSError(), 502, 503, 202]
    keys = []

    def answer(port: int, method: str, path: str, body: bytes, headers: dict, _: float) -> Answer:
        keys.append(headers["Idempotency-Key"])
        now_said = said.pop(0)
        if isinstance(now_said, OSError):
            raise now_said
        return Answer(now_said, {}, b'{"id":"a"}')

    one = client(answer, monkeypatch)
    monkeypatch.setattr("reliability.fault.traffic.time.sleep", lambda _: None)
    assert one._post("key", STUDY) == "a"
    assert keys == ["key"] * 4
    assert sum(one.ledger.repeated.values()) == 3


def test_one_key_of_two_jobs_is_seen() -> None:
    """The answer to a repeat names the first one's job."""
    ledger = Ledger()
    ledger.accept("key", "a", STUDY)
    ledger.accept("key", "a", STUDY)
    with pytest.raises(Wrong, match="one key, two jobs"):
        ledger.accept("key", "b", STUDY)


def test_recovery_is_counted_from_the_strike_to_the_last_end() -> None:
    """Of the jobs in work then, whatever others took; a strike that hit none has none."""
    rows = [job("a", finished_ms=3000), job("b", finished_ms=9000), job("c", finished_ms=99_000)]
    strikes = [
        Strike("kill -9 of a worker", 2000, frozenset({"a", "b"})),
        Strike("kill -9 of a worker", 2000, frozenset({"a"})),
        Strike("bucket lost", 4000, frozenset()),
        Strike("SIGTERM of a worker", 4000, frozenset({"a"})),
    ]
    expected = {"kill -9 of a worker": 7.0, "SIGTERM of a worker": 0.0}
    assert recoveries_s(strikes, rows) == expected
