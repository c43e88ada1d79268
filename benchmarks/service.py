"""`make bench`: the whole service beside a bare loop over the same model, on this machine's CPU."""

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Annotated

import numpy as np
import onnxruntime
import typer
from numpy.typing import NDArray

from benchmarks.load import ct_zip, requests_per_second, running_service, service_process
from service.decode import decode
from service.decode.archive import ArchiveLimits
from service.decode.options import DecodeOptions
from service.inference.batching import Batcher
from service.inference.contract import INPUT_NAME, OUTPUT_NAMES
from service.inference.session import CPU_PROVIDER, ModelSession
from service.pipeline import Options, dicom_seg, run
from service.settings import Settings
from service.volume import Scan

STARTS = 3
TIMED_S = 10.0


def main(
    ct: Annotated[
        Path | None, typer.Option(help="zip of a CT series; default: the real CT")
    ] = None,
    requests: Annotated[int, typer.Option(help="requests through the service")] = 24,
    clients: Annotated[int, typer.Option(help="at once")] = 8,
) -> None:
    """Print a table for docs/performance.md."""
    data, settings = ct_zip(ct), Settings(device="cpu")
    started = time.perf_counter()
    model = ModelSession.open(settings.model, "cpu", settings.threads)
    open_s = time.perf_counter() - started
    scan = decode_ct(data, model, settings)
    segmenter = Batcher(model, settings.batch_slices)
    stages = _stages(data, segmenter, settings)
    segmenter.close()
    ready_s = [_ready_s() for _ in range(STARTS)]
    plain = onnxruntime.InferenceSession(settings.model, providers=[CPU_PROVIDER])
    hu = np.asarray(scan.volume.array)[..., None]

    def bare() -> tuple[float, float]:
        one = _slices_per_second(partial(_run_plain, plain), hu, settings.batch_slices, loops=1)
        share = settings.batch_slices // model.lanes
        return one, _slices_per_second(model.run, hu, share, model.lanes)

    # Before and after, since a machine's clock drifts while the service runs.
    before = bare()
    with running_service(device="cpu") as address:
        rate = requests_per_second(address, data, clients, requests) * len(hu)
    after = bare()
    loop, lanes = (mean(both) for both in zip(before, after, strict=True))
    rows = [
        (f"start to ready, median of {STARTS}", f"{median(ready_s):.2f} s"),
        ("open the model, self-test included", f"{open_s:.2f} s"),
        ("bare loop of session.run, before and after", f"{before[0]:.1f}, {after[0]:.1f} slices/s"),
        (f"{model.lanes} such loops, a core each", f"{before[1]:.1f}, {after[1]:.1f} slices/s"),
        (f"whole service, {clients} clients", f"{rate:.1f} slices/s"),
        ("whole service / bare loop", f"{rate / loop:.2f}"),
        (f"whole service / {model.lanes} loops", f"{rate / lanes:.2f}"),
        *((f"stage {name}", f"{seconds:.2f} s") for name, seconds in stages.items()),
    ]
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {scan.volume.shape}"
    )
    print("\n| What | Figure |\n| --- | --- |")
    print("\n".join(f"| {name} | {figure} |" for name, figure in rows))


def _ready_s() -> float:
    with service_process(device="cpu") as service:
        return service.ready_s


def decode_ct(data: bytes, model: ModelSession, settings: Settings) -> Scan:
    """The CT as the service decodes it."""
    return decode(
        [data],
        DecodeOptions(
            archive=ArchiveLimits(settings.max_files, settings.max_decompressed_bytes),
            max_voxels=settings.max_voxels,
            modality=model.contract.modality,
            model_window=model.contract.window,
        ),
    )


def _run_plain(session: onnxruntime.InferenceSession, hu: NDArray[np.int16]) -> None:
    session.run(OUTPUT_NAMES, {INPUT_NAME: hu})


def _slices_per_second(
    call: Callable[[NDArray[np.int16]], object], hu: NDArray[np.int16], batch: int, loops: int
) -> float:
    """Rate of full batches in so many loops at once, for `TIMED_S` after one to warm up."""
    batches = [
        np.ascontiguousarray(hu[start : start + batch])
        for start in range(0, len(hu) - batch + 1, batch)
    ]
    call(batches[0])
    started = time.perf_counter()

    def loop(_: int) -> int:
        runs = 0
        while time.perf_counter() - started < TIMED_S:
            call(batches[runs % len(batches)])
            runs += 1
        return runs

    with ThreadPoolExecutor(loops) as pool:
        runs = sum(pool.map(loop, range(loops)))
    return runs * batch / (time.perf_counter() - started)


def _stages(data: bytes, segmenter: Batcher, settings: Settings) -> dict[str, float]:
    result = run([data], Options(), segmenter, settings)
    started = time.perf_counter()
    dicom_seg(result)
    return {**result.timings_s, "encode SEG": time.perf_counter() - started}


if __name__ == "__main__":
    typer.run(main)
