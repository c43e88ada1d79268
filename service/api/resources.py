"""What a running service holds: settings, admission, and its model and jobs once they are ready."""

import asyncio
import time
from dataclasses import dataclass

import anyio
from fastapi import Request

from service.access.gate import Gate
from service.access.rates import Rates
from service.admission import SMALL_PLACES, Admission
from service.api.uploads import Arriving
from service.errors import ModelNotReady, ShuttingDown, StartupError
from service.inference.batching import Batcher
from service.inference.work import Loaded
from service.jobs.jobs import Jobs
from service.metrics import Metrics
from service.pacs.nodes import Pacs, read_pacs
from service.settings import Settings
from service.store import BucketKeys, Store

ACCEPTED_AT_ONCE = 4
"""Uploads whose headers are checked at once; each is decompressed in memory meanwhile."""

MAX_CHECKING = 8 * ACCEPTED_AT_ONCE
"""Uploads that have arrived and wait for that; above it 503."""

ADMITTED_AT_ONCE = 8
"""Requests whose keys are looked at in the database at once."""

VOLUMES_AT_ONCE = 2
"""Kept volumes of which a file is made at once; each is in memory meanwhile."""


@dataclass
class Resources:
    """Made in the lifespan. `gate` is None until the database has answered; `described`, `model`
    and `jobs` are until the model is ready, and `model` stays so in a process that does not run it.

    `failure` says why it never will be; `draining` is set once the service is asked to end.
    `threads` is for whole requests, `accepting` for the checks before a durable one is accepted,
    `writing_volumes` for kept volumes that are read whole. Waiting for nothing else are `looking`,
    for whoever asks whether the service is ready, `telling`, for its metrics, `admitting`, for the
    look at a caller's key, and `admitting_tokens`, which may wait for their provider.
    """

    settings: Settings
    store: Store
    metrics: Metrics
    admission: Admission
    threads: anyio.CapacityLimiter
    accepting: anyio.CapacityLimiter
    writing_volumes: anyio.CapacityLimiter
    looking: anyio.CapacityLimiter
    admitting: anyio.CapacityLimiter
    admitting_tokens: anyio.CapacityLimiter
    telling: anyio.CapacityLimiter
    arriving: Arriving
    checking: Arriving
    watching: Arriving
    rates: Rates
    pacs: Pacs
    loop: asyncio.AbstractEventLoop
    draining: asyncio.Event
    gate: Gate | None = None
    described: Loaded | None = None
    model: Batcher | None = None
    jobs: Jobs | None = None
    failure: StartupError | None = None
    drain_began: float | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Resources":
        """Everything but the model, and the folders for it; call in the event loop."""
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if settings.data_dir.stat().st_mode & 0o777 != 0o700:
            settings.data_dir.chmod(0o700)
        settings.spool_folder.mkdir(mode=0o700, exist_ok=True)
        # One thread for each request that may have a place, since waiting for a turn holds one.
        threads = settings.max_running + settings.max_waiting + SMALL_PLACES
        metrics = Metrics()
        return cls(
            settings=settings,
            store=Store.open(
                settings.store_url,
                settings.store_folder,
                settings.spool_folder,
                settings.min_free_bytes,
                _bucket_keys(settings),
            ),
            metrics=metrics,
            admission=Admission(
                settings.max_running, settings.max_waiting, metrics.waited_for_turn
            ),
            threads=anyio.CapacityLimiter(threads),
            accepting=anyio.CapacityLimiter(ACCEPTED_AT_ONCE),
            writing_volumes=anyio.CapacityLimiter(VOLUMES_AT_ONCE),
            looking=anyio.CapacityLimiter(1),
            admitting=anyio.CapacityLimiter(ADMITTED_AT_ONCE),
            admitting_tokens=anyio.CapacityLimiter(ADMITTED_AT_ONCE),
            telling=anyio.CapacityLimiter(1),
            arriving=Arriving("uploads"),
            checking=Arriving("requests to be checked"),
            watching=Arriving("streams of events"),
            rates=Rates(settings.rate_per_minute),
            pacs=read_pacs(settings.pacs_file),
            loop=asyncio.get_running_loop(),
            draining=asyncio.Event(),
        )

    def ready_description(self) -> Loaded:
        """The model as it is known here, whoever runs it.

        Raises `ModelNotReady`, naming the failure's code where there is one.
        """
        if self.described is not None:
            return self.described
        if self.failure is not None:
            raise ModelNotReady(f"{self.failure.title} ({self.failure.code}) {self.failure}")
        raise ModelNotReady("The model is being loaded.")

    def ready_gate(self) -> Gate:
        """Who may ask what. Raises `ModelNotReady` until the database has answered."""
        if self.gate is None:
            raise ModelNotReady("The database is being opened.")
        return self.gate

    def ready_jobs(self) -> Jobs:
        """The durable segmentations. Raises `ModelNotReady`."""
        self.ready_description()
        if self.jobs is None:
            raise ModelNotReady("The jobs are being opened.")
        return self.jobs

    def is_draining(self) -> bool:
        """Whether the service is to end."""
        return self.drain_began is not None

    def drain(self) -> None:
        """The service is to end: from any thread, or from a signal's handler."""
        if self.drain_began is None:
            self.drain_began = time.monotonic()
        if self.jobs is not None:
            self.jobs.stop_claiming()
        self.loop.call_soon_threadsafe(self.draining.set)

    def finish_jobs(self) -> None:
        """Wait for the jobs that run here, as long as the grace is; blocks."""
        if self.jobs is not None:
            self.jobs.drain(self.grace_left_s)

    @property
    def grace_left_s(self) -> float:
        """Of the seconds that what runs may take to end; 0 where nobody asked to end."""
        if self.drain_began is None:
            return 0.0
        return max(0.0, self.drain_began + self.settings.grace_s - time.monotonic())

    def check_accepting(self) -> None:
        """Raise `ShuttingDown` once the service is asked to end: it takes nothing new."""
        if self.draining.is_set():
            raise ShuttingDown("Expected a service that goes on, found it ending.")


def _bucket_keys(settings: Settings) -> BucketKeys | None:
    if settings.store_access_key is None or settings.store_secret_key is None:
        return None
    return BucketKeys(settings.store_access_key, settings.store_secret_key)


def resources(request: Request) -> Resources:
    """The service behind a request, for routes."""
    held = request.app.state.resources
    if not isinstance(held, Resources):
        raise TypeError("the application was not started through its lifespan")
    return held
