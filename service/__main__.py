"""Command line: `python -m service serve | worker | listen | keys | segment | phantom ...`."""

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from service import keys_commands, logs, memory, tracing
from service.errors import ServiceError
from service.settings import Settings
from service.starting import (
    check_certificate,
    nodes_of,
    read_settings,
    refuse_half_a_cluster,
    refuse_open_doors,
    take_folder,
)

if TYPE_CHECKING:
    from service.api.app import OpenModel, Role
    from service.inference.session import ModelSession

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(keys_commands.app, name="keys")

_log = structlog.get_logger(__name__)

OPENAPI_FILE = Path(__file__).parent.parent / "openapi" / "openapi.json"


@app.callback()
def _service() -> None:
    """Find the liver and its tumours on CT. Research use only, not for diagnosis."""
    # NumPy reads this when it is imported, which no command has done yet. It would ask for huge
    # pages, of which a few labels take whole ones: 150 MB more for 600 slices, and no time gained.
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")


@app.command()
def serve(
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="work on durable segmentations, too")
    ] = True,
) -> None:
    """Serve the API; the settings are LTS_ environment variables, listed in docs/operations.md."""
    _run("all" if worker else "api")


@app.command()
def worker() -> None:
    """Work on the durable segmentations of LTS_DATABASE_URL; answer only health and metrics."""
    _run("worker")


def _run(role: "Role") -> None:
    settings = read_settings()
    logs.configure()
    if role != "worker":  # which answers only health and metrics
        refuse_open_doors(settings)
    refuse_half_a_cluster(settings, is_shared=role != "all")
    check_certificate(settings)
    nodes_of(settings)
    take_folder(settings, settings.lock_file)
    tracing.start(os.environ)
    # Goes on in a thread while the rest is imported.
    open_model = None if role == "api" else _open_model(settings)

    import uvicorn

    from service.api.app import create_app, open_session
    from service.api.protocol import BoundedProtocol

    failures: list[BaseException] = []

    def end_at_once(failure: BaseException) -> None:
        failures.append(failure)
        server.should_exit = True

    application = create_app(settings, open_model or open_session, role, end_at_once)

    class Server(uvicorn.Server):
        """Answers on, `ready` with 503, until the jobs have ended or were handed back."""

        is_ending = False

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            held = getattr(application.state, "resources", None)
            if held is not None and not self.is_ending:
                held.drain()
            if self.is_ending or held is None or not self.started:
                super().handle_exit(sig, frame)
                return
            self.is_ending = True

            def end() -> None:
                try:
                    held.finish_jobs()
                finally:
                    # Requests had as long; those that go on now may finish what is left of it.
                    self.config.timeout_graceful_shutdown = max(1, int(held.grace_left_s))
                    uvicorn.Server.handle_exit(self, sig, None)

            threading.Thread(target=end, name="drain").start()

    memory.keep_little()
    memory.collect_rarely()
    # The server sends itself the signal once more after an orderly end: that is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = Server(
        uvicorn.Config(
            application,
            host=settings.host,
            port=settings.port,
            http=BoundedProtocol,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, int(settings.grace_s)),
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
        )
    )
    code: object = 0
    try:
        server.run()
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = 130
    if failures:
        code = _failed_to_start(failures[0])
    tracing.stop()
    # A thread of the engine may wait for a database that is away, and would be waited for. All that
    # must outlive this process is written down.
    logging.shutdown()
    os._exit(code if isinstance(code, int) else int(code is not None))


@app.command()
def listen() -> None:
    """Receive series by DICOM (C-STORE), and have the service of LTS_SERVICE_URL segment each.

    The settings are LTS_ environment variables; the callers of LTS_PACS_FILE may send, nobody else.
    """
    settings = read_settings()
    logs.configure()
    callers = nodes_of(settings).callers
    if not callers:
        typer.echo("Expected callers in LTS_PACS_FILE, found none: nobody may send.", err=True)
        raise typer.Exit(1)
    take_folder(settings, settings.received_folder / "lock")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    from service.listen import listener

    try:
        listener.listen(settings, callers, stop)
    except OSError as error:
        typer.echo(
            "Expected LTS_LISTEN_PORT and LTS_LISTEN_METRICS_PORT to be free, and LTS_DATA_DIR to "
            f"be writable, found: {error.strerror}.",
            err=True,
        )
        raise typer.Exit(1) from error


