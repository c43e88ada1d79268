"""Somebody who strikes what a stream stands on, at random by a seed, and puts it right again.

Kinds come in shuffled rounds, so that even a short stream meets several. A strike notes which jobs
were in work in what it struck: from it to the end of the last of these is its recovery.
"""

import random
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Literal

from reliability.fault.cluster import DEAD_S, END_S, Cluster, Node
from reliability.parts.s3 import Loss
from reliability.process import check
from service.errors import StorageFull, Unavailable
from service.jobs.records import JobRow, now_ms
from service.jobs.registry import Registry
from service.jobs.worker import MAX_ATTEMPTS

Kind = Literal[
    "kill -9 of a worker",
    "SIGSTOP of a worker",
    "SIGTERM of a worker",
    "kill -9 of an API",
    "SIGSTOP of an API",
    "SIGTERM of an API",
    "kill -9 of PostgreSQL",
    "restart of PostgreSQL",
    "bucket lost",
    "kill -9 of the process",
    "SIGTERM of the process",
    "SIGSTOP of the process",
]

SEVERAL: Mapping[Kind, int] = {
    "kill -9 of a worker": 4,
    "SIGSTOP of a worker": 2,
    "SIGTERM of a worker": 2,
    "kill -9 of an API": 2,
    "SIGSTOP of an API": 1,
    "SIGTERM of an API": 1,
    "kill -9 of PostgreSQL": 2,
    "restart of PostgreSQL": 1,
    "bucket lost": 2,
}
"""How often in a round of strikes."""

SINGLE: Mapping[Kind, int] = {
    "kill -9 of the process": 5,
    "SIGTERM of the process": 1,
    "SIGSTOP of the process": 1,
}

PAUSE_S = (0.5, 6.0)
"""Between two strikes. A process takes some 3 s of CPU to start, and jobs want some of it, too."""

AGAIN_S = (0.3, 4.0)
"""The same where the target was struck already, or is not ready."""

DOWN_S = (0.0, 3.0)
LOST_S = (1.0, 8.0)
TICK_S = 0.05

READY_SHARE = 0.9
"""Of kills, those that wait until the process is ready; the rest may hit one that starts."""

LOSSES: tuple[Loss, ...] = ("refuses", "hangs", "loses answers")

UNFINISHED = ("receiving", "queued", "running")


@dataclass(frozen=True)
class Strike:
    """What was done when (milliseconds since 1970), and the jobs that were in work in it."""

    kind: Kind
    at_ms: int
    held: frozenset[str]


