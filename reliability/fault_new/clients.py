"""`make fault`: a real service is killed, stopped, starved of disk and lied to, in rounds.

    make fault                   each round once
    make fault SECONDS=600       rounds in turn until the time is over
    make fault SEED=3            other moments

Rounds: `kill -9` at random moments; SIGTERM while jobs run; a full disk; clients that leave, lie
about lengths, send slowly or speak no HTTP, beside a good client that must always get its answer.
What was accepted must succeed, and what is kept of it must equal an undisturbed run byte for byte.
"""

import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.memory import resident_mb
from reliability.process import Answer, Server, Wrong, check
from reliability.studies import Study, studies
from service.__main__ import DRAIN_S
from service.inference.batching import Batcher
from service.inference.session import ModelSession
from service.jobs.kept import keep
from service.jobs.records import INPUT, LABELS, OUTCOME, REQUEST, JobRequest
from service.pipeline import Options, Result, run
from service.settings import Settings
from service.store import Store

AT = "/v1/segmentations"
ASYNC = {"Prefer": "respond-async"}

FINISH_S = 120
"""For all accepted jobs of a round, once the service is left alone."""

KILLS = 3
"""Of one round: a job that has ended its process five times would be given up."""

DISK_MB = 48

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # a small disk, not a place for secrets


@dataclass
class Bench:
    """What all rounds share: studies, and what an undisturbed run makes of them."""

    folder: Path
    rng: random.Random
    studies: list[Study]
    results: Mapping[str, Result]
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str, more: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + more

    @contextmanager
    def data_folder(self) -> Iterator[Path]:
        """A new data folder; the service's log lies beside it."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            yield Path(folder) / "data"

    def kept(self, study: Study, request: JobRequest) -> dict[str, bytes]:
        """The objects that a job of this study must have left, but for what tells its times."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            keep(Store(Path(folder), 0), request.id, self.results[study.name], request.created_at)
            return {path.name: path.read_bytes() for path in (Path(folder) / request.id).iterdir()}


def undisturbed(wanted: list[Study]) -> dict[str, Result]:
    """Every study through the pipeline in this process, alone."""
    settings = Settings(device="cpu")
    batcher = Batcher(ModelSession.open(settings.model, "cpu"), settings.batch_slices)
    try:
        return {study.name: run(study.files, Options(), batcher, settings) for study in wanted}
    finally:
        batcher.close()


def create(server: Server, study: Study, headers: Mapping[str, str] = ASYNC) -> Answer:
    return server.ask("POST", AT, study.body, {"Content-Type": study.media_type, **headers})


def accepted(answer: Answer) -> str:
    """The id of a job that was accepted. Raises `Wrong` for any other answer."""
    check(answer.status in (201, 202), f"a good study was answered with {answer.status}")
    return str(answer.json()["id"])


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
        await_success(server, job_id, study.name, deadline)
        compare(bench, folder, job_id, study)
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


def await_success(server: Server, job_id: str, name: str, deadline: float) -> None:
    while True:
        answer = server.ask("GET", f"{AT}/{job_id}")
        check(answer.status == 200, f"job of {name}: its GET was answered with {answer.status}")
        job = answer.json()
        if job["status"] == "succeeded":
            return
        check(job["status"] in ("queued", "running"), f"job of {name}: {job['error']}")
        check(time.monotonic() < deadline, f"job of {name}: still {job['status']}")
        time.sleep(0.05)


def compare(bench: Bench, folder: Path, job_id: str, study: Study) -> None:
    """What is kept of a job equals an undisturbed run's."""
    at = folder / "segmentations" / job_id
    deadline = time.monotonic() + 10
    while any((at / name).exists() for name in (INPUT, LABELS)):  # deleted after the outcome
        check(time.monotonic() < deadline, f"job of {study.name}: its input is still kept")
        time.sleep(0.02)
    found = {path.name: path.read_bytes() for path in at.iterdir()}
    request = JobRequest.model_validate_json(found.pop(REQUEST))
    found.pop(OUTCOME)
    expected = bench.kept(study, request)
    wrong = [name for name in found.keys() | expected if found.get(name) != expected.get(name)]
    check(not wrong, f"job of {study.name}: other bytes in {sorted(wrong)}")


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
            code = server.terminate(DRAIN_S + 30)
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


