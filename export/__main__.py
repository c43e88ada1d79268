"""Command line of the export: `python -m export COMMAND`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)


@app.callback()
def _export() -> None:
    """Make the files that the service loads."""


@app.command("onnx")
def to_onnx(
    run: Annotated[Path, typer.Argument(help="folder of a training run")],
    data: Annotated[Path, typer.Option(help="folder of slices with manifest.csv")],
    contract: Annotated[Path, typer.Option(help="TOML file, e.g. export/contracts/*.toml")],
    out: Annotated[Path, typer.Option(help="int8 ONNX file to write")],
) -> None:
    """Export a run's network with its contract; its float32 file goes into the run's folder."""
    from export.fields import ContractFields
    from export.release import release
    from training.data import read_manifest

    release(run, read_manifest(data), ContractFields.read(contract), out)


@app.command()
def gpu(
    model: Annotated[Path, typer.Argument(help="int8 ONNX file")],
    out: Annotated[
        Path | None, typer.Option(help="float16 file to write; default: NAME.gpu.onnx beside it")
    ] = None,
) -> None:
    """Make the GPU's float16 graph from an int8 file; needs no TensorFlow."""
    import onnx

    from export.gpu import check_float16, to_float16
    from export.onnx_graph import save_whole

    int8 = onnx.load(model)
    float16 = to_float16(int8)
    print(f"int8 and float16, phantom: {check_float16(int8, float16)}")
    target = out or model.with_suffix(".gpu.onnx")
    save_whole(float16, target)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    app()
