"""The life of durable segmentations: accepted, watched, cut off, cancelled, deleted."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from dbos import DBOS
from dicom_files import series, to_bytes, to_zip, zip_of
from fakes import FakeSegmenter, by_threshold
from fastapi.testclient import TestClient
from highdicom import Volume
from http_helpers import PNG, ZIP, problem, running, slice_png
from pydicom.uid import MRImageStorage
from sqlalchemy.exc import OperationalError

from service.errors import StorageFull
from service.jobs import engine, housekeeping, steps, worker
from service.jobs.engine import Engine
from service.jobs.records import JobRow
from service.jobs.registry import Registry
from service.jobs.worker import MAX_ATTEMPTS, Worker
from service.phantom_files import PHANTOM_NAME
from service.pipeline import Options
from service.spool import Spool
from service.store import Store

URL = "/v1/segmentations"
WAIT_S = 30


class Gate:
    """A model that labels by threshold once it is let through."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.model = FakeSegmenter(self._label)

    def _label(self, hu: np.ndarray) -> np.ndarray:
        self.entered.set()
        assert self.open.wait(WAIT_S)
        return by_threshold(hu)


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[tuple[TestClient, Gate]]:
    gate = Gate()
    with running(tmp_path, gate.model, batch_slices=4, max_jobs=3) as client:
        yield client, gate
        gate.open.set()


@pytest.fixture(scope="module")
def study(clean_volume: Volume) -> bytes:
    return zip_of(series(clean_volume))


def until(client: TestClient, address: str, accept: Callable[[dict], bool]) -> dict:
    deadline = time.monotonic() + WAIT_S
    while not accept(answer := client.get(address).json()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.01)
    return answer


def test_respond_async_and_watch(gated: tuple[TestClient, Gate], study: bytes) -> None:
    """202 with Location at once; queued or running, then succeeded; parts only once done."""
    client, gate = gated
    response = client.post(URL, content=study, headers=ZIP | {"Prefer": "respond-async"})
    assert response.status_code == 202
    address = response.headers["location"]
    assert address == f"{URL}/{response.json()['id']}"
    assert gate.entered.wait(WAIT_S)
    watched = client.get(address).json()
    assert watched["status"] == "running"
    assert watched["progress"]["stage"] == "label"
    assert watched["findings"] is None
    problem(client.get(f"{address}/mask.nii.gz"), 409, "no_result")
    problem(client.get(f"{address}/overlays/0.png"), 409, "no_result")
    gate.open.set()
    done = until(client, address, lambda answer: answer["status"] == "succeeded")
    assert done["findings"]["tumor"]["lesion_count"] == 3


@pytest.mark.parametrize(
    "prefer", ["wait=0", "Wait=0, respond-async", "respond-async; x=1, wait=0"]
)
def test_wait_of_the_request(gated: tuple[TestClient, Gate], prefer: str) -> None:
    """`Prefer: wait=N` bounds the wait."""
    client, _ = gated
    started = time.monotonic()
    response = client.post(URL, content=slice_png(), headers=PNG | {"Prefer": prefer})
    assert response.status_code == 202
    assert time.monotonic() - started < 5


def test_preferences_in_several_headers(gated: tuple[TestClient, Gate]) -> None:
    """RFC 7240: several `Prefer` headers are one list; two keys cannot be."""
    client, _ = gated
    prefer = [("Prefer", "handling=lenient"), ("Prefer", "respond-async"), *PNG.items()]
    started = time.monotonic()
    assert client.post(URL, content=slice_png(), headers=prefer).status_code == 202
    assert time.monotonic() - started < 5
    keys = [("Idempotency-Key", "a"), ("Idempotency-Key", "b"), *PNG.items()]
    problem(client.post(URL, content=slice_png(), headers=keys), 400, "invalid_parameter")


