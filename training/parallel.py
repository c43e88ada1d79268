"""One step of training on one device, or on several of one machine, whatever the backend."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tensorflow as tf

Array = NDArray[np.float32]


class DeviceMissing(ValueError):
    """Devices were asked for that this machine does not have."""


class Devices:
    """One device, the backend's first unless named; also the face of several."""

    def __init__(self, name: str | None = None) -> None:
        self._name = name

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
        """As the command line names them. Raises `DeviceMissing`."""
        if kind not in ("auto", "cpu", "gpu"):
            raise DeviceMissing(f"expected the device auto, cpu or gpu, found {kind}")
        if kind == "auto":
            kind = "gpu" if _found("gpu") else "cpu"
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


class _JaxDevices(Devices):
    """The batch is shared out by Keras itself."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names))


class _MirroredDevices(Devices):
    """TensorFlow's strategy; the batch is cut by hand, since it comes without a tf.data set."""

    def __init__(self, names: list[str]) -> None:
        import tensorflow as tf

        super().__init__()
        self._strategy = tf.distribute.MirroredStrategy(names)

    def scope(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self._strategy.scope()
        return context

    def step(self, model: keras.Model, images: Array, classes: Sequence[Array]) -> float:
        replicas = self._strategy.num_replicas_in_sync
        own = len(images) // replicas
        if own * replicas != len(images):
            raise DeviceMissing(
                f"expected batches of a multiple of {replicas}, found {len(images)}"
            )

        def part(
            context: "tf.distribute.experimental.ValueContext",
        ) -> tuple[Array, tuple[Array, ...]]:
            start = context.replica_id_in_sync_group * own
            mine = slice(start, start + own)
            return images[mine], tuple(item[mine] for item in classes)

        batch = self._strategy.experimental_distribute_values_from_function(part)
        model.make_train_function()
        model.reset_metrics()
        answer = model.train_function(iter([batch]))
        return float(answer["loss"])
