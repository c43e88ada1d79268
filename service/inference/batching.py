"""Slices of many requests in common batches, each answer back to its own request.

As many threads run the model as it has lanes, each a batch of its own. A batch takes slices of all
waiting requests of one shape, shapes in turn. Urgent ones come first, and of equally urgent ones
whoever has the fewest slices left: a single image rides in the next batch beside a volume of 600
slices and never behind it, and volumes end one after the other. Were they to share evenly they
would end together, and the model would wait while the next ones are decoded together. Every fourth
batch is shared evenly all the same, so that nobody waits for an endless row of shorter ones. Batch
sizes are powers of two up to a lane's share, so that a device sees few shapes; where the model
fills every batch up, each takes what there is.

Every request is answered, whatever happens: by its labels, by the error of its own slices, by the
reason it was stopped for, or by `ShuttingDown`.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from service import tracing
from service.errors import ShuttingDown
from service.inference.contract import ModelContract
from service.inference.work import Labelled, Loaded, Work

T = TypeVar("T")

EVEN_EVERY = 4
"""Of so many batches of one shape one is shared evenly, counted by who waits longest."""

Observe = Callable[[int, int, float], None]
"""Told of every batch that ran: its slices, the most that it could have had, its seconds."""

CLOSE_S = 60
"""How long to wait for the batch that runs when the service ends."""


class Model(Loaded, Protocol):
    """What labels one batch: a session, or a fake in tests."""

    def run(self, hu: NDArray[np.int16]) -> Labelled:
        """Label int16 Hounsfield units [slices, rows, columns, context]."""
        ...

    @property
    def lanes(self) -> int:
        """Batches that run best at once; from as many threads."""
        ...

    @property
    def fills_batches(self) -> bool:
        """Whether a short batch costs as much as a full one."""
        ...


@dataclass
class _Request:
    """One request's work, how far it was handed out, and its end.

    `met` counts the batches that took slices of its shape, its own or another's; `span` is what its
    caller traces.
    """

    work: Work
    handed: int = 0
    met: int = 0
    done: int = 0
    error: BaseException | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    counting: threading.Lock = field(default_factory=threading.Lock)
    span: tracing.Span = field(default_factory=tracing.current)

    @property
    def left(self) -> int:
        return self.work.slices - self.handed

    def count(self, slices: int) -> None:
        """So many more are written, by any of the lanes."""
        with self.counting:
            self.done += slices
            if self.work.progress is not None:
                self.work.progress(self.done, self.work.slices)
            if self.done == self.work.slices:
                self.end()

    def end(self, error: BaseException | None = None) -> None:
        if not self.ended.is_set():
            self.error = error
            self.ended.set()


@dataclass(frozen=True)
class _Part:
    """A range of one request's slices in a batch."""

    request: _Request
    slices: slice

    def read(self) -> NDArray[np.int16]:
        self.request.work.stop.check()
        return self.request.work.read(self.slices)

    def write(self, answer: Labelled) -> None:
        self.request.work.write(self.slices, answer)
        self.request.count(self.slices.stop - self.slices.start)


