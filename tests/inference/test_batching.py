"""Common batches: each caller gets its own answer, whatever the others do."""

import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from fakes import make_contract

from service.errors import Cancelled, DeadlineExceeded, ServiceError, ShuttingDown
from service.inference.batching import Batcher
from service.inference.work import Labelled, Work
from service.stopping import StopSignal

WAIT_S = 30


class EchoModel:
    """Answers with its input's low and high byte, so that an answer names its slice."""

    contract = make_contract()
    sha256, provider, device = "0" * 64, "Fake", "fake"

    def __init__(
        self,
        before: Callable[[np.ndarray], None] = lambda hu: None,
        lanes: int = 1,
        fills_batches: bool = False,
    ) -> None:
        self.lanes = lanes
        self.fills_batches = fills_batches
        self.batches: list[int] = []
        self._before = before

    def run(self, hu: np.ndarray) -> Labelled:
        self._before(hu)
        self.batches.append(len(hu))
        first = hu[..., 0]
        return Labelled((first & 255).astype(np.uint8), (first >> 8).astype(np.uint8))


class Caller:
    """One request: slices filled with numbers of its own, and room for their answers."""

    def __init__(
        self, number: int, slices: int, size: int = 4, stop: StopSignal | None = None
    ) -> None:
        rng = np.random.default_rng(number)
        self.hu = rng.integers(0, 30_000, (slices, size, size, 1), dtype=np.int16)
        self.answer = np.full((slices, size, size), -1, np.int32)
        self.seen: list[tuple[int, int]] = []
        self.work = Work(
            slices=slices,
            shape=(size, size, 1),
            read=self.read,
            write=self.write,
            stop=stop or StopSignal(),
            progress=lambda *at: self.seen.append(at),
        )

    def read(self, batch: slice) -> np.ndarray:
        return self.hu[batch]

    def write(self, batch: slice, answer: Labelled) -> None:
        self.answer[batch] = answer.labels + (answer.tumor_probability.astype(np.int32) << 8)

    def check(self) -> None:
        np.testing.assert_array_equal(self.answer, self.hu[..., 0])
        assert self.seen[-1] == (len(self.hu), len(self.hu))


@pytest.fixture
def gate() -> Iterator[tuple[EchoModel, threading.Event, threading.Event]]:
    """A model whose batches wait until they are let through."""
    entered, open_ = threading.Event(), threading.Event()

    def before(hu: np.ndarray) -> None:
        entered.set()
        assert open_.wait(WAIT_S)

    yield EchoModel(before), entered, open_
    open_.set()


def start(pool: ThreadPoolExecutor, batcher: Batcher, caller: Caller) -> Future[None]:
    return pool.submit(batcher.label, caller.work)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("seed", range(4))
def test_each_caller_gets_its_own_answer(seed: int) -> None:
    """Random sizes, shapes, failures and cancels at once: the others are answered, batches fill."""
    rng = random.Random(seed)
    model = EchoModel(lambda hu: time.sleep(0.001), lanes=1 + seed % 3)
    batcher = Batcher(model, batch_slices=8 * model.lanes)
    callers, broken, stopped = [], [], []
    with ThreadPoolExecutor(40) as pool:
        futures = {}
        for number in range(60):
            stop = StopSignal()
            caller = Caller(number, rng.randint(1, 40), rng.choice([4, 4, 4, 6]), stop)
            kind = rng.choice(["good", "good", "good", "breaks", "stops"])
            if kind == "breaks":
                object.__setattr__(caller.work, rng.choice(["read", "write"]), fail)
                broken.append(caller)
            elif kind == "stops":
                stopped.append(caller)
                timer = threading.Timer(rng.random() / 50, stop.stop, [Cancelled("enough")])
                timer.start()
            else:
                callers.append(caller)
            futures[number] = (caller, start(pool, batcher, caller))
            time.sleep(rng.random() / 500)
        for caller, future in futures.values():
            error = future.exception(WAIT_S)
            if caller in broken:
                assert isinstance(error, ZeroDivisionError)
            elif caller in stopped:
                assert error is None or isinstance(error, Cancelled)
            else:
                assert error is None
                caller.check()
    batcher.close()
    assert len(callers) > 10
    assert np.mean(model.batches) > 2
    assert max(model.batches) == 8


