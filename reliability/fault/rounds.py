"""Rounds on one process with SQLite: it is killed, stopped, and has a disk that is full."""

import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

from reliability.fault.audit import differing
from reliability.fault.bench import AT, FINISH_S, Bench, accepted, create
from reliability.process import Answer, Server, check
from reliability.studies import Study
from service.settings import Settings

KILLS = 3
"""Of one round: a job that has ended its process five times would be given up."""

DISK_MB = 48

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # a small disk, not a place for secrets


def kill_round(bench: Bench) -> None:
    """Jobs of every format; the process is killed while it takes them and works on them."""
    jobs: dict[str, Study] = {}
    with bench.data_folder() as folder:
        for _ in range(bench.rng.randint(1, KILLS)):
            with Server.start(folder) as server:
                poster = threading.Thread(target=_post_some, args=(bench, server, jobs))
                poster.start()
                time.sleep(bench.rng.uniform(0.05, 2.5))
                server.kill()
                poster.join()
                bench.count("kills")
        with Server.start(folder) as server:
            finish(bench, server, folder, jobs)


def _post_some(bench: Bench, server: Server, jobs: dict[str, Study]) -> None:
    """Post until the service dies; what it answered counts as accepted."""
    rng = random.Random(bench.rng.random())
    for _ in range(8):
        study = rng.choice(bench.studies)
        try:
            jobs[accepted(create(server, study))] = study
        except (OSError, HTTPException):
            return


def finish(bench: Bench, server: Server, folder: Path, jobs: Mapping[str, Study]) -> None:
    """Every accepted job succeeds, each of its objects is right, and deleting leaves nothing."""
    deadline = time.monotonic() + FINISH_S
    for job_id, study in jobs.items():
        job = await_success(server, job_id, study.name, deadline)
        compare(bench, folder, job_id, study, datetime.fromisoformat(job["created_at"]))
        bench.count("jobs that succeeded with the right bytes")
    found = server.ask("GET", f"{AT}?limit=200").json()["items"]
    ids = {item["id"] for item in found}
    check(ids >= jobs.keys(), "an accepted job is not listed")
    for job_id in ids:  # of a POST that was cut off before its answer, too
        await_success(server, job_id, "unanswered", deadline)
        check(server.ask("DELETE", f"{AT}/{job_id}").status == 204, "DELETE failed")
    check(server.ask("GET", AT).json()["items"] == [], "deleted jobs are listed")
    left = [path for path in (folder / "segmentations").rglob("*") if path.is_file()]
    left += list((folder / "uploads").iterdir())
    check(not left, f"files are left: {[path.name for path in left]}")


def await_success(server: Server, job_id: str, name: str, deadline: float) -> Any:
    """A job's document, once it has succeeded."""
    while True:
        answer = server.ask("GET", f"{AT}/{job_id}")
        check(answer.status == 200, f"job of {name}: its GET was answered with {answer.status}")
        job = answer.json()
        if job["status"] == "succeeded":
            return job
        check(job["status"] in ("queued", "running"), f"job of {name}: {job['error']}")
        check(time.monotonic() < deadline, f"job of {name}: still {job['status']}")
        time.sleep(0.05)


def compare(bench: Bench, folder: Path, job_id: str, study: Study, made_at: datetime) -> None:
    """What is kept of a job is one result, equal to an undisturbed run's."""
    runs = only_results(folder / "segmentations", job_id, study.name)
    check(len(runs) == 1, f"job of {study.name}: {len(runs)} results instead of one")
    found = {path.name: path.read_bytes() for path in runs[0].iterdir()}
    wrong = differing(found, bench.kept(study, made_at))
    check(not wrong, f"job of {study.name}: other bytes in {wrong}")


def only_results(store: Path, job_id: str, name: str) -> list[Path]:
    """The folders of a job's results, once its input and labels are deleted, which is done last."""
    deadline = time.monotonic() + 10
    while True:
        kept = list(store.glob(f"{job_id}-*/*"))
        if all(path.is_dir() for path in kept):
            return kept
        check(time.monotonic() < deadline, f"job of {name}: its input is still kept")
        time.sleep(0.02)


