"""One training run: configuration and cases in, a folder with the network and its log out."""

import math
import time
from pathlib import Path

import keras
import numpy as np

from training.batches import CLASSES, SliceBatches
from training.config import TrainingConfig
from training.data import Dataset
from training.losses import CrossEntropyAndOverlap
from training.network import build_network, finest, weight_shapes
from training.parallel import Devices
from training.run_folder import AT_RANDOM, RunFolder, Start, load_network
from training.validate import Looks, averaged_weights
from training.watch import Watch

COARSER_SCORES_COUNT = 0.5
"""Under deep supervision each coarser stage weighs half of the one before it."""


class Diverged(ValueError):
    """The loss or a weight is no number any more; the checkpoint of the epoch before is kept."""


def train(
    config: TrainingConfig,
    data: Dataset,
    out: Path,
    start: Start = AT_RANDOM,
    held_out: Dataset | None = None,
    devices: Devices | None = None,
    *,
    choose: bool = True,
    workers: int = 1,
) -> None:
    """Train on `data` and leave the network in `out`; does nothing where it is there already.

    An unfinished run in `out` goes on after its last complete epoch, as if it had never stopped.
    `held_out` is looked at as the configuration says. `choose` says whether these looks choose the
    network and the run's end, or are only told. `workers` threads make the batches; the result does
    not depend on their number. Raises ValueError for what cannot be trained, with nothing written;
    `AnotherRun` where `out` holds a run of other settings, data or start; `RunGoesOn` where another
    process trains there; and `Diverged`.
    """
    folder, devices = RunFolder(out), devices or Devices.one()
    batches = SliceBatches(data.slices, config, workers)
    check_start(config, data, start)
    devices.check_shares(config.sampling.batch_size)
    if devices.machines > 1 and config.validation.every_epochs:
        raise ValueError("expected no [validation] on several machines, found it")
    chooses = choose and config.validation.every_epochs > 0
    with folder.alone():
        folder.claim(config, data, start, held_out if chooses else None)
        if folder.finished:
            return
        with devices.scope():
            model = _resume(folder, config) or new_model(config, start)
            _build_losses(model)
        steps = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
        first_epoch = steps // config.steps_per_epoch
        devices.check_together(first_epoch)
        folder.begin_log(first_epoch)
        looks = Looks(config, folder, held_out, choose)
        _learn(model, batches, first_epoch, folder, looks, devices)
        _finish(model, folder)


def _learn(
    model: keras.Model,
    batches: SliceBatches,
    first_epoch: int,
    folder: RunFolder,
    looks: Looks,
    devices: Devices,
) -> None:
    config = batches.config
    with Watch(folder, config, first_epoch) as watch:
        # A plain loop, not Model.fit: on TensorFlow 2.21 fit feeds Python data through tf.data,
        # whose prefetch thread deadlocked with the interpreter's lock at the end of an epoch.
        for epoch in range(first_epoch, config.epochs):
            if looks.enough:
                break
            started, losses = time.perf_counter(), []
            batches.epoch = epoch
            for images, classes in batches:
                losses.append(devices.step(model, images, [classes] * len(model.outputs)))
                watch.step(losses[-1])
            loss = float(np.mean(losses))
            _check_finite(loss, model, epoch)
            seen = looks.after(epoch, model)
            watch.epoch(epoch, loss, time.perf_counter() - started, seen)
            folder.save(model, folder.checkpoint_path)


def check_start(config: TrainingConfig, data: Dataset, start: Start) -> None:
    """Raises ValueError where the network cannot be built, not with these weights, or would see
    what the images do not hold.
    """
    data.check_window(config.window)
    _built(config, start)


def _built(config: TrainingConfig, start: Start) -> keras.Model:
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    model = build_network(config.network, None, CLASSES, start.encoder)
    if start.network is not None:
        _take_weights(model, start.network)
    return model


def new_model(config: TrainingConfig, start: Start) -> keras.Model:
    """A network before its first step, compiled with the optimiser and the losses of the settings.

    Raises ValueError for one that cannot be built, or not with these weights.
    """
    model = _built(config, start)
    outputs = len(model.outputs)
    model.compile(
        optimizer=_optimizer(config),
        loss=[CrossEntropyAndOverlap.of(config.loss) for _ in range(outputs)],
        loss_weights=[COARSER_SCORES_COUNT**stage for stage in range(outputs)],
        jit_compile=keras.backend.backend() == "jax",
    )
    model.optimizer.build(model.trainable_variables)  # in the scope of several devices, if any
    return model


def _build_losses(model: keras.Model) -> None:
    """Let Keras make what it counts each output's loss with, which it else does in the first step:
    too late for several devices.
    """
    nothing = np.zeros((1, 32, 32, CLASSES), np.float32)
    outputs = [nothing] * len(model.outputs)
    model.compute_loss(y=outputs, y_pred=outputs)
    model.reset_metrics()


def _optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    settings = config.optimizer
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=settings.learning_rate / 100,
        decay_steps=max(1, config.epochs * config.steps_per_epoch - settings.warmup_steps),
        warmup_target=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
    )
    return keras.optimizers.AdamW(
        schedule,
        weight_decay=settings.weight_decay,
        use_ema=settings.ema is not None,
        ema_momentum=settings.ema or 0.99,
    )


def _take_weights(model: keras.Model, path: Path) -> None:
    """Raises ValueError for a network of another architecture or width."""
    earlier, own = load_network(path), finest(model)
    if weight_shapes(earlier) != weight_shapes(own):
        raise ValueError(f"expected weights of a {model.name} of this size, found {earlier.name}")
    own.set_weights(earlier.get_weights())


def _resume(folder: RunFolder, config: TrainingConfig) -> keras.Model | None:
    """Raises ValueError for a checkpoint of another network than the configuration's."""
    path = folder.checkpoint_path
    if not path.exists():
        return None
    model = load_network(path, to_learn=True)
    if weight_shapes(model) != weight_shapes(build_network(config.network, None, CLASSES)):
        wanted = f"{config.network.architecture} {config.network.filters}"
        raise ValueError(f"{path}: expected a checkpoint of {wanted}, found another {model.name}")
    if not model.compiled:
        raise ValueError(f"{path}: expected a checkpoint, found a network without its optimiser")
    return model


def _check_finite(loss: float, model: keras.Model, epoch: int) -> None:
    """Raises `Diverged`; a loss may be finite where the last step's weights are not."""
    found = None if math.isfinite(loss) else f"a loss of {loss}"
    for weight in (*model.weights, *model.optimizer.variables):
        if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
            found = found or f"weights of {weight.path} that are not"
    if found:
        raise Diverged(
            f"epoch {epoch + 1}: expected finite numbers, found {found}; a lower learning rate may "
            "help, in a new folder"
        )


def _finish(model: keras.Model, folder: RunFolder) -> None:
    """Keep the network that did best where that was looked at, else the last one."""
    if folder.best_path.exists():
        folder.best_path.replace(folder.model_path)
        return
    with averaged_weights(model):
        folder.save(finest(model), folder.model_path)
