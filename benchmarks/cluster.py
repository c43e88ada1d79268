"""Several service processes on a real PostgreSQL and an S3 server, and what each costs in CPU."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from reliability.parts.hosting import children
from reliability.parts.postgres import Postgres
from reliability.parts.s3 import S3

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Parts:
    """A running database and object store, and what a service is told of them."""

    database: int
    store: int
    settings: Mapping[str, object]
    environment: Mapping[str, str] = field(default_factory=dict)

    def cpu_s(self) -> dict[str, float]:
        """Seconds of CPU that each has taken; this process is the client, and S3's proxy."""
        return {
            "PostgreSQL": family_cpu_s(self.database),
            "S3 (moto)": cpu_s(self.store),
            "client and proxy": cpu_s(os.getpid()),
        }


@contextmanager
def parts() -> Iterator[Parts]:
    """Start both. Raises FileNotFoundError, ModuleNotFoundError where one is not installed."""
    with Postgres.start() as database, S3.start() as store:
        lines = (database.folder / "data" / "postmaster.pid").read_text().splitlines()
        settings = {"database_url": database.url, "store_url": store.url}
        yield Parts(int(lines[0]), store.process.pid, settings, store.environment)


def cpu_s(pid: int, with_ended_children: bool = False) -> float:
    """Seconds of CPU of a process's threads, in the kernel too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # utime, stime and, of children that were waited for, cutime and cstime: proc(5), 14 to 17.
    return sum(map(int, fields[11 : 15 if with_ended_children else 13])) / _TICKS_A_SECOND


def family_cpu_s(pid: int) -> float:
    """The same of a process with its children, those that have ended too."""
    total = cpu_s(pid, with_ended_children=True)
    for child in children(pid):
        try:
            total += cpu_s(child)
        except OSError:  # ended since, and counted the next time
            continue
    return total
