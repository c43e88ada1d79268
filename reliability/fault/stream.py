"""A stream of jobs over processes that are struck all along, and what must be true at its end."""

import json
import random
import signal
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from reliability.fault import audit
from reliability.fault.bench import kept_of
from reliability.fault.chaos import SEVERAL, SINGLE, Chaos, Kind, recoveries_s
from reliability.fault.cluster import END_S, Cluster, several, single
from reliability.fault.phantoms import Truth
from reliability.fault.traffic import Ledger, traffic
from reliability.process import check
from service.jobs.kept import RESULT
from service.jobs.records import JobRow
from service.jobs.registry import Registry

Open = Callable[[Path, Path], AbstractContextManager[Cluster]]


@dataclass(frozen=True)
class Kindred:
    """A kind of stream: what it runs on, and what strikes it."""

    open: Open
    kinds: Mapping[Kind, int]


STREAMS: Mapping[str, Kindred] = {
    "PostgreSQL, several processes": Kindred(several, SEVERAL),
    "SQLite, one process": Kindred(single, SINGLE),
}


def stream(
    name: str, folder: Path, truth: Truth, rng: random.Random, seconds: float
) -> dict[str, float]:
    """Jobs and strikes for so long, then the audit; what was counted. Raises `Wrong`."""
    kindred = STREAMS[name]
    place = Path(tempfile.mkdtemp(dir=folder))
    with kindred.open(place, truth.model) as cluster:
        registry = Registry(cluster.registry_url)
        chaos = Chaos(cluster, registry, random.Random(rng.random()), kindred.kinds)
        try:
            studies = tuple(truth.studies.values())
            with traffic(cluster.port, studies, _findings(truth), rng) as ledger:
                chaos.run(seconds, ledger.check)
                ledger.over.set()
                chaos.heal(ledger.check)
            rows, swept = _audit(cluster, registry, ledger, truth)
        finally:
            chaos.find_bucket()
            registry.close()
    return {**_seen(ledger, chaos, rows), "folders of no job, swept": swept, **_times(chaos, rows)}


def _findings(truth: Truth) -> dict[str, object]:
    """What the API must say of each study, by name."""
    made_at = datetime.now(UTC)
    return {
        name: json.loads(kept_of(result, made_at)[RESULT])["findings"]
        for name, result in truth.results.items()
    }


def _audit(
    cluster: Cluster, registry: Registry, ledger: Ledger, truth: Truth
) -> tuple[list[JobRow], int]:
    """Every job, and how many folders of none a fresh process found; at the end all is deleted."""
    rows = audit.settled(registry)
    studies = {one.job_id: one.study for one in ledger.accepted.values()}
    audit.check_jobs(rows, studies)
    audit.check_documents(rows, ledger.documents)
    swept = len(audit.orphans(cluster.store, rows))
    _renew(cluster)
    keys = audit.check_folders(cluster.store, rows)
    for row in rows:
        expected = kept_of(truth.results[studies[row.id].name], row.asked.created_at)
        audit.check_bytes(cluster.store, row, keys[row.id], expected)
    audit.delete_all(cluster.port, studies)
    audit.check_nothing_left(registry, cluster.store, cluster.engine_url)
    for node in cluster.nodes:
        left = [path.name for path in (node.folder / "uploads").glob("*")]
        check(not left, f"uploads are left: {left}")
    return rows, swept


def _renew(cluster: Cluster) -> None:
    """Start one process anew: it deletes the folders of no job, which others do by the hour."""
    node = cluster.nodes[-1]
    node.send(signal.SIGTERM)
    if node.process is not None:
        check(node.process.wait(END_S) == 0, f"{node.name} ended with an error after SIGTERM")
    node.start()
    node.wait_ready()


def _seen(ledger: Ledger, chaos: Chaos, rows: list[JobRow]) -> dict[str, float]:
    """What clients and the one who strikes have counted."""
    counts: dict[str, float] = {"jobs accepted, each with one right result": len(rows)}
    for why, times in sorted(ledger.repeated.items()):
        counts[f"requests repeated {why}"] = times
    for kind in chaos.kinds:
        counts[kind] = sum(strike.kind == kind for strike in chaos.strikes)
    held = [strike for strike in chaos.strikes if strike.held]
    counts["strikes, of which jobs were in work"] = len(held)
    counts["strikes put off, or a job would be given up"] = chaos.put_off
    counts["jobs struck while in work"] = len(set().union(*(strike.held for strike in held)))
    counts["most attempts of a job"] = max((row.attempts for row in rows), default=0)
    return counts


def _times(chaos: Chaos, rows: list[JobRow]) -> dict[str, float]:
    """Seconds and megabytes."""
    recoveries = recoveries_s(chaos.strikes, rows)
    worst = max(recoveries.values(), default=0.0)
    by_kind = {f"recovery from {kind}, s": took_s for kind, took_s in recoveries.items()}
    return {"longest recovery, s": worst, **by_kind, "most memory of a process, MB": chaos.peak_mb}
