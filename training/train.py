"""One training run: configuration and slices in, a folder with weights, log and settings out."""

import csv
import time
from pathlib import Path

import keras
import numpy as np

from training.config import TrainingConfig
from training.data import CLASSES, LabelledSlice, SliceBatches
from training.losses import CrossEntropyAndDice
from training.network import resnet50_unet

WEIGHTS_FILE = "model.weights.h5"
CONFIG_FILE = "config.json"
LOG_FILE = "log.csv"
CHECKPOINT_FILE = "checkpoint.keras"


def train(
    config: TrainingConfig,
    slices: list[LabelledSlice],
    out: Path,
    encoder_weights: Path | None,
    first_weights: Path | None = None,
) -> None:
    """Train on `slices` and write weights, log and configuration into `out`.

    The network starts from `first_weights` (all of an earlier run's), else with its encoder from
    `encoder_weights`, else at random. An unfinished run in `out` goes on after its last complete
    epoch.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / CONFIG_FILE).write_text(config.model_dump_json(indent=2))
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    model = _resume(out) or _start(config, encoder_weights, first_weights)
    first_epoch = int(model.optimizer.iterations) // config.steps_per_epoch
    batches = SliceBatches(slices, config)
    # A plain loop, not Model.fit: on TensorFlow 2.21 fit feeds Python data through tf.data, whose
    # prefetch thread deadlocked with the interpreter's lock at the end of an epoch.
    for epoch in range(first_epoch, config.epochs):
        started = time.perf_counter()
        losses = [model.train_on_batch(*batch) for batch in batches.epoch(epoch)]
        _save(model, out / CHECKPOINT_FILE)
        _log(out, epoch, float(np.mean(losses)), time.perf_counter() - started)
    model.save_weights(out / WEIGHTS_FILE)


def _start(
    config: TrainingConfig, encoder_weights: Path | None, first_weights: Path | None
) -> keras.Model:
    model = resnet50_unet(None, CLASSES, config.decoder_filters, encoder_weights)
    if first_weights is not None:
        model.load_weights(first_weights)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=config.learning_rate / 100,
        decay_steps=config.epochs * config.steps_per_epoch - config.warmup_steps,
        warmup_target=config.learning_rate,
        warmup_steps=config.warmup_steps,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay)
    model.compile(optimizer=optimizer, loss=CrossEntropyAndDice(), jit_compile=False)
    return model


def _resume(out: Path) -> keras.Model | None:
    checkpoint = out / CHECKPOINT_FILE
    return keras.models.load_model(checkpoint) if checkpoint.exists() else None


def _save(model: keras.Model, checkpoint: Path) -> None:
    """Replace the checkpoint as a whole: a run killed while writing keeps the one before."""
    partial = checkpoint.with_name("partial.keras")
    model.save(partial)
    partial.replace(checkpoint)


def _log(out: Path, epoch: int, loss: float, seconds: float) -> None:
    """Append one line to the run's log, under a header where the log is new."""
    log = out / LOG_FILE
    new = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["epoch", "loss", "seconds"])
        writer.writerow([epoch, f"{loss:.6f}", f"{seconds:.1f}"])
    print(f"epoch {epoch + 1}: loss {loss:.4f}, {seconds:.0f} s", flush=True)