def test_devices_see_few_shapes() -> None:
    """Batches are powers of two, up to the largest size that was asked for."""
    model = EchoModel(lambda hu: time.sleep(0.001))
    batcher = Batcher(model, batch_slices=12)
    callers = [Caller(number, 7 + number) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        for future in [start(pool, batcher, caller) for caller in callers]:
            future.result(WAIT_S)
    batcher.close()
    for caller in callers:
        caller.check()
    assert set(model.batches) <= {1, 2, 4, 8, 12}
    assert sum(model.batches) == sum(len(caller.hu) for caller in callers)


def test_a_model_that_fills_batches_gets_few() -> None:
    """Each takes all that waits, up to the largest size: a smaller one would cost as much."""
    model = EchoModel(fills_batches=True)
    batcher = Batcher(model, batch_slices=12)
    caller = Caller(0, 31)
    batcher.label(caller.work)
    batcher.close()
    caller.check()
    assert model.batches == [12, 12, 7]


def fail(*_: object) -> np.ndarray:
    raise ZeroDivisionError


def test_a_single_image_does_not_wait_behind_a_volume(
    gate: tuple[EchoModel, threading.Event, threading.Event],
) -> None:
    """An image that comes while a volume of 600 slices runs rides in the next batch."""
    model, entered, open_ = gate
    batcher = Batcher(model, batch_slices=4)
    volume, image = Caller(1, 600), Caller(2, 1)
    batches_before: list[int] = []
    object.__setattr__(
        image.work, "progress", lambda *at: batches_before.append(len(model.batches))
    )
    with ThreadPoolExecutor(2) as pool:
        long = start(pool, batcher, volume)
        assert entered.wait(WAIT_S)
        short = start(pool, batcher, image)
        wait_for(lambda: len(batcher._waiting) == 2)
        open_.set()
        short.result(WAIT_S)
        long.result(WAIT_S)
    batcher.close()
    volume.check()
    assert batches_before == [2]
    np.testing.assert_array_equal(image.answer, image.hu[..., 0])


def test_volumes_end_one_after_the_other() -> None:
    """Of two volumes that wait the first is done when the second has most of its slices left."""
    model = EchoModel(lambda hu: time.sleep(0.002))
    batcher = Batcher(model, batch_slices=4)
    first, second = Caller(1, 80), Caller(2, 80)
    with ThreadPoolExecutor(2) as pool:
        done = start(pool, batcher, first)
        wait_for(lambda: bool(first.seen))
        other = start(pool, batcher, second)
        done.result(WAIT_S)
        left = 80 - max((seen for seen, _ in second.seen), default=0)
        other.result(WAIT_S)
    batcher.close()
    first.check()
    second.check()
    assert left > 40


def test_no_volume_waits_for_all_images() -> None:
    """A volume goes on although images never cease to come."""
    model = EchoModel(lambda hu: time.sleep(0.001))
    batcher = Batcher(model, batch_slices=2)
    volume, ceased = Caller(0, 20), threading.Event()

    def images(number: int) -> None:
        while not ceased.is_set():
            batcher.label(Caller(number, 1).work)

    with ThreadPoolExecutor(9) as pool:
        streams = [pool.submit(images, number) for number in range(1, 9)]
        try:
            start(pool, batcher, volume).result(WAIT_S)
        finally:
            ceased.set()
        for stream in streams:
            stream.result(WAIT_S)
    batcher.close()
    volume.check()


def test_other_shapes_take_no_even_batch(
    gate: tuple[EchoModel, threading.Event, threading.Event],
) -> None:
    """A volume goes on beside many images also where every other batch is of another shape."""
    model, entered, open_ = gate
    batcher = Batcher(model, batch_slices=2)
    first, other, volume = Caller(0, 2, 5), Caller(1, 60, 6), Caller(2, 20, 4)
    images = [Caller(number, 1, 4) for number in range(3, 23)]
    with ThreadPoolExecutor(23) as pool:
        futures = [start(pool, batcher, first)]
        assert entered.wait(WAIT_S)
        for waiting, caller in enumerate((other, volume, *images), 2):
            futures.append(start(pool, batcher, caller))
            wait_for(lambda waiting=waiting: len(batcher._waiting) == waiting)
        done_at_last_image: list[int] = []
        object.__setattr__(
            images[-1].work, "progress", lambda *_: done_at_last_image.append(len(volume.seen))
        )
        open_.set()
        for future in futures:
            future.result(WAIT_S)
    batcher.close()
    assert done_at_last_image[0] > 0


def test_other_shapes_take_turns(gate: tuple[EchoModel, threading.Event, threading.Event]) -> None:
    """Requests that cannot share a batch alternate: each runs before the other's second batch."""
    model, entered, open_ = gate
    batcher = Batcher(model, batch_slices=2)
    first, large, small = Caller(0, 2, 5), Caller(1, 8, 4), Caller(2, 8, 6)
    order: list[int] = []
    with ThreadPoolExecutor(3) as pool:
        futures = [start(pool, batcher, first)]
        assert entered.wait(WAIT_S)
        for caller, name in ((large, 4), (small, 6)):
            object.__setattr__(
                caller.work, "progress", lambda done, total, name=name: order.append(name)
            )
            futures.append(start(pool, batcher, caller))
        wait_for(lambda: len(batcher._waiting) == 3)
        open_.set()
        for future in futures:
            future.result(WAIT_S)
    batcher.close()
    assert order[:4] in ([4, 6, 4, 6], [6, 4, 6, 4])


def test_failing_batch_fails_only_its_culprit() -> None:
    """A model that cannot take one caller's slices answers all the others."""

    def before(hu: np.ndarray) -> None:
        if (hu == 31_000).any():
            raise ValueError("cannot take this")

    model = EchoModel(before)
    batcher = Batcher(model, batch_slices=8)
    callers = [Caller(number, 5) for number in range(6)]
    callers[3].hu[2] = 31_000
    with ThreadPoolExecutor(6) as pool:
        futures = [start(pool, batcher, caller) for caller in callers]
        errors = [future.exception(WAIT_S) for future in futures]
    batcher.close()
    assert [type(error) for error in errors].count(ValueError) == 1
    assert isinstance(errors[3], ValueError)
    for index in (0, 1, 2, 4, 5):
        callers[index].check()


def test_deadline_and_cancel_free_the_waiter_at_once(
    gate: tuple[EchoModel, threading.Event, threading.Event],
) -> None:
    """Both are answered while the batch before them still runs."""
    model, entered, open_ = gate
    batcher = Batcher(model, batch_slices=4)
    stop = StopSignal()
    with ThreadPoolExecutor(3) as pool:
        running = start(pool, batcher, Caller(0, 4))
        assert entered.wait(WAIT_S)
        late = start(pool, batcher, Caller(1, 4, stop=StopSignal(deadline_s=0.05)))
        cancelled = start(pool, batcher, Caller(2, 4, stop=stop))
        stop.stop(Cancelled("the caller left"))
        assert isinstance(late.exception(WAIT_S), DeadlineExceeded)
        assert isinstance(cancelled.exception(WAIT_S), Cancelled)
        open_.set()
        running.result(WAIT_S)
    batcher.close()
    assert model.batches == [4]


def test_a_wait_that_is_over_early_is_no_end(
    gate: tuple[EchoModel, threading.Event, threading.Event],
) -> None:
    """Before the deadline nobody gets labels that are not written."""
    model, entered, open_ = gate

    class Early(StopSignal):
        remaining_s = 0.01  # and yet no reason to stop

    batcher, caller = Batcher(model, batch_slices=2), Caller(0, 4, stop=Early())
    with ThreadPoolExecutor(1) as pool:
        future = start(pool, batcher, caller)
        assert entered.wait(WAIT_S)
        time.sleep(0.1)
        assert not future.done()
        open_.set()
        future.result(WAIT_S)
    batcher.close()
    caller.check()


def test_shutdown_answers_everyone(
    gate: tuple[EchoModel, threading.Event, threading.Event],
) -> None:
    """Whoever waits when the service ends is told so, and so is whoever comes later."""
    model, entered, open_ = gate
    batcher = Batcher(model, batch_slices=4)
    with ThreadPoolExecutor(5) as pool:
        futures = [start(pool, batcher, Caller(number, 9)) for number in range(4)]
        assert entered.wait(WAIT_S)
        closing = pool.submit(batcher.close)
        wait_for(lambda: batcher._closed)
        open_.set()
        closing.result(WAIT_S)
        errors = [future.exception(WAIT_S) for future in futures]
    assert all(isinstance(error, ShuttingDown) for error in errors)
    with pytest.raises(ShuttingDown):
        batcher.label(Caller(9, 1).work)


def test_lanes_run_batches_at_once() -> None:
    """Slices of one request run in as many batches at once as the model has lanes."""
    together = threading.Barrier(3)
    batcher = Batcher(EchoModel(lambda hu: together.wait(WAIT_S) and None, lanes=3), 6)
    caller = Caller(1, 6)
    batcher.label(caller.work)
    caller.check()
    assert [done for done, _ in caller.seen] == [2, 4, 6]
    batcher.close()


def test_nothing_to_label() -> None:
    """Work without slices is done at once."""
    batcher = Batcher(EchoModel(), 4)
    batcher.label(Caller(0, 0).work)
    batcher.close()


def test_stop_before_the_first_batch() -> None:
    """Work that was stopped before it began raises its reason."""
    stop = StopSignal()
    stop.stop(Cancelled("before"))
    batcher = Batcher(EchoModel(), 4)
    with pytest.raises(ServiceError, match="before"):
        batcher.label(Caller(0, 3, stop=stop).work)
    batcher.close()


@pytest.mark.parametrize("lanes", [1, 2])
def test_nothing_is_held_after_the_answer(lanes: int) -> None:
    """Once all is answered no lane keeps a request, whose volume would stay in memory."""
    batcher = Batcher(EchoModel(lanes=lanes), 2 * lanes)
    caller = Caller(1, 7)
    volume = weakref.ref(caller.hu)
    batcher.label(caller.work)
    caller.work = None  # the caller and its work hold each other
    del caller
    deadline = time.monotonic() + WAIT_S
    while volume() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert volume() is None
    batcher.close()