class Batcher:
    """A model with its queue; `label` may be called from any number of threads."""

    def __init__(
        self,
        model: Model,
        batch_slices: int,
        observe: Observe = lambda *_: None,
    ) -> None:
        """All lanes share `batch_slices`."""
        self._model = model
        self._largest = largest = max(1, batch_slices // model.lanes)
        self._sizes = range(1, largest + 1) if model.fills_batches else _sizes(largest)
        self._observe = observe
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"batcher-{lane}", daemon=True)
            for lane in range(model.lanes)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def contract(self) -> ModelContract:
        return self._model.contract

    @property
    def sha256(self) -> str:
        return self._model.sha256

    @property
    def provider(self) -> str:
        return self._model.provider

    @property
    def device(self) -> str:
        return self._model.device

    @property
    def waiting_slices(self) -> int:
        """Slices of requests that no batch has taken yet."""
        with self._changed:
            return sum(request.left for request in self._waiting)

    def label(self, work: Work) -> None:
        """Label all slices of a request; returns when the last is written.

        Raises the reason of `work.stop`, what the request's own `read` or `write` or the model
        raised, or `ShuttingDown`.
        """
        if work.slices == 0:
            return
        request = _Request(work)
        with self._changed:
            if self._closed:
                raise ShuttingDown("Expected a service that goes on, found it ending.")
            self._waiting.append(request)
            self._changed.notify_all()
        with work.stop.listening(lambda: request.end(work.stop.reason)):
            while not request.ended.wait(work.stop.remaining_s):
                if work.stop.reason is not None:  # a wait may be over a moment before the deadline
                    request.end(work.stop.reason)
        if request.error is not None:
            raise request.error

    def close(self) -> None:
        """End after the batches that run; whoever waits is answered with `ShuttingDown`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(CLOSE_S)

    def _serve(self) -> None:
        while self._serve_next():
            pass  # and while this thread waits it holds no request, hence no volume

    def _serve_next(self) -> bool:
        """Run the next batch; false when closed."""
        parts = self._next_batch()
        try:
            self._run(parts)
        except BaseException as error:  # a defect here must not strand a single waiter
            for part in parts:
                part.request.end(error)
        return bool(parts)

    def _next_batch(self) -> list[_Part]:
        """Wait for slices and take a batch of them; empty when closed."""
        with self._changed:
            while True:
                self._drop_ended()
                if self._closed:
                    for request in self._waiting:
                        request.end(ShuttingDown("The service ended before the work was done."))
                    self._waiting.clear()
                    return []
                if self._waiting:
                    return self._take()
                self._changed.wait()

    def _drop_ended(self) -> None:
        """Forget requests that were stopped, or failed, or handed out whole."""
        for request in self._waiting:
            reason = request.work.stop.reason
            if reason is not None:
                request.end(reason)
        self._waiting = deque(
            request for request in self._waiting if request.left and not request.ended.is_set()
        )

    def _take(self) -> list[_Part]:
        shape = self._waiting[0].work.shape
        alike = [request for request in self._waiting if request.work.shape == shape]
        available = sum(request.left for request in alike)
        size = max(size for size in self._sizes if size <= available)
        for request in alike:
            request.met += 1
        is_even = max(request.met for request in alike) % EVEN_EVERY == 0
        left = [request.left for request in alike]
        turns = [(request.work.priority, request.left) for request in alike]
        counts = _shares(left, size) if is_even else _filled(left, size, turns)
        parts = []
        for request, count in sorted(zip(alike, counts, strict=True), key=lambda pair: pair[1] > 0):
            # Behind other shapes, and whoever had a turn behind those who had none.
            self._waiting.remove(request)
            self._waiting.append(request)
            if count:
                parts.append(_Part(request, slice(request.handed, request.handed + count)))
                request.handed += count
        return parts

    def _run(self, parts: Sequence[_Part]) -> None:
        """Run a batch. Where it fails, each request's part runs alone, to fail only its own."""
        read = [(part, hu) for part in parts if (hu := _attempt(part, part.read)) is not None]
        if not read:
            return
        try:
            started = time.perf_counter()
            answer = self._label([hu for _, hu in read])
            self._tell(read, time.perf_counter() - started)
        except Exception as error:
            if len(read) == 1:
                read[0][0].request.end(error)
                return
            for part, _ in read:
                self._run([part])
            return
        start = 0
        for part, hu in read:
            own = slice(start, start + len(hu))
            mine = Labelled(answer.labels[own], answer.tumor_probability[own])
            _attempt(part, partial(part.write, mine))
            start = own.stop

    def _label(self, read: Sequence[NDArray[np.int16]]) -> Labelled:
        hu = read[0] if len(read) == 1 else np.concatenate(read)
        return self._model.run(np.ascontiguousarray(hu))

    def _tell(self, read: Sequence[tuple[_Part, NDArray[np.int16]]], seconds: float) -> None:
        slices = sum(len(hu) for _, hu in read)
        self._observe(slices, self._largest, seconds)
        for part, hu in read:
            about = {"lts.slices": len(hu), "lts.batch_slices": slices, "lts.seconds": seconds}
            tracing.note(part.request.span, "batch", about)


def _attempt(part: _Part, call: Callable[[], T]) -> T | None:
    """Call for one request; what it raises ends that request and no other."""
    try:
        return call()
    except Exception as error:
        part.request.end(error)
        return None


def _sizes(largest: int) -> tuple[int, ...]:
    """Powers of two up to the largest size of a batch, and that itself."""
    powers = [1]
    while powers[-1] * 2 <= largest:
        powers.append(powers[-1] * 2)
    return (*powers, largest)


def _filled(left: Sequence[int], size: int, turns: Sequence[tuple[int, int]]) -> list[int]:
    """`size` slices of requests that have these many left, all of the lowest turn first."""
    counts = [0] * len(left)
    for index in sorted(range(len(left)), key=turns.__getitem__):
        counts[index] = min(left[index], size)
        size -= counts[index]
    return counts


def _shares(left: Sequence[int], size: int) -> list[int]:
    """`size` slices dealt out one by one in turn to requests that have these many left."""
    shares = [0] * len(left)
    while size:
        for index, available in enumerate(left):
            if size and shares[index] < available:
                shares[index] += 1
                size -= 1
    return shares
