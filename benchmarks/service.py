"""`make bench`: the whole service beside a bare loop over the same model, on this machine's CPU."""

import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer

from benchmarks.load import ct_zip, requests_per_second, running_service, service_process
from service.decode import decode
from service.decode.archive import ArchiveLimits
from service.decode.options import DecodeOptions
from service.inference.batching import Batcher
from service.inference.session import ModelSession
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
    # Before and after, since a machine's clock drifts while the service runs.
    before = _bare_slices_per_second(scan, model, settings.batch_slices)
    with running_service(device="cpu") as address:
        rate = requests_per_second(address, data, clients, requests)
    after = _bare_slices_per_second(scan, model, settings.batch_slices)
    slices, bare = scan.volume.spatial_shape[0], (before + after) / 2
    rows = [
        (f"start to ready, median of {STARTS}", f"{median(ready_s):.2f} s"),
        ("open the model, self-test included", f"{open_s:.2f} s"),
        ("bare session.run, before and after", f"{before:.1f}, {after:.1f} slices/s"),
        (f"whole service, {clients} clients", f"{rate * slices:.1f} slices/s"),
        ("whole service / bare", f"{rate * slices / bare:.2f}"),
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


def _bare_slices_per_second(scan: Scan, model: ModelSession, batch_slices: int) -> float:
    """Rate of the scan's slices in full batches, in as many loops at once as suit the session."""
    hu = np.asarray(scan.volume.array)[..., None]
    batches = [
        np.ascontiguousarray(hu[start : start + batch_slices])
        for start in range(0, len(hu) - batch_slices + 1, batch_slices)
    ]
    model.run(batches[0])
    started = time.perf_counter()

    def loop(_: int) -> int:
        runs = 0
        while time.perf_counter() - started < TIMED_S:
            model.run(batches[runs % len(batches)])
            runs += 1
        return runs

    with ThreadPoolExecutor(model.lanes) as pool:
        runs = sum(pool.map(loop, range(model.lanes)))
    return runs * batch_slices / (time.perf_counter() - started)


def _stages(data: bytes, segmenter: Batcher, settings: Settings) -> dict[str, float]:
    result = run([data], Options(), segmenter, settings)
    started = time.perf_counter()
    dicom_seg(result)
    return {**result.timings_s, "encode SEG": time.perf_counter() - started}


if __name__ == "__main__":
    typer.run(main)
