"""`python -m benchmarks.listen`: instances a minute over parallel associations, and none lost.

`python -m service listen` is killed by `kill -9` in the middle and started again. Each association
sends a series of its own, one instance after the other, and what was not acknowledged once more.
What a stand-in for the service gets in the end is compared with what was acknowledged.
"""

import copy
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

import typer
from pydicom import Dataset, dcmread
from pydicom.uid import UID, generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association

from benchmarks.load import free_port
from service.phantom import Phantom
from service.phantom_files import ct_datasets

ROOT = Path(__file__).parent.parent
START_S, SEND_S, QUIET_S = 60, 300, 5
LEAST_A_MINUTE = 1000
CALLER, TITLE = "SCANNER", "LIVERTUMOR"


@dataclass(frozen=True)
class Posted:
    """A request that the stand-in for the service got; its body is a file."""

    headers: Mapping[str, str]
    parameters: Mapping[str, str]
    body: Path
    uids: tuple[str, ...]

    def files(self) -> dict[str, bytes]:
        """Each file of the archive by its name, in the archive's order."""
        with tarfile.open(self.body) as archive:
            opened = {member.name: archive.extractfile(member) for member in archive}
            return {name: file.read() for name, file in opened.items() if file is not None}


@dataclass(frozen=True)
class Reply:
    """An answer of the stand-in; `job` names a segmentation."""

    status: int
    body: bytes = b"{}"
    media_type: str = "application/problem+json"
    job: bool = False


_ACCEPTED = Reply(202, job=True)


@dataclass
class Recorder:
    """A stand-in for the service: gives the replies that it has, and then accepts everything.

    While it is silent nobody hears that their series was accepted.
    """

    folder: Path
    silent: bool = False
    replies: list[Reply] = field(default_factory=list)
    posted: list[Posted] = field(default_factory=list)

    @contextmanager
    def serving(self, port: int = 0) -> Iterator[str]:
        """Listen on loopback; gives the address."""
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                recorder.take(self)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()

    def take(self, request: BaseHTTPRequestHandler) -> None:
        body, rest = self.folder / uuid.uuid4().hex, int(request.headers["Content-Length"])
        with body.open("wb") as file:
            while rest and (chunk := request.rfile.read(min(rest, 1 << 20))):
                rest -= file.write(chunk)
        if rest:
            return  # whoever sent it was killed
        path, query = urlsplit(request.path)[2:4]
        parameters = dict(parse_qsl(query))
        self.posted.append(Posted(dict(request.headers), parameters, body, uids_in(body)))
        if self.silent:
            return
        with suppress(ConnectionError):  # whoever sent it was killed since
            self._answer(request, path)

    def _answer(self, request: BaseHTTPRequestHandler, path: str) -> None:
        reply = self.replies.pop(0) if self.replies else _ACCEPTED
        request.send_response(reply.status)
        if reply.job:  # of the key alone, as the service does it
            job_id = uuid.uuid5(uuid.NAMESPACE_OID, request.headers["Idempotency-Key"]).hex
            request.send_header("Location", f"{path}/{job_id}")
        request.send_header("Content-Type", reply.media_type)
        request.send_header("Content-Length", str(len(reply.body)))
        request.end_headers()
        request.wfile.write(reply.body)

    def uids(self) -> Counter[str]:
        """In how many segmentations each instance is: a key that is repeated makes no other one."""
        by_key = {posted.headers["Idempotency-Key"]: posted for posted in self.posted}
        return Counter(uid for posted in by_key.values() for uid in posted.uids)


@dataclass
class Listener:
    """`python -m service listen` on loopback, which may be killed and started on its data again."""

    folder: Path
    service_url: str
    settings: Mapping[str, object] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    @property
    def log(self) -> Path:
        return self.folder / "listen.log"

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The process once it answers; it is killed at the end."""
        pacs = self.folder / "pacs.toml"
        pacs.write_text(f"[callers.{CALLER}]\n")
        settings = {
            "data_dir": self.folder / "data",
            "pacs_file": pacs,
            "service_url": self.service_url,
            "listen_port": self.port,
            "listen_min_free_bytes": 0,
            **self.settings,
        }
        environment = {f"LTS_{name.upper()}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "service", "listen"]
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, env=os.environ | environment, cwd=ROOT, stderr=log)
        try:
            if not wait(lambda: process.poll() is not None or self._answers()) or process.poll():
                raise RuntimeError(f"the listener ended: {self.log.read_text()}")
            yield process
        finally:
            process.kill()
            process.wait(START_S)

    def _answers(self) -> bool:
        association = associate(self.port, [])
        if association is not None:
            association.release()
        return association is not None


@dataclass
class Sender:
    """Sends instances over one association at a time until each is acknowledged."""

    port: int
    datasets: Sequence[Dataset]
    acknowledged: dict[str, float] = field(default_factory=dict)
    """When each was, on the monotonic clock."""

    def send(self) -> None:
        deadline = time.monotonic() + SEND_S
        while len(self.acknowledged) < len(self.datasets) and time.monotonic() < deadline:
            association = associate(self.port, self.datasets[:1])
            if association is None:
                time.sleep(0.1)
                continue
            with parked(association):
                self._send_over(association)
            association.release()

    def _send_over(self, association: Association) -> None:
        for dataset in self.datasets:
            uid = str(dataset.SOPInstanceUID)
            if uid not in self.acknowledged:
                if store(association, dataset) != 0:
                    return
                self.acknowledged[uid] = time.monotonic()


def uids_in(archive: Path) -> tuple[str, ...]:
    """SOP Instance UIDs of a tar archive's files."""
    with tarfile.open(archive) as opened:
        files = (opened.extractfile(member) for member in opened)
        headers = [dcmread(file, stop_before_pixels=True) for file in files if file is not None]
    return tuple(str(header.SOPInstanceUID) for header in headers)