def term_round(bench: Bench) -> None:
    """SIGTERM while jobs run and a client waits: all is answered, and goes on at the next start."""
    jobs: dict[str, Study] = {}
    with bench.data_folder() as folder:
        with Server.start(folder) as server:
            for _ in range(4):
                study = bench.rng.choice(bench.studies)
                jobs[accepted(create(server, study))] = study
            waiting = bench.studies[0]
            answers: list[Answer] = []
            waiter = threading.Thread(
                target=lambda: answers.append(create(server, waiting, {"Prefer": "wait=120"}))
            )
            waiter.start()
            time.sleep(bench.rng.uniform(0.2, 1.5))
            code = server.terminate(Settings().grace_s + 30)
            waiter.join()
            check(code == 0, f"exit code {code} after SIGTERM")
            check(len(answers) == 1, "a waiting POST was cut off by SIGTERM")
            if answers[0].status != 503:  # it came after the signal
                jobs[accepted(answers[0])] = waiting
            bench.count("orderly ends")
        with Server.start(folder) as server:
            finish(bench, server, folder, jobs)


def disk_round(bench: Bench) -> None:
    """A small disk fills while jobs run: 507 and not ready, nothing lost, and on it goes."""
    with (
        small_disk(bench) as (folder, inside),
        Server.start(folder, prefix=inside, min_free_bytes=4 * 1024**2) as server,
    ):
        disk = Path(f"/proc/{server.process.pid}/root{folder}")
        for reserve in (3, 0):  # below the reserve, and with no byte left at all
            _fill_and_free(bench, server, disk, reserve * 1024**2)
        bench.count("full disks")


@contextmanager
def small_disk(bench: Bench) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """A data folder on a disk of some 48 MB, and the command inside which it is that.

    A file system of its own where this process may mount one in a new namespace, else the shared
    memory of a container, which is small. Raises `Wrong` where there is neither.
    """
    namespace = ("unshare", "--user", "--map-root-user", "--mount")
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode == 0:
        with bench.data_folder() as folder:
            mount = f"mkdir -p {folder} && mount -t tmpfs -o size={DISK_MB}m none {folder}"
            yield folder, (*namespace, "sh", "-c", f'{mount} && exec "$@"', "sh")
        return
    check(
        SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).total <= 2 * DISK_MB * 1024**2,
        "no small disk: expected a mount namespace, or a small /dev/shm",
    )
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        yield Path(folder) / "data", ()


def _fill_and_free(bench: Bench, server: Server, disk: Path, left_bytes: int) -> None:
    jobs = {}
    for study in bench.rng.sample(bench.studies, 3):
        jobs[accepted(create(server, study))] = study
    ballast = disk / "ballast"
    _fill(ballast, left_bytes)
    ready, refused = server.ask("GET", "/health/ready"), create(server, bench.studies[0])
    for what, answer in (("ready", ready), ("POST", refused)):
        check(answer.status == 507, f"{what} is {answer.status} while the disk is full")
        check(answer.json()["code"] == "storage_full", f"{what} says {answer.json()['code']}")
    check(server.ask("GET", "/health/live").status == 200, "not live while the disk is full")
    time.sleep(bench.rng.uniform(0.5, 3))
    for job_id in jobs:
        waits = server.ask("GET", f"{AT}/{job_id}").json()["status"] != "succeeded"
        bench.count("jobs unfinished while the disk was full", waits)
    ballast.unlink()
    check(server.ask("GET", "/health/ready").status == 200, "not ready once there is room")
    finish(bench, server, disk, jobs)


def _fill(ballast: Path, left_bytes: int) -> None:
    """Write a file until only so many bytes are free."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while (free := shutil.disk_usage(ballast.parent).free) > left_bytes:
            file.write(bytes(min(free - left_bytes, 1 << 20)))
