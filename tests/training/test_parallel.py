"""Several devices learn what one learns."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_training import tiny_config

from training.crossval import cross_validate
from training.data import Dataset, open_dataset
from training.parallel import DeviceMissing, Devices, _Several
from training.phantom import write_phantoms
from training.run_folder import RunFolder
from training.train import train

ROOT = Path(__file__).parents[2]

LEARN = """
import os, sys
from pathlib import Path
if os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from tiny_training import tiny_config
from training.data import open_dataset
from training.parallel import Devices
from training.train import train
from training.watch import Watch

data, out, *names = sys.argv[1:]
cases = open_dataset(Path(data), Path(data) / "prepared")
seen = cases.only({"volume-2"})
config = tiny_config(
    network={"architecture": "unet", "filters": (4, 4), "deep_supervision": True,
             "norm_momentum": 0.9},
    sampling={"with_tumor": 2, "liver_only": 2, "without_liver": 0},
    optimizer={"ema": 0.9, "warmup_steps": 1, "learning_rate": 0.005},
    validation={} if "machines" in names else {"every_epochs": 1},
    epochs=3,
)
steps = 0

def stop_in_the_second_epoch(watch, loss):
    global steps
    steps += 1
    if steps == 3:
        raise KeyboardInterrupt

learn = keras.Model.train_on_batch

def told(model, images, *rest, **named):
    print("learns from", len(images))
    return learn(model, images, *rest, **named)

keras.Model.train_on_batch = told

for name in names:
    devices = Devices.asked("cpu", 1 if name == "one" else 2)
    run = Path(out) / name
    if name == "broken":
        step, Watch.step = Watch.step, stop_in_the_second_epoch
        try:
            train(config, cases, run, held_out=seen, devices=devices, choose=False)
        except KeyboardInterrupt:
            Watch.step = step
    train(config, cases, run, held_out=seen, devices=devices, choose=False)
"""


ONE_STEP = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import numpy as np
from tiny_training import tiny_config
from training.parallel import Devices
from training.run_folder import AT_RANDOM
from training.train import new_model

rng = np.random.default_rng(0)
images = rng.random((4, 32, 32, 1), dtype=np.float32)
classes = np.eye(3, dtype=np.float32)[rng.integers(0, 3, (4, 32, 32))]
classes[1::2] = (1, 0, 0)  # background only
for count, part in ((2, slice(None)), (1, slice(0, None, 2)), (1, slice(1, None, 2))):
    devices = Devices.asked("cpu", count)
    with devices.scope():
        model = new_model(tiny_config(), AT_RANDOM)
    model.run_eagerly = True  # one step takes longer to trace than to run
    print("loss", devices.step(model, images[part], [classes[part]]))
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


QUICKLY_COMPILED = "--xla_backend_optimization_level=0"
"""Networks this small take XLA far longer to compile than to run."""


def printed(backend: str, script: str, *arguments: str, **settings: str) -> list[str]:
    """The lines that a script prints on two virtual devices."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "XLA_FLAGS": f"{QUICKLY_COMPILED} --xla_force_host_platform_device_count=2",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **settings,
    }
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of seven slices each, which two devices cannot share evenly."""
    folder = tmp_path_factory.mktemp("cases")
    write_phantoms(folder, cases=3, slices=7, size=64)
    open_dataset(folder, folder / "prepared")
    return folder


@pytest.fixture(scope="module")
def learned(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Runs on each backend: on one virtual device, on two, and on two with a stop in between."""

    @cache
    def on(backend: str) -> Path:
        runs = tmp_path_factory.mktemp(backend)
        printed(backend, LEARN, str(cases), str(runs), "one", "two", "broken")
        return runs

    return on


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in RunFolder(run).logged()]


