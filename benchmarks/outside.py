"""`python -m benchmarks.outside`: what a request costs beside its inference, bytes to SEG.

The measure is highdicom by itself: its volume from the same files and its Segmentation of the same
segments, with nothing checked, measured or traced in between. Both take turns in one process.
"""

import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import highdicom
import numpy as np
import typer
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from benchmarks.load import ct_zip
from service.inference.batching import Batcher
from service.inference.session import ModelSession
from service.inference.work import Labelled
from service.pipeline import Options, Result, dicom_seg, run
from service.settings import Settings


class TimedModel:
    """A session that counts the seconds that its runs take."""

    def __init__(self, session: ModelSession) -> None:
        self.contract, self.sha256 = session.contract, session.sha256
        self.provider, self.device = session.provider, session.device
        self.seconds = 0.0
        self.lanes = 1  # so that seconds of runs and of the rest add up
        self.fills_batches = False
        self._session = session

    def run(self, hu: NDArray[np.int16]) -> Labelled:
        started = time.perf_counter()
        labelled = self._session.run(hu)
        self.seconds += time.perf_counter() - started
        return labelled


def main(
    ct: Annotated[
        Path | None, typer.Option(help="zip of a CT series; default: the real CT")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="of each, in turn, after one to warm up")] = 7,
) -> None:
    """Print a table for docs/performance.md."""
    data, settings = ct_zip(ct), Settings(device="cpu")
    model = TimedModel(ModelSession.open(settings.model, "cpu", settings.threads))
    segmenter = Batcher(model, settings.batch_slices)
    result = run([data], Options(), segmenter, settings)
    uids, segments = result.segmentation.scan.source.sop_instance_uids, segment_numbers(result)
    dicom_seg(result)
    bare_highdicom(data, uids, segments)
    ours_s, highdicom_s, stages = [], [], {}
    for _ in range(rounds):
        model.seconds = 0.0
        ours_s.append(seconds(lambda: stages.update(through(data, segmenter, settings))))
        ours_s[-1] -= model.seconds
        highdicom_s.append(seconds(lambda: bare_highdicom(data, uids, segments)))
    print(f"{len(uids)} slices, {int(segments.max())} segments, {rounds} rounds")
    print("\n| What | Median | Least |\n| --- | --- | --- |")
    rows = {"outside inference, bytes to SEG": ours_s, "highdicom, decode and encode": highdicom_s}
    for name, figures in rows.items():
        print(f"| {name} | {median(figures):.2f} s | {min(figures):.2f} s |")
    ratios = median(ours_s) / median(highdicom_s), min(ours_s) / min(highdicom_s)
    print(f"| ratio | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    parts = ", ".join(f"{name} {spent:.3f} s" for name, spent in stages.items())
    segmenter.close()
    print(f"\nLast round: {parts}, of which inference {model.seconds:.3f} s.")


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def through(data: bytes, segmenter: Batcher, settings: Settings) -> dict[str, float]:
    """Seconds of each stage of the service's way from bytes to a SEG."""
    result = run([data], Options(), segmenter, settings)
    return {**result.timings_s, "encode SEG": seconds(lambda: dicom_seg(result))}


def segment_numbers(result: Result) -> NDArray[np.uint16]:
    """The service's segments [slice, row, column]: 1 is liver, each lesion its id and one."""
    ids = np.asarray(result.measured.lesion_ids.array)
    liver = np.asarray(result.segmentation.labels.array) > 0
    return np.where(ids > 0, ids + 1, liver).astype(np.uint16)


def bare_highdicom(data: bytes, uids: tuple[str, ...], segments: NDArray[np.uint16]) -> bytes:
    """The zip's series as highdicom's volume, and the segments as its Segmentation."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = [archive.read(name) for name in archive.namelist() if not name.endswith("/")]
    by_uid = {item.SOPInstanceUID: item for item in (dcmread(io.BytesIO(file)) for file in files)}
    datasets = [by_uid[uid] for uid in uids]
    highdicom.get_volume_from_series(datasets, atol=0.1)
    return _segmentation(datasets, segments)


def _segmentation(datasets: list[Dataset], segments: NDArray[np.uint16]) -> bytes:
    described = [
        SegmentDescription(
            segment_number=number,
            segment_label=f"Segment {number}",
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                name="bench", family=codes.DCM.ArtificialIntelligence, version="1"
            ),
        )
        for number in range(1, int(segments.max()) + 1)
    ]
    seg = highdicom.seg.Segmentation(
        source_images=datasets,
        pixel_array=segments,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="bench",
        manufacturer_model_name="bench",
        software_versions="1",
        device_serial_number="1",
    )
    buffer = io.BytesIO()
    seg.save_as(buffer)
    return buffer.getvalue()


if __name__ == "__main__":
    typer.run(main)