def associate(
    port: int, datasets: Sequence[Dataset], caller: str = CALLER, title: str = TITLE
) -> Association | None:
    """An association to send these, and for C-ECHO; None where there is none to be had."""
    entity = AE(caller)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
    entity.add_requested_context(UID("1.2.840.10008.1.1"))
    for sop_class, syntax in {(it.SOPClassUID, it.file_meta.TransferSyntaxUID) for it in datasets}:
        entity.add_requested_context(sop_class, syntax)
    handlers: list[evt.EventHandlerType] = [(evt.EVT_CONN_OPEN, _close_in_the_end)]
    association = entity.associate("127.0.0.1", port, ae_title=title, evt_handlers=handlers)
    return association if association.is_established else None


def _close_in_the_end(event: evt.Event) -> None:
    """Pynetdicom forgets to close a socket where the peer was faster."""
    connection = event.assoc.dul.socket.socket
    event.assoc.bind(evt.EVT_CONN_CLOSE, lambda _: connection.close())


@contextmanager
def parked(association: Association) -> Iterator[None]:
    """Keep the association's own thread from answers that a request waits for.

    pynetdicom pauses it for each request, and once in some thousand it has not stopped yet, takes
    the answer for unexpected, and the request waits for its timeout.
    """
    stopping, stopped = association._reactor_checkpoint, threading.Event()
    stopping.clear()
    time.sleep(0.05)
    association._reactor_checkpoint = stopped  # which the requests clear and set
    try:
        yield
    finally:
        association._reactor_checkpoint = stopping
        for checkpoint in (stopped, stopping):
            checkpoint.set()


def store(association: Association, dataset: Dataset) -> int | None:
    """The status of one C-STORE; None without an answer."""
    try:
        return association.send_c_store(dataset).get("Status")
    except RuntimeError:  # the association is over
        return None


def wait(condition: Callable[[], object], within_s: float = START_S) -> bool:
    """Until the condition holds, but no longer than that; whether it held."""
    deadline = time.monotonic() + within_s
    while not (holds := bool(condition())) and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds


def series_of(template: Dataset, instances: int) -> list[Dataset]:
    """A series of copies of a slice, each an instance of its own."""
    series, made = generate_uid(), []
    for number in range(1, instances + 1):
        dataset = copy.deepcopy(template)
        dataset.SeriesInstanceUID, dataset.InstanceNumber = series, number
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        made.append(dataset)
    return made


def send_through_a_kill(
    listener: Listener, senders: Sequence[Sender], recorder: Recorder, posted_s: float
) -> None:
    """Have all send at once, kill the listener when half is acknowledged, and start it again.

    Ends when everything was posted, or that long after the last acknowledgement.
    """
    total = sum(len(sender.datasets) for sender in senders)
    with ThreadPoolExecutor(len(senders)) as pool:
        with listener.running():
            sending = [pool.submit(sender.send) for sender in senders]
            wait(lambda: sum(len(sender.acknowledged) for sender in senders) >= total / 2, SEND_S)
        with listener.running():
            for sent in sending:
                sent.result()
            wait(lambda: len(recorder.uids()) >= total, posted_s)


def main(
    instances: Annotated[int, typer.Option(min=4, help="of all series together")] = 1000,
    associations: Annotated[int, typer.Option(min=1)] = 4,
    size: Annotated[int, typer.Option(min=16, help="rows and columns")] = 512,
) -> None:
    """Print a table for docs/performance.md; 1 where instances are lost, or fewer than asked."""
    drawn = ct_datasets(Phantom.draw(7).sample(1, size, seed=7)[0])[0]
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder))
        with recorder.serving() as address:
            listener = Listener(Path(folder), address, {"listen_quiet_s": QUIET_S})
            shares = [series_of(drawn, instances // associations) for _ in range(associations)]
            senders = [Sender(listener.port, share) for share in shares]
            send_through_a_kill(listener, senders, recorder, START_S)
    acknowledged = [uid for sender in senders for uid in sender.acknowledged]
    times = [at for sender in senders for at in sender.acknowledged.values()]
    a_minute = 60 * len(times) / (max(times) - min(times))
    posted = recorder.uids()
    lost = len(acknowledged) - len(posted.keys() & set(acknowledged))
    print(
        f"{associations} associations, {len(acknowledged)} instances of {size} x {size}, one kill"
    )
    print("\n| What | Figure |\n| --- | --- |")
    print(f"| instances a minute, the restart included | {a_minute:.0f} |")
    print(f"| longest time without an acknowledgement | {longest_gap_s(times):.1f} s |")
    print(f"| acknowledged | {len(acknowledged)} |")
    print(f"| lost | {lost} |")
    print(f"| doubled | {posted.total() - len(posted)} |")
    if lost or a_minute < LEAST_A_MINUTE:
        raise typer.Exit(1)


def longest_gap_s(times: Sequence[float]) -> float:
    ordered = sorted(times)
    return max(later - earlier for earlier, later in pairwise(ordered))


if __name__ == "__main__":
    typer.run(main)
