"""`python -m benchmarks.training CONFIG --data DATA`: what a step of training takes, in parts."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from training.batches import SliceBatches
from training.config import TrainingConfig
from training.data import open_dataset
from training.parallel import Devices
from training.run_folder import AT_RANDOM
from training.train import new_model

WARM_UP = 3
"""Steps that are not counted: the backend compiles in the first."""


def main(
    config: Annotated[Path, typer.Argument(help="TOML file of a run, as in training/configs")],
    data: Annotated[Path, typer.Option(help="its data")],
    steps: Annotated[int, typer.Option(min=1, help="steps to count")] = 16,
    prepared: Annotated[Path, typer.Option(help="where unpacked NIfTI volumes are kept")] = Path(
        "runs/prepared"
    ),
) -> None:
    """Print a table for docs/training.md: the first epoch's steps of a network at random."""
    asked = TrainingConfig.read(config)
    settings = asked.model_copy(update={"steps_per_epoch": WARM_UP + steps})
    batches = SliceBatches(open_dataset(data, prepared).slices, settings)
    model, devices = new_model(settings, AT_RANDOM), Devices.one()
    outputs = len(model.outputs)
    images, classes = batches[0]
    made = iter(batches)

    def learn_only() -> None:
        devices.step(model, images, [classes] * outputs)

    def train() -> None:
        images, classes = next(made)
        devices.step(model, images, [classes] * outputs)

    print(f"{settings.name}: {len(images)} slices of {images.shape[1]} x {images.shape[2]}")
    print("\n| A step | Seconds | Of the processor |\n| --- | --- | --- |")
    for name, step in (("learning alone", learn_only), ("with its batch", train)):
        seconds, cpu_seconds = per_step(step, steps)
        print(f"| {name} | {seconds:.2f} | {cpu_seconds:.2f} |")


def per_step(step: Callable[[], None], steps: int) -> tuple[float, float]:
    """By the clock, and of all cores together."""
    for _ in range(WARM_UP):
        step()
    started, cpu_started = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step()
    return (
        (time.perf_counter() - started) / steps,
        (time.process_time() - cpu_started) / steps,
    )


if __name__ == "__main__":
    typer.run(main)
