"""Command line of the export: `python -m export MODEL --out FOLDER`, and `python -m export gpu`."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)


@app.command()
def model(
    run: Annotated[
        Path, typer.Argument(metavar="MODEL", help="a run's folder, or its model.keras")
    ],
    data: Annotated[
        Path, typer.Option(help="the run's data, to calibrate int8 with, and cases it never saw")
    ],
    contract: Annotated[
        Path,
        typer.Option(help="TOML file of what people decide, as in export/contracts"),
    ],
    out: Annotated[Path, typer.Option(help="new folder for the files")],
    report: Annotated[
        Path | None,
        typer.Option(
            help="evaluation.json of a cross-validation: the contract's figures and decision"
        ),
    ] = None,
    prepared: Annotated[Path, typer.Option(help="where unpacked NIfTI volumes are kept")] = Path(
        "runs/prepared"
    ),
) -> None:
    """Write a run's network in float32, float16 and int8, with contract, card and figures."""
    os.environ["KERAS_BACKEND"] = "tensorflow"  # tf2onnx reads nothing else
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors; else the figures drown in notes
    from export.fields import ContractFields
    from export.release import release
    from training.data import open_dataset

    with _plain_errors():
        fields = ContractFields.read(contract)
        release(run, lambda: open_dataset(data, prepared), fields, out, report)


@app.command()
def gpu(
    model: Annotated[Path, typer.Argument(help="int8 ONNX file")],
    out: Annotated[
        Path | None, typer.Option(help="float16 file to write; default: NAME.gpu.onnx beside it")
    ] = None,
) -> None:
    """Make the GPU's float16 graph from an int8 file; needs no TensorFlow."""
    from export.gpu import check_float16, to_float16
    from export.onnx_graph import open_whole, save_whole

    with _plain_errors():
        int8 = open_whole(model)
        float16 = to_float16(int8)
        print(f"int8 and float16, phantom: {check_float16(int8, float16)}")
        target = out or model.with_suffix(".gpu.onnx")
        save_whole(float16, target)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What a user can mend ends in one line, and says that nothing was written."""
    try:
        yield
    except OSError as error:
        text = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        typer.echo(f"{text}; nothing was written", err=True)
        raise typer.Exit(1) from None
    except ValueError as error:  # runs, data and files that do not fit, and drift; all say what
        typer.echo(f"{error}; nothing was written", err=True)
        raise typer.Exit(1) from None


def main(arguments: list[str]) -> None:
    """An export needs no command's name."""
    named = not arguments or arguments[0] in ("model", "gpu", "--help")
    app(arguments if named else ["model", *arguments], prog_name="python -m export")


if __name__ == "__main__":
    main(sys.argv[1:])
