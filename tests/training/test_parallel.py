"""Several devices learn what one learns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.parallel import DeviceMissing, Devices

ROOT = Path(__file__).parents[2]

TWO_DEVICES = """
import os
if os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import numpy as np
from tiny_training import TINY_FILTERS, tiny_config
from training.network import build_network
from training.parallel import Devices
from training.run_folder import AT_RANDOM
from training.train import new_model

for count in (1, 2):
    devices = Devices.asked("cpu", count)
    keras.utils.set_random_seed(1)
    with devices.scope():
        model = new_model(tiny_config(), AT_RANDOM)
    rng = np.random.default_rng(0)
    images = rng.random((4, 32, 32, 1), dtype=np.float32)
    classes = np.eye(3, dtype=np.float32)[rng.integers(0, 3, (4, 32, 32))]
    for _ in range(3):
        print("loss", count, devices.step(model, images, [classes]))
"""


LOOK_AT_AVERAGES = """
import numpy as np
from tiny_training import tiny_config
from training.run_folder import AT_RANDOM
from training.train import new_model
from training.validate import averaged_weights

model = new_model(tiny_config(optimizer={"ema": 0.9, "warmup_steps": 0}), AT_RANDOM)
images = np.random.default_rng(0).random((2, 32, 32, 1), dtype=np.float32)
classes = np.eye(3, dtype=np.float32)[(images[..., 0] > 0.5).astype(int)]
for _ in range(2):
    model.train_on_batch(images, classes)
    own = np.array(model.trainable_variables[0])
    with averaged_weights(model):
        model.predict_on_batch(images)
    assert np.array_equal(own, np.array(model.trainable_variables[0]))
    print("average", [float(np.sum(variable)) for variable in model.optimizer.variables][-1])
"""


def losses(backend: str) -> tuple[list[float], list[float]]:
    """Of three steps on one device, and of three on two."""
    lines = [line.split() for line in printed(backend, TWO_DEVICES) if line.startswith("loss")]
    one, two = ([float(loss) for _, at, loss in lines if at == count] for count in "12")
    return one, two


def printed(backend: str, script: str) -> list[str]:
    """The lines that a script prints on two virtual devices."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_learn_as_one(backend: str) -> None:
    """Three steps on two virtual devices have nearly the losses of one.

    Not exactly: each replica normalises over its own half of the batch on TensorFlow, and pools its
    own overlap.
    """
    one, two = losses(backend)
    assert len(one) == len(two) == 3
    assert two == pytest.approx(one, rel=0.1)
    assert one[2] < one[0]
    assert two[2] < two[0]


def test_absent_devices_are_named() -> None:
    """A GPU that is not there, more devices than there are, and a kind that is none."""
    with pytest.raises(DeviceMissing, match=r"expected 1 gpu device\(s\), found 0"):
        Devices.asked("gpu", 1)
    with pytest.raises(DeviceMissing, match=r"expected 64 cpu device\(s\), found 1"):
        Devices.asked("cpu", 64)
    with pytest.raises(DeviceMissing, match="expected the device auto, cpu or gpu, found tpu"):
        Devices.asked("tpu", 1)


def test_a_kind_that_a_machine_lacks_is_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX raises an error of its own where TensorFlow's list is empty."""

    def listed(kind: str) -> list[str]:
        if kind == "gpu":
            raise RuntimeError("Unknown backend: 'gpu' requested")
        return ["cpu:0"]

    monkeypatch.setattr("keras.distribution.list_devices", listed)
    assert Devices.asked("auto", 1)._name == "cpu:0"
    with pytest.raises(DeviceMissing, match=r"expected 1 gpu device\(s\), found 0"):
        Devices.asked("gpu", 1)


def test_averages_outlive_a_look_on_jax() -> None:
    """A network that is looked at with its averaged weights learns on, and has them still."""
    lines = printed("jax", LOOK_AT_AVERAGES)
    assert sum(line.startswith("average") for line in lines) == 2