def weights(run: Path) -> list[np.ndarray]:
    network = keras.models.load_model(RunFolder(run).model_path, compile=False)
    return [np.asarray(weight) for weight in network.weights]


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_learn_as_one(backend: str, learned: Callable[[str], Path]) -> None:
    """A whole run on two virtual devices has nearly the losses of one, and goes on where it was
    stopped as if it had not been: with averaged weights, scores of coarser stages, and looks.

    Nearly: each replica normalises over its own half of the batch on TensorFlow, and pools its own
    overlap.
    """
    runs = learned(backend)
    one, two = losses(runs / "one"), losses(runs / "two")
    assert len(one) == 3
    assert two == pytest.approx(one, rel=0.1)
    assert one[2] < one[0]
    assert two[2] < two[0]
    assert losses(runs / "broken") == pytest.approx(two, abs=1e-5)
    for look in RunFolder(runs / "two").logged():
        assert 0 < look["liver_dice"] <= 1
    for two_, broken in zip(weights(runs / "two"), weights(runs / "broken"), strict=True):
        assert np.allclose(two_, broken, atol=1e-4)


def test_each_replica_learns_from_its_own_part() -> None:
    """The loss of a step is the mean of what a device of its own would have on each part."""
    lines = printed("tensorflow", ONE_STEP)
    both, even, odd = (float(line.split()[1]) for line in lines if line.startswith("loss"))
    assert both == pytest.approx((even + odd) / 2, rel=1e-4)
    assert even > 1.2 * odd


def test_two_machines_learn_as_two_devices(
    tmp_path: Path, cases: Path, learned: Callable[[str], Path]
) -> None:
    """Two processes, each with a device, a folder and its part of every batch of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def learn(machine: int) -> set[str]:
        lines = printed(
            "jax", LEARN, str(cases), str(tmp_path / str(machine)), "machines",
            XLA_FLAGS=QUICKLY_COMPILED, KERAS_DISTRIBUTION_JOB_ADDRESSES=f"127.0.0.1:{port}",
            KERAS_DISTRIBUTION_NUM_PROCESSES="2", KERAS_DISTRIBUTION_PROCESS_ID=str(machine),
        )  # fmt: skip
        return {line for line in lines if line.startswith("learns from")}

    with ThreadPoolExecutor(2) as machines:
        assert list(machines.map(learn, (0, 1))) == [{"learns from 2"}] * 2
    runs = [*(tmp_path / name / "machines" for name in "01"), learned("jax") / "two"]
    assert losses(runs[0]) == losses(runs[1]) == pytest.approx(losses(runs[2]), rel=1e-3)
    for first, second, here in zip(*map(weights, runs), strict=True):
        assert np.array_equal(first, second)
        assert np.allclose(first, here, atol=1e-3)


def test_a_batch_that_devices_cannot_share_claims_no_folder(
    tmp_path: Path, phantoms: Dataset
) -> None:
    """The settings can be mended, and the same folder used."""
    devices = _Several(["one", "two", "three"])
    with pytest.raises(DeviceMissing, match=r"expected batches of a multiple of 3, .* found 2"):
        train(tiny_config(), phantoms, tmp_path / "run", devices=devices)
    assert not (tmp_path / "run").exists()


def test_several_machines_are_for_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow would train the same network once on each."""
    monkeypatch.setenv("KERAS_DISTRIBUTION_JOB_ADDRESSES", "127.0.0.1:1")
    with pytest.raises(DeviceMissing, match="several machines learn together on JAX"):
        Devices.asked("cpu", 2)


def test_machines_neither_look_nor_cross_validate(tmp_path: Path, phantoms: Dataset) -> None:
    """None of them holds a whole answer."""
    devices = Devices()
    devices.machines = 2
    looking = tiny_config(validation={"every_epochs": 1})
    with pytest.raises(ValueError, match=r"no \[validation\] on several machines"):
        train(looking, phantoms, tmp_path / "run", devices=devices)
    with pytest.raises(ValueError, match="a cross-validation on one machine"):
        cross_validate(tiny_config(), phantoms, tmp_path / "run", 2, devices=devices)
    assert not (tmp_path / "run").exists()


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