def client_round(bench: Bench) -> None:
    """Every way in which a client can be bad, while a good one works."""
    with bench.data_folder() as folder:
        limits = {"upload_grace_s": 1, "min_upload_bytes_per_s": 4096, "wait_s": 60}
        with Server.start(folder, **limits) as server, good_client(bench, server):
            idle_mb = resident_mb(server.process.pid, "VmRSS")
            exchanges = list(raw_exchanges(bench.studies[-1].body))
            bench.rng.shuffle(exchanges)
            for exchange in exchanges:
                try_raw(server, exchange)
                bench.count("bad requests")
            vanish(bench, server)
            grown = resident_mb(server.process.pid, "VmRSS") - idle_mb
            check(grown < 200, f"bad clients left {grown:.0f} MB")
            _no_connections_left(server)


@dataclass(frozen=True)
class Raw:
    """Bytes on a socket, and the statuses that may answer them; 0 is a closed connection."""

    name: str
    pieces: tuple[bytes, ...]
    statuses: tuple[int, ...]
    gap_s: float = 0.0


def raw_exchanges(png: bytes) -> Iterator[Raw]:
    """Lies about length, slow bodies, broken HTTP; each must end in moments."""

    def post(headers: str, *body: bytes) -> tuple[bytes, ...]:
        start = (
            "POST /v1/segment HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: image/png"
        )
        return (f"{start}\r\n{headers}\r\n\r\n".encode(), *body)

    size = len(png)
    yield Raw("a good one", post(f"Content-Length: {size}", png), (200,))
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (size, png)
    yield Raw("a good one in chunks", post("Transfer-Encoding: chunked", chunked), (200,))
    yield Raw("length too long", post(f"Content-Length: {size + 50_000}", png), (408,))
    yield Raw("length too short", post(f"Content-Length: {size // 2}", png), (400, 422))
    bad_lengths = ("-5", "+5", "0x10", "5, 6", "9" * 30, "5\r\nContent-Length: 6", "five", "5.0",
                   "5\r\nTransfer-Encoding: chunked")  # fmt: skip
    for length in bad_lengths:
        yield Raw(f"length {length!r}", post(f"Content-Length: {length}", png), (400,))
    yield Raw("length of terabytes", post("Content-Length: 9999999999999", png), (413,))
    yield Raw("no length", post("X-A: a"), (400,))
    yield Raw("chunk of no size", post("Transfer-Encoding: chunked", b"zz\r\nabc"), (400,))
    yield Raw("vast chunk", post("Transfer-Encoding: chunked", b"F" * 17 + b"\r\nabc"), (400,))
    yield Raw("unknown coding", post("Transfer-Encoding: gzip", png), (400,))
    drops = tuple(png[at : at + 1] for at in range(60))
    yield Raw("slow body", post(f"Content-Length: {size}", *drops), (408,), gap_s=0.05)
    yield Raw("slow form", (
        b"POST /v1/segmentations HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n", b"Content", b"-D",
    ), (408,), gap_s=0.1)  # fmt: skip
    yield Raw("a form cut in a header", (
        b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposi",
    ), (400,))  # fmt: skip
    health = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    yield Raw("TLS", (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,), (400,))
    yield Raw("noise", (random.Random(1).randbytes(5000),), (400,))
    yield Raw("HTTP/9.9", (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",), (400,))
    yield Raw("NUL in a header", (health + b"X-A: a\0b\r\n\r\n",), (400,))
    yield Raw("address of no kind", (b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",), (400,))
    yield Raw("address not ASCII", (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",), (400,))
    yield Raw("half a character", (
        b"GET /v1/segmentations/%ed%a0%80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ), (404,))  # fmt: skip
    yield Raw("CONNECT", (b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",), (400,))
    yield Raw("TRACE", (b"TRACE /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",),
              (405,))  # fmt: skip
    yield Raw("long header", (health + b"X-A: ", *[b"a" * 65536] * 4), (431,), gap_s=0.01)
    yield Raw("many headers", (health, *[b"X-A: a\r\n" * 9000] * 4), (431,), gap_s=0.01)
    yield Raw("endless header", (health + b"X-A: ", b"a" * (64 << 20)), (431, 0))


def try_raw(server: Server, raw: Raw) -> None:
    """Send, and check what comes back and how soon."""
    started = time.monotonic()
    answer = _talk(server.port, raw)
    seconds = time.monotonic() - started
    status = int(answer[9:12]) if answer[9:12].isdigit() else 0
    check(status in raw.statuses, f"{raw.name}: {status} instead of {raw.statuses}")
    if status >= 400:
        check(
            b"\r\ncontent-type: application/problem+json\r\n" in answer, f"{raw.name}: no problem"
        )
    check(seconds < 20, f"{raw.name}: {seconds:.0f} s")


def _talk(port: int, raw: Raw) -> bytes:
    answer = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        reader = threading.Thread(target=_read_all, args=(connection, answer))
        reader.start()
        with suppress(OSError):  # refused while it was sent
            for piece in raw.pieces:
                connection.sendall(piece)
                time.sleep(raw.gap_s)
        reader.join(20)
    return bytes(answer)


def _read_all(connection: socket.socket, answer: bytearray) -> None:
    with suppress(OSError):
        while data := connection.recv(65536):
            answer += data


def vanish(bench: Bench, server: Server) -> None:
    """Clients that leave in the middle of an upload, and while they wait for a result."""
    study = bench.studies[0]
    for path in ("/v1/segment", AT):
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {study.media_type}\r\n"
            f"Content-Length: {len(study.body)}\r\n\r\n"
        ).encode()
        for share in (0.0, 0.5, 1.0):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
                connection.sendall(head + study.body[: int(share * len(study.body))])
                time.sleep(bench.rng.uniform(0, 0.4))
                if bench.rng.random() < 0.5:  # without a word, as a crash does
                    connection.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" + bytes(4)
                    )
            bench.count("clients that left")


def _no_connections_left(server: Server) -> None:
    """Nobody but the one who asks is admitted, and every descriptor of theirs is closed."""
    deadline = time.monotonic() + 60
    while True:
        text = server.ask("GET", "/metrics").body.decode()
        admitted = metric(text, "lts_admitted_requests")
        sockets = _sockets(server.process.pid)
        if admitted <= 1 and sockets <= 4:  # the listener, the good client, this one, one to spare
            return
        check(time.monotonic() < deadline, f"{admitted:.0f} admitted, {sockets} sockets are left")
        time.sleep(0.1)


def _sockets(pid: int) -> int:
    tcp = Path(f"/proc/{pid}/net/tcp").read_text()
    inodes = {line.split()[9] for line in tcp.splitlines()[1:]}
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            target = str(link.readlink())
            count += target.startswith("socket:[") and target[8:-1] in inodes
    return count


def metric(text: str, name: str) -> float:
    """A gauge or counter without labels in Prometheus' text."""
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


@contextmanager
def good_client(bench: Bench, server: Server) -> Iterator[None]:
    """A client that asks all along, and must always get the same right answer."""
    over, failures = threading.Event(), list[str]()
    study = bench.studies[-1]
    body, headers = study.body, {"Content-Type": study.media_type}
    expected = _numbers(server.ask("POST", "/v1/segment", body, headers).json())

    def work() -> None:
        while not over.is_set() and not failures:
            try:
                answer = server.ask("POST", "/v1/segment", body, headers)
            except (OSError, HTTPException) as error:
                failures.append(f"the good client got {type(error).__name__}")
                return
            if answer.status != 200 or _numbers(answer.json()) != expected:
                failures.append(f"the good client got {answer.status} or other numbers")
            bench.count("right answers to the good client")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    check(not failures, "; ".join(failures))


def _numbers(document: Mapping[str, Any]) -> Any:
    return document["findings"], document["contours"]


ROUNDS: Mapping[str, Callable[[Bench], None]] = {
    "kill -9": kill_round,
    "SIGTERM": term_round,
    "full disk": disk_round,
    "bad clients": client_round,
}


def main(
    seconds: Annotated[int, typer.Option(help="start no round after so many; 0: each once")] = 0,
    seed: Annotated[int, typer.Option(help="decides moments and orders")] = 1,
) -> None:
    """Run rounds, print what was done, and end with 1 at the first wrong."""
    print(f"seed {seed}", flush=True)
    started = time.monotonic()
    wanted = studies()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), random.Random(seed), wanted, undisturbed(wanted))
        rounds = 0
        while rounds < len(ROUNDS) or time.monotonic() - started < seconds:
            name = list(ROUNDS)[rounds % len(ROUNDS)]
            _run_round(bench, name)
            rounds += 1
    print(f"\n{rounds} rounds in {time.monotonic() - started:.0f} s")
    print("\n| What | Count |\n| --- | --- |")
    for what, count in bench.counts.items():
        print(f"| {what} | {count} |")
    print("\nnothing wrong")


def _run_round(bench: Bench, name: str) -> None:
    began = time.monotonic()
    try:
        ROUNDS[name](bench)
    except (Wrong, OSError, HTTPException, subprocess.TimeoutExpired, RuntimeError) as error:
        print(f"{name}: WRONG: {type(error).__name__}: {error}", flush=True)
        raise typer.Exit(1) from error
    bench.count(f"rounds of {name}")
    print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    typer.run(main)
