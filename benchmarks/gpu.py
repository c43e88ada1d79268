"""`python -m benchmarks.gpu`: proves that CUDA runs the model, compares it with the CPU, measures.

Fails where the CUDA provider does not load, where a convolution ran on the CPU, or where fewer than
99.9 % of the labels agree with the CPU's for the same weights.
"""

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import typer

from benchmarks.load import ct_zip, requests_per_second, running_service
from benchmarks.service import decode_ct
from service.inference.contract import INPUT_NAME, OUTPUT_NAMES
from service.inference.segment import Segmenter
from service.inference.session import CPU_PROVIDER, CUDA_PROVIDER, GPU_SUFFIX, ModelSession
from service.settings import Settings

MIN_AGREEMENT = 0.999
BATCHES = (1, 2, 4, 8, 16, 32)
TIMED_S = 3.0
CLIENTS, REQUESTS = 4, 24
CONVOLUTIONS = ("Conv", "FusedConv", "NhwcConv", "NhwcFusedConv", "QLinearConv", "ConvTranspose")


def main(
    ct: Annotated[
        Path | None, typer.Option(help="zip of a CT series; default: the real CT")
    ] = None,
) -> None:
    """Print a report for docs/performance.md; exit with an error where CUDA did not do the work."""
    settings = Settings(device="cuda")
    data = ct_zip(ct)
    cuda = ModelSession.open(settings.model, "cuda")
    scan = decode_ct(data, cuda, settings)
    hu = np.asarray(scan.volume.array)[..., None]

    gpu_graph = settings.model.with_name(settings.model.stem + GPU_SUFFIX)
    graph = gpu_graph if gpu_graph.exists() else settings.model
    providers = convolution_providers(profile(graph, hu[:1]))
    if set(providers) != {CUDA_PROVIDER}:
        raise SystemExit(f"expected every convolution on CUDA, found {providers}")

    same_weights = ModelSession.open(graph, "cpu")
    agreement = label_agreement(cuda, same_weights, hu)
    if agreement < MIN_AGREEMENT:
        raise SystemExit(f"expected {MIN_AGREEMENT} of labels to agree, found {agreement:.5f}")
    committed = label_agreement(cuda, ModelSession.open(settings.model, "cpu"), hu)

    del same_weights  # its memory is the CPU's, its threads are not wanted below
    with peak_device_memory() as memory:
        bare = {batch: slices_per_second(cuda, hu, batch) for batch in BATCHES}
        best = max(bare, key=lambda batch: bare[batch])
        whole = {}
        for batch in (settings.batch_slices, best):
            with running_service(device="cuda", batch_slices=batch) as address:
                rate = requests_per_second(address, data, clients=CLIENTS, requests=REQUESTS)
            whole[batch] = rate * len(hu)

    print(f"{device_name()}, {datetime.now(UTC):%Y-%m-%d}, {graph.name}, CT {hu.shape[:3]}")
    print(f"convolutions by provider: {providers}")
    print("\n| What | Figure |\n| --- | --- |")
    print(f"| labels equal to the CPU's, same weights | {agreement:.5%} |")
    print(f"| labels equal to the committed int8 model's on the CPU | {committed:.5%} |")
    for batch, figure in bare.items():
        print(f"| bare session.run, batch {batch} | {figure:.0f} slices/s |")
    for batch, figure in whole.items():
        print(f"| whole service, {CLIENTS} clients, batch {batch} | {figure:.0f} slices/s |")
    print(f"| peak device memory | {memory.peak_mib} MiB |")


def profile(graph: Path, hu: np.ndarray) -> list[dict[str, Any]]:
    """ONNX Runtime's profile of one run on CUDA: a list of events."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(
            graph.read_bytes(), options, providers=[CUDA_PROVIDER, CPU_PROVIDER]
        )
        session.run(OUTPUT_NAMES, {INPUT_NAME: np.ascontiguousarray(hu)})
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    return events


def convolution_providers(events: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many convolutions ran on each provider; empty where the profile shows none."""
    found: dict[str, int] = {}
    for event in events:
        details = event.get("args", {})
        if details.get("op_name") in CONVOLUTIONS and event["name"].endswith("_kernel_time"):
            provider = details.get("provider", "unknown")
            found[provider] = found.get(provider, 0) + 1
    return found


def label_agreement(one: Segmenter, other: Segmenter, hu: np.ndarray, batch: int = 4) -> float:
    """Share of voxels of int16 HU [slices, rows, columns, context] that both label alike."""
    equal = 0
    for start in range(0, len(hu), batch):
        slices = np.ascontiguousarray(hu[start : start + batch])
        equal += int((one.run(slices).labels == other.run(slices).labels).sum())
    return equal / hu[..., 0].size


def slices_per_second(session: ModelSession, hu: np.ndarray, batch: int) -> float:
    """Rate of full batches, repeated for TIMED_S seconds after two to warm up."""
    slices = np.ascontiguousarray(np.resize(hu, (batch, *hu.shape[1:])))
    session.run(slices), session.run(slices)
    runs, started = 0, time.perf_counter()
    while time.perf_counter() - started < TIMED_S:
        session.run(slices)
        runs += 1
    return runs * batch / (time.perf_counter() - started)


@dataclass
class DeviceMemory:
    """The most device memory that was in use above what was in use before."""

    baseline_mib: int
    peak_mib: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self.stopped.wait(0.05):
            self.peak_mib = max(self.peak_mib, used_mib() - self.baseline_mib)


@contextmanager
def peak_device_memory() -> Iterator[DeviceMemory]:
    """Watch the device's memory while the block runs."""
    memory = DeviceMemory(baseline_mib=used_mib())
    watcher = threading.Thread(target=memory.watch, daemon=True)
    watcher.start()
    try:
        yield memory
    finally:
        memory.stopped.set()
        watcher.join()


def used_mib() -> int:
    return int(_nvidia_smi("memory.used").split()[0])


def device_name() -> str:
    return _nvidia_smi("name")


def _nvidia_smi(query: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits", "--id=0"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    typer.run(main)