def test_what_fails_the_checks_makes_no_resource(tmp_path: Path, clean_volume: Volume) -> None:
    """Container, limits, headers, geometry: the problem as ever, and nothing is kept."""
    tilted = series(clean_volume)
    for number, dataset in enumerate(tilted):
        position = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [position[0], float(position[1]) + number, position[2]]
    other = series(clean_volume)
    for dataset in other:
        dataset.SOPClassUID, dataset.Modality = MRImageStorage, "MR"
    with running(tmp_path, FakeSegmenter(by_threshold), max_files=100) as client:
        for content, status, code in (
            (b"PK\x03\x04 not a zip", 422, "unreadable_file"),
            (zip_of(tilted), 422, "gantry_tilt"),
            (zip_of(other), 422, "wrong_modality"),
            (zip_of(series(clean_volume) * 3), 413, "too_many_files"),
            (b"", 400, "empty_input"),
        ):
            problem(client.post(URL, content=content, headers=ZIP), status, code)
        problem(client.post(URL, params={"x": 1}, content=b"x", headers=ZIP), 400,
                "invalid_parameter")  # fmt: skip
        assert client.get(URL).json() == {"items": [], "next": None}
    assert [path for path in (tmp_path / "segmentations").rglob("*") if path.is_file()] == []


def test_waiting_post_answers_with_the_failure(tmp_path: Path) -> None:
    """A job that fails in the model answers its POST with that problem, and keeps it."""

    def broken(hu: np.ndarray) -> np.ndarray:
        raise RuntimeError(PHANTOM_NAME)

    with running(tmp_path, FakeSegmenter(broken)) as client:
        response = client.post(URL, content=slice_png(), headers=PNG)
        assert PHANTOM_NAME not in str(problem(response, 500, "internal_error"))
        failed = client.get(response.headers["location"]).json()
        assert failed["status"] == "failed"
        assert failed["error"]["code"] == "internal_error"
        problem(client.get(f"{URL}/{failed['id']}/mask.nii.gz"), 409, "no_result")


def test_idempotency_key(gated: tuple[TestClient, Gate]) -> None:
    """The same key and body give the first answer, also while it runs; another body is 409."""
    client, gate = gated
    headers = PNG | {"Idempotency-Key": "order-66", "Prefer": "respond-async"}
    first = client.post(URL, content=slice_png(), headers=headers)
    again = client.post(URL, content=slice_png(), headers=headers)
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]
    problem(client.post(URL, content=slice_png(100), headers=headers), 409, "idempotency_conflict")
    problem(
        client.post(URL, params={"pixel_spacing_mm": 1}, content=slice_png(), headers=headers),
        409, "idempotency_conflict",
    )  # fmt: skip
    gate.open.set()
    address = first.headers["location"]
    done = until(client, address, lambda answer: answer["status"] == "succeeded")
    last = client.post(URL, content=slice_png(), headers=headers)
    assert (last.status_code, last.json()) == (201, done)
    assert len(client.get(URL).json()["items"]) == 1
    client.delete(address)
    assert client.post(URL, content=slice_png(100), headers=headers).status_code == 202


def test_pages(tmp_path: Path) -> None:
    """The newest first; `next` leads through all of them, each once."""
    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        ids = [
            client.post(URL, content=slice_png(level), headers=PNG).json()["id"]
            for level in range(100, 105)
        ]
        address, seen = f"{URL}?limit=2", []
        for _ in range(3):
            page = client.get(address).json()
            seen += [item["id"] for item in page["items"]]
            address = page["next"]
        assert address is None
        assert seen == ids[::-1]
        for wrong in ("limit=0", "limit=201", "limit=x", "offset=-1", "offset=1e3"):
            problem(client.get(f"{URL}?{wrong}"), 400, "invalid_parameter")


def test_a_job_that_vanishes_ends_no_page(tmp_path: Path) -> None:
    """What is deleted while a page is made is missing there, and the next page is still named."""
    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        posted = [
            client.post(URL, content=slice_png(level), headers=PNG).json()["id"]
            for level in range(3)
        ]
        (folder,) = (tmp_path / "segmentations").glob(f"{posted[2]}-*")
        client.app.state.resources.store.delete_all(folder.name)
        page = client.get(URL, params={"limit": 2}).json()
        assert [item["id"] for item in page["items"]] == [posted[1]]
        assert [item["id"] for item in client.get(page["next"]).json()["items"]] == [posted[0]]


