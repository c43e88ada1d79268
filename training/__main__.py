"""Command line of the researcher: `python -m training COMMAND`."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)

Config = Annotated[Path, typer.Argument(help="TOML file, e.g. training/configs/*.toml")]
Data = Annotated[Path, typer.Option(help="LiTS or Decathlon folder, or a folder of slices")]
Prepared = Annotated[Path, typer.Option(help="where unpacked NIfTI volumes are kept")]
EncoderWeights = Annotated[
    Path | None, typer.Option(help="ImageNet weights for ResNet50(include_top=False)")
]
Device = Annotated[str, typer.Option(help="auto, cpu or gpu")]
DeviceCount = Annotated[int, typer.Option(min=1, help="devices of that kind that share each batch")]
Workers = Annotated[int, typer.Option(min=1, help="threads that make batches; all give the same")]

Model = Annotated[
    str, typer.Argument(help="run, cross-validation, .keras, .onnx, or a service's http address")
]
Out = Annotated[Path, typer.Option(help="folder for what is written")]
Split = Annotated[str, typer.Option(help="cases of this split, or `all`")]
AssumeSpacing = Annotated[
    str | None, typer.Option(help="mm between slices, rows, columns where unknown: 2,0.75,0.75")
]
DecisionFile = Annotated[
    Path | None, typer.Option(help="thresholds and what lesions are kept by, as `tune` writes them")
]

AFTER_THE_EPOCH = "the same command goes on after the last whole epoch"
AFTER_THE_CASE = "the same command goes on after the last labelled case"

PREPARED = Path("runs/prepared")


@app.callback()
def _training() -> None:
    """Train and evaluate segmentation networks."""


@app.command()
def phantom(
    out: Annotated[Path, typer.Option(help="folder to write volume-N and segmentation-N into")],
    cases: Annotated[int, typer.Option(min=1)] = 8,
    slices: Annotated[int, typer.Option(min=1)] = 24,
    size: Annotated[int, typer.Option(min=32, help="rows and columns")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="another seed, other cases")] = 0,
) -> None:
    """Write synthetic cases with known labels, to try the other commands on."""
    from training.phantom import write_phantoms

    with _plain_errors():
        write_phantoms(out, cases, slices, size, seed)


@app.command()
def check(data: Data, prepared: Prepared = PREPARED) -> None:
    """Read all of a data set, name every bad case, and say what looks odd in the others."""
    from training.data import open_dataset

    with _plain_errors():
        found = open_dataset(data, prepared)
    slices = found.slices
    typer.echo(
        f"{len(found.cases)} cases, {len(slices)} slices: "
        f"{sum(item.liver_px > 0 for item in slices)} with liver, "
        f"{sum(item.tumor_px > 0 for item in slices)} with tumour; "
        f"{sum(case.tumor_px == 0 for case in found.cases)} case(s) without tumour"
    )
    for case in found.cases:
        for notice in case.notices:
            typer.echo(f"{case.name}: {notice.code}: {notice.message}")


@app.command()
def train(
    config: Config,
    data: Data,
    out: Annotated[Path, typer.Option(help="folder of the run; an unfinished run goes on")],
    split: Annotated[str, typer.Option(help="train on the cases of this split, or `all`")] = "all",
    hold_out: Annotated[
        list[str] | None, typer.Option(help="cases to leave out and look at, by name")
    ] = None,
    encoder_weights: EncoderWeights = None,
    first_weights: Annotated[
        Path | None, typer.Option(help="an earlier run's model.keras to start from")
    ] = None,
    prepared: Prepared = PREPARED,
    device: Device = "auto",
    device_count: DeviceCount = 1,
    workers: Workers = 1,
) -> None:
    """Train one network."""
    from training.config import TrainingConfig
    from training.data import open_dataset
    from training.folds import check_apart, patients_of
    from training.parallel import Devices
    from training.run_folder import Start
    from training.train import train as run

    with _plain_errors(AFTER_THE_EPOCH):
        devices = Devices.asked(device, device_count)
        settings = TrainingConfig.read(config)
        cases, held_out = open_dataset(data, prepared), None
        patients = patients_of(cases.cases, settings.same_patient)
        if split != "all" and hold_out:
            raise ValueError("expected --split or --hold-out, found both")
        if split != "all":
            cases, held_out = cases.split(split), cases.without_split(split)
        elif hold_out:
            cases, held_out = cases.without(hold_out), cases.only(hold_out)
        if held_out is not None:
            check_apart(cases, held_out, patients)
        elif settings.validation.every_epochs:
            typer.echo("no case is held out: [validation] looks at nothing")
        start = Start(encoder_weights, first_weights)
        run(settings, cases, out, start, held_out, devices, workers=workers)


@app.command()
def crossval(
    config: Config,
    data: Data,
    out: Annotated[Path, typer.Option(help="folder of the folds; what is unfinished goes on")],
    folds: Annotated[int, typer.Option(min=2)] = 5,
    only: Annotated[list[int] | None, typer.Option(help="of these folds only")] = None,
    encoder_weights: EncoderWeights = None,
    prepared: Prepared = PREPARED,
    device: Device = "auto",
    device_count: DeviceCount = 1,
    workers: Workers = 1,
) -> None:
    """Train one network a fold, and keep what each says of the cases that it never saw."""
    from training.config import TrainingConfig
    from training.crossval import cross_validate
    from training.data import open_dataset
    from training.parallel import Devices
    from training.run_folder import Start

    with _plain_errors(AFTER_THE_EPOCH):
        devices = Devices.asked(device, device_count)
        settings = TrainingConfig.read(config)
        cases = open_dataset(data, prepared)
        start = Start(encoder_weights)
        cross_validate(
            settings, cases, out, folds, only or (), start, devices, typer.echo, workers=workers
        )


@app.command()
def evaluate(
    model: Model,
    data: Data,
    out: Out,
    split: Split = "all",
    decision: DecisionFile = None,
    rules: Annotated[
        bool, typer.Option("--rules", help="the service's rules after the model")
    ] = False,
    flips: Annotated[
        bool, typer.Option("--flips", help="a network also sees mirrored slices")
    ] = False,
    unseen: Annotated[
        bool, typer.Option("--unseen", help="only cases that the model did not learn from")
    ] = False,
    compat: Annotated[str, typer.Option(help="paper, or codalab for published tables")] = "paper",
    assume_spacing: AssumeSpacing = None,
    prepared: Prepared = PREPARED,
) -> None:
    """Measure a model on cases: JSON, CSV, and a page with tables and figures."""
    from training.commands import Asked, evaluate_model

    asked = Asked(
        split=split,
        decision=decision,
        rules=rules,
        flips=flips,
        unseen=unseen,
        compat=compat,
        assume_spacing=assume_spacing,
    )
    with _plain_errors(AFTER_THE_CASE):
        typer.echo(evaluate_model(model, data, out, prepared, asked))


@app.command()
def tune(
    predictions: Annotated[Path, typer.Argument(help="folder of a cross-validation")],
    data: Data,
    out: Annotated[Path, typer.Option(help="JSON file for the decision")],
    assume_spacing: AssumeSpacing = None,
    prepared: Prepared = PREPARED,
) -> None:
    """Choose thresholds and what lesions are kept by, on out-of-fold predictions."""
    from training.commands import tune_decision

    with _plain_errors():
        typer.echo(tune_decision(predictions, data, out, prepared, assume_spacing))


@app.command()
def compare(
    subjects: Annotated[list[str], typer.Argument(help="NAME=MODEL, at least one")],
    data: Data,
    out: Out,
    exported: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE.onnx, to measure its slices per second")
    ] = None,
    decision: DecisionFile = None,
    assume_spacing: AssumeSpacing = None,
    prepared: Prepared = PREPARED,
) -> None:
    """One table of runs or cross-validations on the same cases."""
    from training.commands import compare_models

    with _plain_errors(AFTER_THE_CASE):
        typer.echo(
            compare_models(subjects, data, out, prepared, exported or [], decision, assume_spacing)
        )


@app.command()
def figures(
    runs: Annotated[list[str], typer.Argument(help="NAME=RUN, at least one")],
    data: Data,
    out: Out,
    prepared: Prepared = PREPARED,
) -> None:
    """Learning curves of runs, and samples of the first one's augmentation."""
    from training.commands import training_figures

    with _plain_errors():
        typer.echo(training_figures(runs, data, out, prepared))


@contextmanager
def _plain_errors(kept: str = "what was finished is kept") -> Iterator[None]:
    """What a user can mend ends in one line; `kept` says what a command that is stopped leaves."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"stopped; {kept}", err=True)
        raise typer.Exit(130) from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            text = f"the disk is full; {kept}"
        else:
            text = f"{error.filename or ''}: {error.strerror or error}".removeprefix(": ")
        typer.echo(text, err=True)
        raise typer.Exit(1) from None
    except ValueError as error:  # settings, data and weights that do not fit; all say what
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