@app.command()
def segment(
    path: Annotated[Path, typer.Argument(help="a file, or a folder with a study", exists=True)],
    out: Annotated[Path, typer.Option(help="folder for the results; made where missing")],
    pixel_spacing_mm: Annotated[
        float | None, typer.Option(min=0.01, max=10, help="pixel side of images")
    ] = None,
    series_instance_uid: Annotated[
        str | None, typer.Option(help="which CT series; default: the axial one with most slices")
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="take a tilted or unevenly spaced series")
    ] = False,
) -> None:
    """Segment one study without a server and write every output into a folder."""
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import track

    from service.inference.batching import Batcher
    from service.inference.session import ModelSession
    from service.pipeline import Options, outputs, run

    logs.configure()
    console = Console(stderr=True)
    settings = read_settings()
    options = Options(
        pixel_spacing_mm=pixel_spacing_mm,
        series_instance_uid=series_instance_uid,
        resample=resample,
    )
    try:
        files = [file.read_bytes() for file in _files(path)]
        model = Batcher(ModelSession.of(settings), settings.batch_slices)
        with Bar(console=console) as bar:
            task = bar.add_task("slices", total=None)
            result = run(
                files,
                options,
                model,
                settings,
                lambda done, total: bar.update(task, completed=done, total=total),
            )
        for name, content in track(outputs(result), "writing", console=console):
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    except ServiceError as error:
        console.print(f"{error.title} {error}", style="red", highlight=False)
        raise typer.Exit(1) from error
    console.print(f"written to {out}", highlight=False)


@app.command()
def phantom(
    out: Annotated[Path, typer.Option(help="folder for a DICOM series, or a file ending in .nii")],
    seed: Annotated[int, typer.Option(help="decides where the lesions lie")] = 7,
    slices: Annotated[int, typer.Option(min=1, max=600)] = 60,
    size: Annotated[int, typer.Option(min=16, max=1024, help="rows and columns")] = 256,
    orientation: Annotated[
        str, typer.Option(help="where slices, rows and columns point, e.g. HPL (axial)")
    ] = "HPL",
) -> None:
    """Write a synthetic abdomen with known volumes, to try the service without a patient's data."""
    from service.phantom import Phantom
    from service.phantom_files import nifti_bytes, write_dicom

    drawn = Phantom.draw(seed)
    try:
        volume = drawn.sample(slices, size, seed)[0].to_patient_orientation(orientation.upper())
    except ValueError as error:
        raise typer.BadParameter(
            "expected three letters, e.g. HPL", param_hint="orientation"
        ) from error
    if out.suffix == ".nii":
        out.write_bytes(nifti_bytes(volume))
    else:
        write_dicom(volume, out, seed)
    typer.echo(f"liver {drawn.liver_ml:.1f} mL, tumour {drawn.tumor_ml:.1f} mL")


@app.command()
def openapi(
    out: Annotated[Path, typer.Option(help="where to write the document")] = OPENAPI_FILE,
) -> None:
    """Write the API's OpenAPI document."""
    from service.api.app import create_app

    document = create_app(Settings()).openapi()
    out.write_text(json.dumps(document, indent=2) + "\n")


def _failed_to_start(failure: BaseException) -> int:
    """Say why, and give the exit status."""
    if isinstance(failure, ServiceError):
        typer.echo(f"{failure.title} {failure}", err=True)
    else:
        _log.error("failed to start", place=logs.place_of(failure))
    return 1


def _open_model(settings: Settings) -> "OpenModel":
    """How the application opens its model, which begins now."""
    from service.inference.session import ModelSession

    thread = ThreadPoolExecutor(1, "model")
    loading = thread.submit(ModelSession.of, settings)
    thread.shutdown(wait=False)
    return lambda _: _bounded(settings, loading.result())


def _bounded(settings: Settings, opened: "ModelSession") -> "ModelSession":
    """The model, from when on the memory of this process is bounded; CUDA reserves as it likes."""
    if opened.device == "cpu":
        memory.bound(settings.max_memory_bytes)
    return opened


def _files(path: Path) -> Iterator[Path]:
    """The file, or those of a folder in the order that an archive's would have."""
    from service.decode.archive import natural_key

    if path.is_dir():
        files = (file for file in path.rglob("*") if file.is_file())
        yield from sorted(files, key=lambda file: natural_key(str(file)))
    else:
        yield path


if __name__ == "__main__":
    app()
