"""`python -m benchmarks.objects`: seconds and memory to write each object of a large result.

600 slices of 512 x 512 with six segments, each of them through all slices, on one core, in seconds
of that core. Fails above the limits below.
"""

import os
import time
from typing import Annotated

import numpy as np
import typer

from benchmarks.memory import reset_peak, resident_mb, series_zip
from service.contours import trace
from service.encode.objects import FILES, ObjectName
from service.findings import measure
from service.inference.segment import Segmentation
from service.inference.session import ModelSession
from service.memory import collect_rarely
from service.phantom import Ellipsoid
from service.pipeline import Options, Result, Run, dicom_object, fhir_report
from service.settings import Settings
from service.volume import LIVER_LABEL, TUMOR_LABEL, Scan

LIMITS_S: dict[ObjectName, float] = {"seg": 3.0, "sr": 3.0, "rtstruct": 3.0}
LIMITS_MB: dict[ObjectName, float] = {"seg": 500.0}

LESIONS = 5


def main(
    slices: Annotated[int, typer.Option(min=60, help="a multiple of 60")] = 600,
    size: Annotated[int, typer.Option(min=64, help="rows and columns")] = 512,
) -> None:
    """Print a table for docs/performance.md, and fail where a limit is passed."""
    slices -= slices % 60
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    written(drawn_result(60, 64), "seg")  # highdicom reads its tables once in a process
    result = drawn_result(slices, size)
    collect_rarely()  # as the service does
    segments = 1 + len(result.measured.findings.lesions)
    print(f"{slices} x {size} x {size}, {segments} segments, one core")
    print("\n| Object | Seconds | Peak above before | Size |\n| --- | --- | --- | --- |")
    failures = []
    for name in FILES:
        spent_s, peak_mb, size_mb = written(result, name)
        print(f"| {name} | {spent_s:.2f} | {peak_mb:.0f} MB | {size_mb:.1f} MB |")
        if spent_s > LIMITS_S.get(name, np.inf) or peak_mb > LIMITS_MB.get(name, np.inf):
            failures.append(name)
    started = time.process_time()
    fhir_report(result)
    print(f"| FHIR report | {time.process_time() - started:.2f} | | |")
    if failures:
        raise SystemExit(f"over the limit: {', '.join(failures)}")


def written(result: Result, name: ObjectName) -> tuple[float, float, float]:
    """Seconds, megabytes of memory at the most above before, and megabytes of the files."""
    process = os.getpid()
    before_mb = resident_mb(process, "VmRSS")
    reset_peak(process)
    started = time.process_time()
    size = sum(len(content) for _, content in dicom_object(result, name))
    spent_s = time.process_time() - started
    return spent_s, resident_mb(process, "VmHWM") - before_mb, size / 1e6


def drawn_result(slices: int, size: int) -> Result:
    """A result whose labels are drawn: an organ and five lesions as cylinders through the stack."""
    settings = Settings(device="cpu")
    model = ModelSession.open(settings.model, "cpu", settings.threads)
    run = Run(Options(), model)
    scan = run.read(run.inspect([series_zip(slices, size)], settings))
    segmentation = drawn(scan)
    measured = measure(segmentation)
    contours = trace(segmentation.labels, measured.lesion_ids)
    return Result(segmentation, measured, contours, model, "0" * 64, {})


def drawn(scan: Scan) -> Segmentation:
    slices, rows, columns = scan.volume.spatial_shape
    labels = np.zeros((slices, rows, columns), np.uint8)
    row, column = np.indices((rows, columns))
    organ = Ellipsoid((0.4 * columns, 0.5 * rows, 0), (0.3 * columns, 0.25 * rows, 1), 0)
    labels[:, organ.contains(column, row, 0)] = LIVER_LABEL
    for number in range(LESIONS):
        center = ((0.2 + 0.1 * number) * columns, 0.5 * rows, 0)
        lesion = Ellipsoid(center, (0.04 * columns, 0.06 * rows, 1), 0)
        labels[:, lesion.contains(column, row, 0)] = TUMOR_LABEL
    volume = scan.volume.with_array(labels)
    return Segmentation(scan, volume, volume, (), ())


if __name__ == "__main__":
    typer.run(main)
