"""`kill -9` on the real process, at every place of a job: it is finished, to the same bytes."""

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from dicom_files import series, to_bytes, to_zip
from forked_service import check_log, forked
from jobs.killed_places import PACS_PLACES, PLACES
from pacs.servers import running as archive_of

from benchmarks.load import free_port
from service.inference.batching import Batcher
from service.inference.session import ModelSession
from service.jobs.kept import keep
from service.jobs.worker import MAX_ATTEMPTS
from service.phantom import Phantom
from service.pipeline import Options, run
from service.settings import Settings
from service.store import Store

WAIT_S = 60
BATCH_SLICES = 3


@pytest.fixture(scope="module")
def study(phantom: Phantom) -> bytes:
    """Six slices of the phantom."""
    return to_zip(to_bytes(dataset) for dataset in series(phantom.sample(6, 128, seed=1)[0]))


@contextmanager
def serving(
    folder: Path, model: Path, **environment: object
) -> Iterator[tuple[str, ForkServerProcess]]:
    """A real service process, and its address once it answers."""
    port, log = free_port(), folder.with_suffix(".log")
    settings = {
        "LTS_PORT": port, "LTS_DATA_DIR": folder, "LTS_DEVICE": "cpu",
        "LTS_MODEL": model, "LTS_BATCH_SLICES": BATCH_SLICES,
    }  # fmt: skip
    process = forked(["serve"], settings | environment, log)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_ready(address, process)
        yield address, process
    except BaseException:
        print(log.read_text(errors="replace")[-5000:] if log.exists() else "no log")
        raise
    finally:
        process.kill()
        process.join(WAIT_S)
    check_log(log)


def wait_killed(process: ForkServerProcess) -> None:
    process.join(WAIT_S)
    assert process.exitcode == -signal.SIGKILL


def wait_until_ready(address: str, process: ForkServerProcess) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        assert process.is_alive()
        try:
            urllib.request.urlopen(f"{address}/health/ready", timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError


def answer(request: urllib.request.Request | str) -> dict:
    with urllib.request.urlopen(request, timeout=WAIT_S) as response:
        return json.loads(response.read())


def post(address: str, body: bytes) -> None:
    """Have a job accepted; the process may die before it has said so."""
    headers = {"Content-Type": "application/zip", "Prefer": "respond-async"}
    with suppress(ConnectionError):
        answer(urllib.request.Request(f"{address}/v1/segmentations", body, headers))


@pytest.mark.parametrize("place", PLACES)
def test_killed_and_started_again(
    place: str, study: bytes, tmp_path: Path, quick_model: Path
) -> None:
    """The accepted job is finished by the next start, with the bytes of an undisturbed run."""
    with serving(tmp_path / "data", quick_model, KILL_AT=place) as (address, dying):
        post(address, study)
        wait_killed(dying)
    with serving(tmp_path / "data", quick_model) as (address, _):
        deadline = time.monotonic() + WAIT_S
        while True:
            (job,) = answer(f"{address}/v1/segmentations")["items"]
            (folder,) = (tmp_path / "data" / "segmentations").glob(f"{job['id']}-*")
            if job["status"] == "succeeded" and len([*folder.iterdir()]) == 1:
                break  # one result, whatever was begun before, and nothing else
            assert job["status"] in ("queued", "running", "succeeded"), job
            assert time.monotonic() < deadline
            time.sleep(0.05)
    (run,) = folder.iterdir()
    found = {path.name: path.read_bytes() for path in run.iterdir()}
    assert found == undisturbed(study, job["created_at"], quick_model, tmp_path / "expected")


@pytest.mark.parametrize("place", PACS_PLACES)
def test_killed_between_fetch_and_receipts(
    place: str, phantom: Phantom, tmp_path: Path, quick_model: Path
) -> None:
    """The next start goes on; the PACS may get an object twice, and then the same bytes."""
    datasets = series(phantom.sample(6, 128, seed=1)[0])
    pacs_file = tmp_path / "pacs.toml"
    with archive_of(datasets) as archive:
        pacs_file.write_text(f'[nodes.archive]\nurl = "{archive.url}"\n')
        body = {
            "origin": "archive",
            "study_instance_uid": archive.study,
            "series_instance_uid": archive.series,
        }
        file, folder = {"LTS_PACS_FILE": pacs_file}, tmp_path / "data"
        with serving(folder, quick_model, KILL_AT=place, **file) as (address, dying):
            post_json(f"{address}/v1/segmentations/dicomweb", body)
            wait_killed(dying)
        with serving(folder, quick_model, **file) as (address, _):
            deadline = time.monotonic() + WAIT_S
            while True:
                (job,) = answer(f"{address}/v1/segmentations")["items"]
                if job["status"] == "succeeded":
                    break
                assert job["status"] in ("queued", "running"), job
                assert time.monotonic() < deadline
                time.sleep(0.05)
        sent = [one for seen in archive.seen if seen.kind == "store" for one in seen.stored]
    assert job["delivery"]["complete"] is True
    by_uid: dict[str, set[bytes]] = {}
    for one in sent:
        by_uid.setdefault(str(one.SOPInstanceUID), set()).add(to_bytes(one))
    assert sorted(by_uid) == sorted(one["sop_instance_uid"] for one in job["delivery"]["receipts"])
    assert [len(contents) for contents in by_uid.values()] == [1, 1, 1]


def post_json(address: str, body: dict) -> None:
    headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
    with suppress(ConnectionError):
        answer(urllib.request.Request(address, json.dumps(body).encode(), headers))


def test_job_that_ends_its_process_is_given_up(
    study: bytes, tmp_path: Path, quick_model: Path
) -> None:
    """After as many starts as a job may have it has failed, and the service lives."""
    folder = tmp_path / "data"
    for start in range(MAX_ATTEMPTS):
        with serving(folder, quick_model, KILL_AT="inference") as (address, dying):
            if start == 0:
                post(address, study)
            wait_killed(dying)
    with serving(folder, quick_model) as (address, _):
        deadline = time.monotonic() + WAIT_S
        while (job := answer(f"{address}/v1/segmentations")["items"][0])["status"] in (
            "queued",
            "running",
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert job["status"] == "failed"
    assert f"{MAX_ATTEMPTS} times" in job["error"]["detail"]


def undisturbed(study: bytes, created_at: str, model: Path, folder: Path) -> dict[str, bytes]:
    """What the job should have kept, by the same flow in this process."""
    settings = Settings()
    batcher = Batcher(ModelSession.open(model, "cpu"), BATCH_SLICES)
    result = run([study], Options(), batcher, settings)
    keep(Store.open(None, folder, folder, 0), "run", result, datetime.fromisoformat(created_at))
    batcher.close()
    return {path.name: path.read_bytes() for path in (folder / "run").iterdir()}
