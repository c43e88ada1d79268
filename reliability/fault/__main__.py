"""The command: divides the time, runs all parts, and reports."""

import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from reliability.fault.bench import Bench, undisturbed
from reliability.fault.clients import client_round
from reliability.fault.phantoms import truth
from reliability.fault.rounds import disk_round, kill_round, term_round
from reliability.fault.stream import stream
from reliability.process import Wrong
from reliability.studies import studies

ROUNDS: Mapping[str, Callable[[Bench], None]] = {
    "kill -9": kill_round,
    "SIGTERM": term_round,
    "full disk": disk_round,
    "bad clients": client_round,
}

SHARES = {"PostgreSQL, several processes": 0.6, "SQLite, one process": 0.2}
"""Of the time; the rest is the rounds'."""

SHORTEST_S = 10
"""Of a stream's strikes."""


def main(
    seconds: Annotated[int, typer.Option(help="of strikes and rounds in all; 0: least")] = 0,
    minutes: Annotated[float, typer.Option(help="the same in minutes")] = 0,
    seed: Annotated[int, typer.Option(help="decides moments and orders")] = 1,
) -> None:
    """Run everything, print what was done, and end with 1 at the first wrong."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    total_s = max(seconds, 60 * minutes)
    print(f"seed {seed}", flush=True)
    started = time.monotonic()
    with kept_if_wrong(seed) as folder:
        rng = random.Random(seed)
        _run_streams(folder, rng, total_s)
        _run_rounds(folder, rng, total_s * (1 - sum(SHARES.values())))
    print(f"\nnothing wrong in {time.monotonic() - started:.0f} s")


@contextmanager
def kept_if_wrong(seed: int) -> Iterator[Path]:
    """A folder for data and logs, which stays where the block finds something wrong."""
    folder = Path(tempfile.mkdtemp(prefix="lts-fault-"))
    folder.chmod(0o755)
    try:
        yield folder
    except Exception as error:
        if not isinstance(error, Wrong):
            traceback.print_exc()
        print(f"\nWRONG: {error or type(error).__name__}\nseed {seed}, logs in {folder}")
        raise typer.Exit(1) from error
    except BaseException:  # Ctrl-C
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _run_streams(folder: Path, rng: random.Random, total_s: float) -> None:
    known = truth(folder)
    for name, share in SHARES.items():
        began = time.monotonic()
        seconds = max(SHORTEST_S, share * total_s)
        print(f"\nstream on {name}: {seconds:.0f} s of strikes", flush=True)
        counts = stream(name, folder, known, rng, seconds)
        print(f"done in {time.monotonic() - began:.0f} s\n")
        _print_table(counts)


def _run_rounds(folder: Path, rng: random.Random, seconds: float) -> None:
    """Each once, and further ones in turn until the time is over."""
    wanted = studies()
    bench = Bench(folder, rng, wanted, undisturbed(wanted))
    print(f"\nrounds on one process: {seconds:.0f} s, each at least once", flush=True)
    rounds, started = 0, time.monotonic()
    while rounds < len(ROUNDS) or time.monotonic() - started < seconds:
        name = list(ROUNDS)[rounds % len(ROUNDS)]
        began = time.monotonic()
        ROUNDS[name](bench)
        bench.count(f"rounds of {name}")
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
        rounds += 1
    print(f"{rounds} rounds in {time.monotonic() - started:.0f} s\n")
    _print_table(bench.counts)


def _print_table(counts: Mapping[str, float]) -> None:
    print("| What | Seen |\n| --- | --- |")
    for what, seen in counts.items():
        print(f"| {what} | {seen if isinstance(seen, int) else f'{seen:.1f}'} |")
    sys.stdout.flush()


if __name__ == "__main__":
    typer.run(main)