def test_cancel(gated: tuple[TestClient, Gate], study: bytes) -> None:
    """A running job stops at its next batch, a waiting POST is told; again is no error."""
    client, gate = gated
    answers: list[object] = []
    waiting = threading.Thread(
        target=lambda: answers.append(client.post(URL, content=study, headers=ZIP))
    )
    waiting.start()
    assert gate.entered.wait(WAIT_S)
    address = f"{URL}/{client.get(URL).json()['items'][0]['id']}"
    cancelled = client.post(f"{address}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert cancelled["error"]["code"] == "cancelled"
    waiting.join(WAIT_S)
    problem(answers[0], 409, "cancelled")
    assert client.post(f"{address}/cancel").json() == cancelled
    problem(client.get(f"{address}/mask.nii.gz"), 409, "no_result")
    gate.open.set()
    done = client.post(URL, content=slice_png(), headers=PNG).json()
    assert client.post(f"{URL}/{done['id']}/cancel").json() == done


def test_delete_leaves_nothing(
    gated: tuple[TestClient, Gate], study: bytes, tmp_path: Path
) -> None:
    """Running or finished: after 204 no file is left, and the id is unknown."""
    client, gate = gated
    running_job = client.post(URL, content=study, headers=ZIP | {"Prefer": "respond-async"})
    assert gate.entered.wait(WAIT_S)
    assert client.delete(running_job.headers["location"]).status_code == 204
    gate.open.set()
    done = client.post(URL, content=study, headers=ZIP)
    assert client.delete(done.headers["location"]).status_code == 204
    for response in (running_job, done):
        problem(client.get(response.headers["location"]), 404, "not_found")
        problem(client.delete(response.headers["location"]), 404, "not_found")
    assert client.get(URL).json()["items"] == []
    kept = tmp_path / "segmentations"
    assert [path for path in kept.rglob("*") if path.is_file()] == []


def test_deleted_while_its_post_waits(gated: tuple[TestClient, Gate]) -> None:
    """The POST is told that its segmentation is cancelled, not that its address is unknown."""
    client, gate = gated
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, URL, content=slice_png(), headers=PNG)
        assert gate.entered.wait(WAIT_S)
        (job,) = client.get(URL).json()["items"]
        assert client.delete(job["links"]["self"]).status_code == 204
        problem(waiting.result(WAIT_S), 409, "cancelled")


def test_full_queue(gated: tuple[TestClient, Gate]) -> None:
    """Above `max_jobs` unfinished ones 503 with Retry-After; then there is room again."""
    client, gate = gated
    headers = PNG | {"Prefer": "respond-async"}
    accepted = [client.post(URL, content=slice_png(level), headers=headers) for level in range(3)]
    assert [response.status_code for response in accepted] == [202] * 3
    refused = client.post(URL, content=slice_png(), headers=headers)
    problem(refused, 503, "busy")
    assert int(refused.headers["retry-after"]) > 0
    gate.open.set()
    for response in accepted:
        until(client, response.headers["location"], lambda a: a["status"] == "succeeded")
    assert client.post(URL, content=slice_png(), headers=PNG).status_code == 201


class Disk:
    """Fills and empties for everything that jobs write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full, self.met = False, threading.Event()
        for owner, names in (
            (Store, ("put", "check_records")),
            (Registry, ("claim", "conclude", "conclude_held", "choose_result", "hand_back")),
        ):
            for name in names:
                monkeypatch.setattr(owner, name, self._guarded(getattr(owner, name)))

    def _guarded(self, write: Callable[..., object]) -> Callable[..., object]:
        def guarded(*args: object, **named: object) -> object:
            if self.is_full:
                self.met.set()
                raise StorageFull("Expected room, found none.")
            return write(*args, **named)

        return guarded


@pytest.mark.parametrize("at", ["claim", "labels.z", "mask.dcm", "choose_result", "conclude_held"])
def test_a_full_disk_makes_a_job_wait(
    tmp_path: Path, study: bytes, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was accepted goes on once there is room, wherever it met the full disk."""
    for owner in (steps, worker):
        monkeypatch.setattr(owner, "AGAIN_S", 0.01)
    monkeypatch.setattr(worker, "LOOK_S", 0.05)
    disk = Disk(monkeypatch)
    owner, name = (Store, "put") if "." in at else (Registry, at)
    write = getattr(owner, name)

    def fills(*args: object) -> object:
        meant = str(args[1]).endswith(at) if "." in at else any(tmp_path.rglob("input"))
        if meant and not disk.met.is_set():
            disk.is_full = True
        return write(*args)

    monkeypatch.setattr(owner, name, fills)
    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        response = client.post(URL, content=study, headers=ZIP | {"Prefer": "respond-async"})
        assert disk.met.wait(WAIT_S)
        time.sleep(0.1)
        address = response.headers["location"]
        waits = ("queued", "running")
        assert client.get(address).json()["status"] in waits
        disk.is_full = False
        done = until(client, address, lambda answer: answer["status"] not in waits)
        assert done["status"] == "succeeded"
        assert client.get(f"{address}/mask.dcm").status_code == 200


