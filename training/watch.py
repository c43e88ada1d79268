"""What can be seen of a run while it goes on: a bar, a CSV log, TensorBoard."""

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboard.summary import Writer

from training.config import TrainingConfig
from training.run_folder import RunFolder


class Watch:
    """Is told of every step and epoch."""

    def __init__(self, folder: RunFolder, config: TrainingConfig, first_epoch: int) -> None:
        self._folder = folder
        self._config = config
        self._writer = Writer(str(folder.tensorboard_path))
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeRemainingColumn(),
        )
        steps = config.steps_per_epoch
        self._task = self._bar.add_task(
            config.name,
            total=config.epochs * steps,
            completed=first_epoch * steps,
            epoch=first_epoch + 1,
            epochs=config.epochs,
            loss=float("nan"),
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._writer.close()

    def step(self, loss: float) -> None:
        self._bar.update(self._task, advance=1, loss=loss)

    def epoch(self, epoch: int, loss: float, seconds: float, seen: dict[str, float]) -> None:
        """`seen`: what a look at held-out cases gave, empty without one."""
        self._folder.log(epoch=epoch, loss=round(loss, 6), seconds=round(seconds, 1), **seen)
        for name, value in {"loss": loss, **seen}.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()
        self._bar.update(self._task, epoch=min(epoch + 2, self._config.epochs))
        dices = "".join(f", {name.replace('_', ' ')} {value:.4f}" for name, value in seen.items())
        self._bar.console.print(f"epoch {epoch + 1}: loss {loss:.4f}, {seconds:.0f} s{dices}")
