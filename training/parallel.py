"""One step of training on one device or on several, whatever the backend."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tensorflow as tf

_OTHER_MACHINES = "KERAS_DISTRIBUTION_JOB_ADDRESSES"

Array = NDArray[np.float32]


class DeviceMissing(ValueError):
    """Devices were asked for that this machine does not have."""


class Devices:
    """One device, the backend's first unless named; also the face of several."""

    def __init__(self, name: str | None = None) -> None:
        self._name = name

    machines = 1
    """That learn together; each runs the same command."""

    def check_shares(self, batch_size: int) -> None:
        """Raises `DeviceMissing` where a batch cannot be shared out in equal parts."""

    def check_together(self, epoch: int) -> None:
        """Raises ValueError where other machines would begin with another epoch."""

    @staticmethod
    def one() -> "Devices":
        return Devices()

    @staticmethod
    def several(kind: str, count: int) -> "Devices":
        """So many of a kind (`cpu`, `gpu`), each with its part of every batch.

        Raises `DeviceMissing`.
        """
        names = _named(kind, count)
        return _JaxDevices(names) if keras.backend.backend() == "jax" else _MirroredDevices(names)

    @staticmethod
    def asked(kind: str, count: int) -> "Devices":
        """As the command line names them, with those of other machines where Keras' environment
        variables name these. Raises `DeviceMissing`.
        """
        if kind not in ("auto", "cpu", "gpu"):
            raise DeviceMissing(f"expected the device auto, cpu or gpu, found {kind}")
        if others := _OTHER_MACHINES in os.environ:
            if keras.backend.backend() != "jax":
                raise DeviceMissing(f"{_OTHER_MACHINES}: several machines learn together on JAX")
            keras.distribution.initialize()
        if kind == "auto":
            kind = "gpu" if _found("gpu") else "cpu"
        if others and count != len(_found(kind)):
            raise DeviceMissing(
                f"expected a count of {len(_found(kind))}, the {kind} devices of all machines, "
                f"found {count}"
            )
        names = _named(kind, count)
        return Devices(names[0]) if count == 1 else Devices.several(kind, count)

    def scope(self) -> AbstractContextManager[Any]:
        """Where the network has to be made."""
        return nullcontext() if self._name is None else keras.device(self._name)

    def step(self, model: keras.Model, images: Array, classes: Sequence[Array]) -> float:
        """Learn from one batch; its loss."""
        with Devices.scope(self):
            model.reset_metrics()  # else Keras answers with the mean of all steps so far
            answer = model.train_on_batch(images, list(classes), return_dict=True)
        return float(answer["loss"])


def _named(kind: str, count: int) -> list[str]:
    found = _found(kind)
    if len(found) < count:
        raise DeviceMissing(f"expected {count} {kind} device(s), found {len(found)}")
    return found[:count]


def _found(kind: str) -> list[str]:
    try:
        return list(keras.distribution.list_devices(kind))
    except RuntimeError:  # JAX has no empty list for a kind that the machine lacks
        return []


class _Several(Devices):
    """Each has the same part of every batch."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self._count = len(names)

    def check_shares(self, batch_size: int) -> None:
        if batch_size % self._count:
            raise DeviceMissing(
                f"expected batches of a multiple of {self._count}, one part for each device, found "
                f"{batch_size} slices"
            )


class _JaxDevices(_Several):
    """Keras shares the batch out, among the devices of several machines, too.

    Each machine runs a process of its own, which makes all of a batch and keeps its part.
    """

    def __init__(self, names: list[str]) -> None:
        import jax

        super().__init__(names)
        self._machine, self.machines = jax.process_index(), jax.process_count()
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names))

    def check_together(self, epoch: int) -> None:
        from jax.experimental.multihost_utils import process_allgather

        if self.machines > 1:
            epochs = sorted({int(other) for other in process_allgather(np.array(epoch))})
            if len(epochs) > 1:
                raise ValueError(
                    f"expected the same epoch on every machine, found {epochs[0]} and {epochs[-1]} "
                    "done: the checkpoint of one that has fewer goes to the others"
                )

    def step(self, model: keras.Model, images: Array, classes: Sequence[Array]) -> float:
        mine = slice(self._machine, None, self.machines)
        return super().step(model, images[mine], [item[mine] for item in classes])


class _MirroredDevices(_Several):
    """TensorFlow's strategy; the batch is cut by hand, since it comes without a tf.data set."""

    def __init__(self, names: list[str]) -> None:
        import tensorflow as tf

        super().__init__(names)
        self._strategy = tf.distribute.MirroredStrategy(names)

    def scope(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self._strategy.scope()
        return context

    def step(self, model: keras.Model, images: Array, classes: Sequence[Array]) -> float:
        def part(
            context: "tf.distribute.experimental.ValueContext",
        ) -> tuple[Array, tuple[Array, ...]]:
            # One of so many, since the slices of a kind stand together in a batch.
            mine = slice(context.replica_id_in_sync_group, None, self._count)
            return images[mine], tuple(item[mine] for item in classes)

        batch = self._strategy.experimental_distribute_values_from_function(part)
        model.make_train_function()
        model.reset_metrics()
        answer = model.train_function(iter([batch]))
        return float(answer["loss"])