def test_a_job_may_be_deleted_to_make_room(
    gated: tuple[TestClient, Gate], study: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delete needs no room in the store, also of a job that waits for some."""
    client, gate = gated
    disk = Disk(monkeypatch)
    response = client.post(URL, content=study, headers=ZIP | {"Prefer": "respond-async"})
    assert gate.entered.wait(WAIT_S)
    disk.is_full = True
    gate.open.set()
    assert disk.met.wait(WAIT_S)
    address = response.headers["location"]
    assert client.delete(address).status_code == 204
    problem(client.get(address), 404, "not_found")
    assert not [path for path in (tmp_path / "segmentations").rglob("*") if path.is_file()]


def test_shutdown_and_start_again(tmp_path: Path, study: bytes) -> None:
    """A job that is cut off by the end of the service is finished by the next start."""
    gate = Gate()
    with running(tmp_path, gate.model) as client:
        accepted = client.post(URL, content=study, headers=ZIP | {"Prefer": "respond-async"})
        assert gate.entered.wait(WAIT_S)
        threading.Timer(0.2, gate.open.set).start()
    (kept,) = (tmp_path / "segmentations").glob(f"{accepted.json()['id']}-*")
    assert {path.name for path in kept.iterdir()} == {"input"}
    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        done = until(
            client, accepted.headers["location"], lambda answer: answer["status"] == "succeeded"
        )
        assert done["findings"]["tumor"]["lesion_count"] == 3


def test_draining_takes_nothing_new(tmp_path: Path) -> None:
    """Once the service is asked to end it is not ready, and refuses new work at once."""
    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        client.app.state.resources.drain()
        problem(client.get("/health/ready"), 503, "shutting_down")
        assert client.get("/health/live").status_code == 200
        problem(client.post(URL, content=slice_png(), headers=PNG), 503, "shutting_down")
        problem(client.post("/v1/segment", content=slice_png(), headers=PNG), 503, "shutting_down")


def test_job_that_nobody_works_on_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that breaks off where nothing may is repeated, and given up after so many times."""
    monkeypatch.setattr(housekeeping, "BEAT_S", 0.02)
    runs = []

    def broken(self: Worker, row: JobRow, live: object) -> None:
        runs.append(row.id)
        raise RuntimeError

    perform = Worker._perform
    with running(tmp_path, FakeSegmenter(by_threshold)) as client, monkeypatch.context() as patched:
        patched.setattr(Worker, "_perform", broken)
        headers = PNG | {"Prefer": "respond-async"}
        address = client.post(URL, content=slice_png(), headers=headers).headers["location"]
        deadline = time.monotonic() + 3 * WAIT_S  # each try begins by the clock
        while len(runs) < MAX_ATTEMPTS:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        patched.setattr(Worker, "_perform", perform)
        lost = until(client, address, lambda answer: answer["status"] == "failed")
        assert lost["error"]["code"] == "abandoned"
        assert client.post(URL, content=slice_png(), headers=PNG).status_code == 201


def test_job_that_the_engine_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps no place: after a while it waits again."""
    monkeypatch.setattr(housekeeping, "BEAT_S", 0.02)
    monkeypatch.setattr(worker, "BEGIN_S", 0.1)
    start, lost = Engine.start, []

    def loses_the_first(opened: Engine, job_id: str, is_first: bool) -> None:
        if lost:
            start(opened, job_id, is_first)
        else:
            lost.append(job_id)

    monkeypatch.setattr(Engine, "start", loses_the_first)
    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        assert client.post(URL, content=slice_png(), headers=PNG).status_code == 201
    assert lost


def test_job_of_another_format_is_begun_anew(
    tmp_path: Path, study: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an older service wrote down of its steps is not gone on with."""
    gate = Gate()
    with monkeypatch.context() as older:
        older.setattr(engine, "FORMAT", "0")
        with running(tmp_path, gate.model) as client:
            accepted = client.post(URL, content=study, headers=ZIP | {"Prefer": "respond-async"})
            assert gate.entered.wait(WAIT_S)
            threading.Timer(0.2, gate.open.set).start()
    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        address = accepted.headers["location"]
        until(client, address, lambda answer: answer["status"] == "succeeded")


def test_an_empty_file_beside_others(tmp_path: Path, clean_volume: Volume) -> None:
    """It counts for nothing, also where the input is read from the store again."""
    files = [to_bytes(one) for one in series(clean_volume)]
    form = [("files", (f"{number}", data)) for number, data in enumerate([*files, b""])]
    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        client.app.state.resources.jobs._fresh._most = 0  # nothing is kept in memory
        answer = client.post(URL, files=form)
        assert answer.status_code == 201, answer.text
        assert answer.json()["findings"]["tumor"]["lesion_count"] == 3


def test_job_of_a_newer_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that this version cannot read fails, is not listed, and can be deleted."""
    unknown = "update lts_jobs set request = replace(request, '{\"id', '{\"new\":1,\"id')"
    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        registry = client.app.state.resources.jobs._registry
        with monkeypatch.context() as held:
            held.setattr(Worker, "_claim", lambda _: None)
            headers = PNG | {"Prefer": "respond-async"}
            job_id = client.post(URL, content=slice_png(), headers=headers).json()["id"]
            with registry._database.writing() as connection:
                assert connection.exec_driver_sql(unknown).rowcount == 1
        deadline = time.monotonic() + WAIT_S
        while (row := registry.get(job_id)).finished_ms is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert (row.status, row.ended.error.code) == ("failed", "internal_error")
        assert client.get(URL).json()["items"] == []
        problem(client.get(f"{URL}/{job_id}"), 404, "not_found")
        assert client.delete(f"{URL}/{job_id}").status_code == 204
        assert registry.get(job_id) is None


def test_transient_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not listed, and deleted soon after its end though its request came to nothing."""
    monkeypatch.setattr(housekeeping, "BEAT_S", 0.02)
    monkeypatch.setattr(housekeeping, "SWEEP_S", 0.02)
    monkeypatch.setattr(housekeeping, "TRANSIENT_S", 1)
    with (
        running(tmp_path, FakeSegmenter(by_threshold), retention_h=0) as client,
        Spool(tmp_path / "spool") as spool,
    ):
        kept = client.post(URL, content=slice_png(), headers=PNG).json()["id"]
        spool.begin()
        spool.write(slice_png())
        jobs = client.app.state.resources.jobs
        address = f"{URL}/{jobs.accept(spool, Options(), None, is_transient=True)}"
        until(client, address, lambda answer: answer["status"] == "succeeded")
        assert [item["id"] for item in client.get(URL).json()["items"]] == [kept]
        until(client, address, lambda answer: answer.get("code") == "not_found")
        assert client.get(f"{URL}/{kept}").status_code == 200
    assert [path.name for path in (tmp_path / "segmentations").glob("*-*")] == [
        path.name for path in (tmp_path / "segmentations").glob(f"{kept}-*")
    ]


@pytest.mark.parametrize("has_room", [True, False])
def test_repeat_of_a_request_that_is_not_yet_accepted(
    tmp_path: Path, has_room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told of a job once there surely is one: the first one's, or else its own."""
    entered, open_ = threading.Event(), threading.Event()
    put = Store.put

    def slow(store: Store, key: str, data: object) -> None:
        if key.endswith("/input") and not entered.is_set():
            entered.set()
            assert open_.wait(WAIT_S)
            if not has_room:
                raise StorageFull("Expected room, found none.")
        put(store, key, data)

    monkeypatch.setattr(Store, "put", slow)
    headers = PNG | {"Idempotency-Key": "twice", "Prefer": "respond-async"}
    with running(tmp_path, FakeSegmenter(by_threshold)) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, URL, content=slice_png(), headers=headers)
        assert entered.wait(WAIT_S)
        again = pool.submit(client.post, URL, content=slice_png(), headers=headers)
        time.sleep(0.2)
        assert not again.done()
        open_.set()
        assert first.result(WAIT_S).status_code == (202 if has_room else 507)
        assert again.result(WAIT_S).status_code == 202
        address = again.result().headers["location"]
        until(client, address, lambda answer: answer["status"] == "succeeded")


def test_key_is_taken_anew_while_its_job_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new request waits for the delete, and then its job runs."""
    entered, open_ = threading.Event(), threading.Event()
    delete = DBOS.delete_workflow

    def slow(job_id: str) -> None:
        if not entered.is_set():
            entered.set()
            assert open_.wait(WAIT_S)
        delete(job_id)

    headers = PNG | {"Idempotency-Key": "again", "Prefer": "wait=5"}
    with running(tmp_path, FakeSegmenter(by_threshold)) as client, ThreadPoolExecutor(2) as pool:
        done = client.post(URL, content=slice_png(), headers=headers)
        monkeypatch.setattr(DBOS, "delete_workflow", slow)
        deleted = pool.submit(client.delete, done.headers["location"])
        assert entered.wait(WAIT_S)
        anew = pool.submit(client.post, URL, content=slice_png(9), headers=headers)
        time.sleep(0.2)
        open_.set()
        assert deleted.result(WAIT_S).status_code == 204
        if anew.result(WAIT_S).status_code == 409:  # it came before the delete's end
            problem(anew.result(), 409, "idempotency_conflict")
            anew = pool.submit(client.post, URL, content=slice_png(9), headers=headers)
        assert anew.result(WAIT_S).json()["status"] == "succeeded"


def test_delete_that_is_cut_off_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the engine finds no room to forget a job it is 507, and the job can still be named."""

    def full(_: str) -> None:
        raise OperationalError("", {}, Exception("disk is full"))

    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        address = client.post(URL, content=slice_png(), headers=PNG).headers["location"]
        with monkeypatch.context() as patched:
            patched.setattr(DBOS, "delete_workflow", full)
            problem(client.delete(address), 507, "storage_full")
        assert client.delete(address).status_code == 204
        problem(client.get(address), 404, "not_found")
        assert client.get(URL).json()["items"] == []


def test_repeat_finds_a_full_queue(gated: tuple[TestClient, Gate]) -> None:
    """A repeat gets the first answer although nothing new would be taken."""
    client, _ = gated
    headers = PNG | {"Prefer": "respond-async"}
    keyed = headers | {"Idempotency-Key": "first"}
    first = client.post(URL, content=slice_png(1), headers=keyed)
    for level in (2, 3):
        assert client.post(URL, content=slice_png(level), headers=headers).status_code == 202
    problem(client.post(URL, content=slice_png(4), headers=headers), 503, "busy")
    again = client.post(URL, content=slice_png(1), headers=keyed)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])


def test_no_word_of_the_patient(
    tmp_path: Path, study: bytes, clean_volume: Volume, logged: io.StringIO
) -> None:
    """No log, metric, database names the patient; of what is kept only what a record needs."""
    damaged = [to_bytes(dataset) for dataset in series(clean_volume)]
    damaged[3] = damaged[3][:-300]
    names = [PHANTOM_NAME.split("^")[0], PHANTOM_NAME.split("^")[1]]
    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        done = client.post(URL, content=study, headers=ZIP)
        failed = client.post(URL, content=to_zip(damaged), headers=ZIP)
        assert (done.status_code, failed.status_code) == (201, 422)
        shown = [done.text, failed.text, client.get("/metrics").text, client.get(URL).text]
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    written = logged.getvalue()
    assert '"event": "job ended"' in written
    assert '"stages": {"read": ' in written
    for name in names:
        assert not any(name in text for text in (written, *shown))
        assert not any(name in str(path) for path in kept)
        holding = {path.name for path, content in kept.items() if name.encode() in content}
        assert holding <= {
            *("mask.dcm", "report.dcm", "rtstruct.dcm", "report.fhir.json", "headers.json")
        }
