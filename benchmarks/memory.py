"""`python -m benchmarks.memory`: the service's peak memory above idle while it answers one request.

The series is synthetic; its zip and everything else of the client live in another process.
"""

import io
import re
import zipfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from highdicom import Volume

from benchmarks.load import post, service_process
from service.phantom import Phantom
from service.phantom_files import ct_datasets

MB = 1e6
ANSWERS = ("application/json", "application/dicom", "application/zip")
_DRAWN_SLICES = 60
"""Slices that are drawn; more repeat them, since noise for 600 takes minutes."""


def main(
    slices: Annotated[int, typer.Option(min=_DRAWN_SLICES, help="a multiple of 60")] = 600,
    size: Annotated[int, typer.Option(min=16, help="rows and columns")] = 512,
) -> None:
    """Print a table for docs/performance.md."""
    data = series_zip(slices, size)
    volume_mb = slices * size * size * 2 / MB
    print(f"{slices} x {size} x {size}: int16 {volume_mb:.0f} MB, zip {len(data) / MB:.0f} MB")
    print("\n| What | Figure |\n| --- | --- |")
    with service_process(device="cpu") as service:
        idle_mb = resident_mb(service.pid, "VmRSS")
        print(f"| idle | {idle_mb:.0f} MB |")
        for answer in ANSWERS:
            reset_peak(service.pid)
            post(service.address, data, answer)
            above_mb = resident_mb(service.pid, "VmHWM") - idle_mb
            share = above_mb / volume_mb
            print(f"| peak above idle, {answer} | {above_mb:.0f} MB, {share:.2f} volumes |")


def series_zip(slices: int, size: int) -> bytes:
    """A zip of a phantom's CT series; the patient's height is the same for any number of slices."""
    drawn = Phantom.draw(7).sample(_DRAWN_SLICES, size, seed=7)[0]
    repeats = slices // _DRAWN_SLICES
    affine = drawn.affine.copy()
    affine[:, 0] /= repeats
    return zipped(Volume(np.repeat(np.asarray(drawn.array), repeats, axis=0), affine, "PATIENT"))


def zipped(volume: Volume) -> bytes:
    """A zip of a CT series that holds this volume."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for index, dataset in enumerate(ct_datasets(volume)):
            file = io.BytesIO()
            dataset.save_as(file, enforce_file_format=True)
            archive.writestr(f"{index:04d}.dcm", file.getvalue())
    return buffer.getvalue()


def resident_mb(pid: int, field: str) -> float:
    """VmRSS, what a process holds now, or VmHWM, the most since `reset_peak`, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise ValueError(f"expected {field} in the status of process {pid}, found none")
    return int(found[1]) * 1024 / MB


def reset_peak(pid: int) -> None:
    """Let VmHWM begin at what the process holds now (Linux, Documentation/filesystems/proc)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


if __name__ == "__main__":
    typer.run(main)