@dataclass
class Chaos:
    """Strikes from the calling thread, one at a time; what they did goes on side by side."""

    cluster: Cluster
    registry: Registry
    rng: random.Random
    kinds: Mapping[Kind, int]
    strikes: list[Strike] = field(default_factory=list)
    put_off: int = 0
    peak_mb: float = 0.0
    _deck: list[Kind] = field(default_factory=list)
    _due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _busy: set[str] = field(default_factory=set)
    _ready: set[str] = field(default_factory=set)
    _ending: dict[str, tuple[Node, float]] = field(default_factory=dict)
    _lost: ExitStack = field(default_factory=ExitStack)
    _looks_at: float = 0.0
    _rows: list[JobRow] = field(default_factory=list)

    def run(self, seconds: float, check_clients: Callable[[], None]) -> None:
        """Strike for so long. Raises `Wrong` for what a client found, or a process did."""
        end = time.monotonic() + seconds
        next_at = time.monotonic() + self.rng.uniform(*PAUSE_S) / 2
        while (moment := time.monotonic()) < end:
            check_clients()
            self._tick()
            if moment >= next_at:
                pause_s = PAUSE_S if self._strike() else AGAIN_S
                next_at = time.monotonic() + self.rng.uniform(*pause_s)
            time.sleep(TICK_S)

    def heal(self, check_clients: Callable[[], None]) -> None:
        """Put everything right, and wait until all processes are ready."""
        deadline = time.monotonic() + 2 * END_S
        while self._due or self._ending:
            check_clients()
            self._due = [(0.0, action) for _, action in self._due]
            self._tick()
            check(time.monotonic() < deadline, "what was struck does not end")
            time.sleep(TICK_S)
        for node in self.cluster.nodes:
            node.wait_ready()
            self._look_at_memory(node)

    # What goes on meanwhile

    def _tick(self) -> None:
        moment = time.monotonic()
        due = [action for at, action in self._due if at <= moment]
        self._due = [(at, action) for at, action in self._due if at > moment]
        for action in due:
            action()
        for node, deadline in tuple(self._ending.values()):
            self._see_end(node, deadline)
        for node in self.cluster.nodes:
            if node.name not in self._busy:
                node.check_running()
        if moment >= self._looks_at:
            self._looks_at = moment + 0.3
            for node in self._idle():
                if node.name not in self._ready and node.is_ready:
                    self._ready.add(node.name)

    def _see_end(self, node: Node, deadline: float) -> None:
        """A process that was told to end does so in time, and without an error."""
        code = None if node.process is None else node.process.poll()
        if code is None:
            check(time.monotonic() < deadline, f"{node.name} did not end {END_S} s after SIGTERM")
            return
        check(code == 0, f"{node.name} ended with {code} after SIGTERM")
        del self._ending[node.name]
        self._later(self.rng.uniform(*DOWN_S) / 2, lambda: self._start(node))

    def _start(self, node: Node) -> None:
        node.start()
        self._busy.discard(node.name)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._due.append((time.monotonic() + seconds, action))

    def _idle(self, role: str = "") -> list[Node]:
        """Running processes that nothing is done to at the moment."""
        return [
            node for node in self.cluster.nodes
            if node.name not in self._busy and node.name.startswith(role)
        ]  # fmt: skip

    # Striking

    def _strike(self) -> bool:
        """Do the next of the deck; false where its target is struck already, and later will do."""
        if not self._deck:
            self._deck = [kind for kind, times in self.kinds.items() for _ in range(times)]
            self.rng.shuffle(self._deck)
        kind = self._deck.pop()
        if kind.endswith("PostgreSQL") or kind == "bucket lost":
            done = kind.split()[-1] not in self._busy and self._strike_part(kind)
        else:
            target = kind.rpartition(" of ")[2].removeprefix("a ").removeprefix("an ")
            done = self._strike_node(kind, target)
        if not done:
            self._deck.insert(self.rng.randrange(len(self._deck) + 1), kind)
        return done

    def _strike_node(self, kind: Kind, target: str) -> bool:
        nodes = self._idle(target)
        # One that only starts may be killed, too; for the rest it must be able to do as it is told.
        if not kind.startswith("kill") or self.rng.random() < READY_SHARE:
            nodes = [node for node in nodes if node.name in self._ready]
        if not nodes:
            return False
        node = self.rng.choice(nodes)
        held = [row for row in self._unfinished() if works_for(row, node.pid)]
        if not self._may_strike(held):
            return False
        self._note(kind, held)
        self._busy.add(node.name)
        if kind.startswith("SIGSTOP"):
            node.send(signal.SIGSTOP)
            self._later(self.rng.uniform(0.3, 2.5) * DEAD_S, lambda: self._go_on(node))
            return True
        self._look_at_memory(node)
        self._ready.discard(node.name)
        if kind.startswith("SIGTERM"):
            node.send(signal.SIGTERM)
            self._ending[node.name] = node, time.monotonic() + END_S
            return True
        node.kill()
        self._later(self.rng.uniform(*DOWN_S), lambda: self._start(node))
        return True

    def _go_on(self, node: Node) -> None:
        node.send(signal.SIGCONT)
        self._busy.discard(node.name)

    def _strike_part(self, kind: Kind) -> bool:
        held = [row for row in self._unfinished() if row.status == "running"]
        if not self._may_strike(held):
            return False
        self._note(kind, held)
        if kind == "bucket lost":
            self._lose_bucket()
        elif self.cluster.database is not None and kind == "restart of PostgreSQL":
            self.cluster.database.restart()
        elif self.cluster.database is not None:
            self.cluster.database.kill()
            self._busy.add("PostgreSQL")
            self._later(self.rng.uniform(*DOWN_S), self._start_database)
        return True

    def _lose_bucket(self) -> None:
        if self.cluster.bucket is None:
            return
        how = self.rng.choice(LOSSES)
        self._lost.enter_context(self.cluster.bucket.unreachable(2 * END_S, how))
        self._busy.add("lost")
        self._later(self.rng.uniform(*LOST_S), self.find_bucket)

    def find_bucket(self) -> None:
        """Let the bucket be reached again; nothing happens where it is."""
        self._lost.close()
        self._busy.discard("lost")

    def _start_database(self) -> None:
        if self.cluster.database is not None:
            self.cluster.database.start_again()
        self._busy.discard("PostgreSQL")

    def _may_strike(self, held: Iterable[JobRow]) -> bool:
        """Not one that holds a job which this could make the service give up."""
        if any(row.attempts >= MAX_ATTEMPTS - 1 for row in held):
            self.put_off += 1
            return False
        return True

    def _note(self, kind: Kind, held: Iterable[JobRow]) -> None:
        self.strikes.append(Strike(kind, now_ms(), frozenset(row.id for row in held)))

    def _unfinished(self) -> list[JobRow]:
        """Jobs as the registry has them; while it is down, as it had them when last asked."""
        with suppress(Unavailable, StorageFull):
            self._rows = self.registry.newest(UNFINISHED, 1000, 0)
        return self._rows

    def _look_at_memory(self, node: Node) -> None:
        self.peak_mb = max(self.peak_mb, node.peak_mb)


def works_for(row: JobRow, pid: int) -> bool:
    """Whether this process of this machine takes a job in, or works on it."""
    return row.executor is not None and row.executor.split("-")[-2] == str(pid)


def recoveries_s(strikes: Iterable[Strike], rows: Iterable[JobRow]) -> dict[Kind, float]:
    """By kind the longest time from a strike to the end of the last job in work in what it struck.

    A job that had ended by itself at that moment, though nobody knew yet, counts as 0; a
    kind that hit no job is left out.
    """
    ends_ms = {row.id: row.finished_ms for row in rows}
    longest: dict[Kind, float] = {}
    for strike in (one for one in strikes if one.held):
        ends = [end_ms for job_id in strike.held if (end_ms := ends_ms.get(job_id)) is not None]
        took_s = max(0, max(ends, default=strike.at_ms) - strike.at_ms) / 1000
        longest[strike.kind] = max(longest.get(strike.kind, 0.0), took_s)
    return longest
