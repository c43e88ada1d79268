"""`python -m benchmarks.peers`: the service beside LitServe and BentoML, each alone, in turn.

The same clients send the same forms to each: a zip of a real CT series, and one PNG. Each server
runs the same file on the CPU with the same batch size. The service does more for it: it checks,
cleans up, measures and traces; the peers count voxels.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.error import HTTPError

import typer

from benchmarks.durable import phantom_png
from benchmarks.load import (
    REQUEST_S,
    calls_per_second,
    ct_zip,
    free_port,
    running_service,
    wait_until_ready,
)

PYTHON = Path(".venv-bench/bin/python")
STOP_S = 30
ANSWERS_AGREE = 0.05
"""Voxels of liver that may differ: the service removes what is no part of the organ."""

_BOUNDARY = "----benchmark"


@dataclass(frozen=True)
class Contender:
    """A server, how it starts, and how its answer says how many voxels are liver."""

    name: str
    start: Callable[[], AbstractContextManager[str]]
    liver_voxels: Callable[[Any], int]
    rates: dict[str, list[float]] = field(default_factory=dict)
    voxels: dict[str, int] = field(default_factory=dict)


def main(
    ct: Annotated[
        Path | None, typer.Option(help="zip of a CT series; default: the real CT")
    ] = None,
    clients: Annotated[int, typer.Option(help="at once")] = 8,
    series: Annotated[int, typer.Option(help="requests with the series, a round")] = 16,
    images: Annotated[int, typer.Option(help="requests with the image, a round")] = 160,
    rounds: Annotated[int, typer.Option(min=1, help="of all servers; the best one counts")] = 3,
) -> None:
    """Print a table for docs/performance.md."""
    inputs = {"series": (ct_zip(ct), series), "image": (phantom_png(512), images)}
    contenders = (
        Contender("this service", _service, lambda answer: answer["findings"]["liver"]["voxels"]),
        *(
            Contender(name, partial(_peer, *arguments, ready=ready), _counted)
            for name, arguments, ready in _PEERS
        ),
    )
    for _ in range(rounds):
        for contender in contenders:
            with contender.start() as url:
                for name, (data, requests) in inputs.items():
                    try:
                        _measure(contender, name, partial(post_form, url, data), clients, requests)
                    except HTTPError as error:
                        if contender is contenders[0]:
                            raise
                        print(f"{contender.name}, {name}: a round without a figure, {error}")
    _check_same_work(contenders)
    _print(contenders, clients, rounds)


def _measure(
    contender: Contender, name: str, call: Callable[[], bytes], clients: int, requests: int
) -> None:
    rate = calls_per_second(call, clients, requests)
    contender.rates.setdefault(name, []).append(rate)
    contender.voxels[name] = contender.liver_voxels(json.loads(call()))


def post_form(url: str, data: bytes) -> bytes:
    """Post a form with the file `files`; raises urllib.error.HTTPError for anything but success."""
    head = (
        f"--{_BOUNDARY}\r\nContent-Disposition: form-data; name=files; filename=input\r\n"
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    request = urllib.request.Request(  # noqa: S310  # the address is ours, on loopback
        url,
        data=head.encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode(),
        headers={"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"},
    )
    with urllib.request.urlopen(request, timeout=REQUEST_S) as response:  # noqa: S310
        return bytes(response.read())


def _counted(answer: dict[str, Any]) -> int:
    return int(answer["liver_voxels"])


_PEERS = (
    ("LitServe, 1 worker", ("benchmarks.peers.litserve_server", "{port}", "1"), "/health"),
    ("LitServe, 2 workers", ("benchmarks.peers.litserve_server", "{port}", "2"), "/health"),
    (
        "BentoML",
        (
            *("bentoml", "serve", "benchmarks.peers.bentoml_server:Segment", "--port", "{port}"),
            # Its services reuse connections for 15 s that they close after 5 (issue 4971).
            *("--timeout-keep-alive", "600"),
        ),
        "/readyz",
    ),
)
"""Name, module and arguments, and the path that says that it is ready."""


@contextmanager
def _service() -> Iterator[str]:
    with running_service(device="cpu") as address:
        yield f"{address}/v1/segment"


@contextmanager
def _peer(*arguments: str, ready: str) -> Iterator[str]:
    """A peer in its own environment and process group, without its telemetry."""
    port = free_port()
    command = [PYTHON, "-m", *(argument.format(port=port) for argument in arguments)]
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile() as log:
        environment = os.environ | {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": home}
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, process_group=0
        )
        try:
            wait_until_ready(process, f"http://127.0.0.1:{port}{ready}")
            yield f"http://127.0.0.1:{port}/segment"
        except BaseException:
            log.seek(0)
            print(log.read()[-2000:].decode(errors="replace"), file=sys.stderr)
            raise
        finally:
            _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a server and then what it left: LitServe's workers outlive it."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _check_same_work(contenders: tuple[Contender, ...]) -> None:
    """Raise RuntimeError where a server found another liver than the service did."""
    for name, ours in contenders[0].voxels.items():
        for contender in contenders[1:]:
            theirs = contender.voxels[name]
            if abs(theirs - ours) > ANSWERS_AGREE * ours:
                raise RuntimeError(f"expected {ours} voxels, found {theirs} of {contender.name}")


def _print(contenders: tuple[Contender, ...], clients: int, rounds: int) -> None:
    first = contenders[0]
    print(f"{clients} clients, best of {rounds} rounds; this service's rate over the other's")
    print("\n| Server | Series a minute | This service / it | Images a second | / |")
    print("| --- | --- | --- | --- | --- |")
    for contender in contenders:
        series, image = max(contender.rates["series"]), max(contender.rates["image"])
        ours = max(first.rates["series"]) / series, max(first.rates["image"]) / image
        print(
            f"| {contender.name} | {series * 60:.1f} | {ours[0]:.2f} "
            f"| {image:.1f} | {ours[1]:.2f} |"
        )


if __name__ == "__main__":
    typer.run(main)
