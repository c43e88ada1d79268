"""Command line of the researcher: `python -m training COMMAND`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)


@app.callback()
def _training() -> None:
    """Train and evaluate segmentation networks."""


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="TOML file, e.g. training/configs/*.toml")],
    data: Annotated[Path, typer.Option(help="folder of slices with manifest.csv")],
    out: Annotated[Path, typer.Option(help="folder of the run; an unfinished run goes on")],
    encoder_weights: Annotated[
        Path | None, typer.Option(help="ImageNet weights for ResNet50(include_top=False)")
    ] = None,
    first_weights: Annotated[
        Path | None, typer.Option(help="weights of an earlier run to go on from")
    ] = None,
) -> None:
    """Train on the manifest's slices of split `train`."""
    from training.config import TrainingConfig
    from training.data import read_manifest
    from training.train import train as run

    slices = [item for item in read_manifest(data) if item.split == "train"]
    run(TrainingConfig.read(config), slices, out, encoder_weights, first_weights)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="exported ONNX file")],
    data: Annotated[Path, typer.Option(help="folder of slices with manifest.csv")],
    split: Annotated[str, typer.Option(help="the manifest's split to measure on")] = "val",
) -> None:
    """Print the Dice of every case of one split."""
    import rich

    from training.data import by_case, read_manifest
    from training.evaluate import evaluate as run
    from training.evaluate import onnx_segmenter

    slices = [item for item in read_manifest(data) if item.split == split]
    if not slices:
        raise typer.BadParameter(f"the manifest has no slice of split {split}")
    rich.print(run(onnx_segmenter(model), by_case(slices)).table(f"{model.name} on {split}"))


if __name__ == "__main__":
    app()
