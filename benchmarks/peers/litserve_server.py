"""`python -m benchmarks.peers.litserve_server PORT WORKERS`: LitServe.

Up to BATCH_SLICES waiting requests make a batch, which one of the workers decodes, runs and
answers; each worker is a process with its own session. With one worker the model waits while a
request is decoded, with two it does not; LitServe's answer to that is more workers a device.
"""

import sys
from typing import Any

import litserve
import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from benchmarks.peers.work import BATCH_SLICES, Model, Scan, decode, summary, threads_each

BATCH_TIMEOUT_S = 0.005
"""How long a batch waits for more requests: a tenth of one slice's inference."""


class SegmentApi(litserve.LitAPI):
    """A form with one file in, counts and volumes out."""

    def __init__(self, threads: int) -> None:
        super().__init__(BATCH_SLICES, BATCH_TIMEOUT_S, api_path="/segment")
        self._threads = threads

    def setup(self, device: str) -> None:  # noqa: ARG002  # there is one, the CPU
        self._model = Model(self._threads)

    def decode_request(self, request: Request) -> Scan:
        """LitServe goes by the annotation, and hands over the parsed form of a request with one."""
        return decode(request["files"].file.read(), self._model.window)

    def batch(self, inputs: list[Scan]) -> list[Scan]:
        return inputs

    def predict(self, scans: list[Scan]) -> list[dict[str, Any]]:
        """One run over the slices of all requests where they have one shape."""
        if len({scan.hu.shape[1:] for scan in scans}) == 1:
            whole = self._model.label(np.concatenate([scan.hu for scan in scans]))
            ends = np.cumsum([len(scan.hu) for scan in scans])[:-1]
            labels: list[NDArray[np.uint8]] = np.split(whole, ends)
        else:
            labels = [self._model.label(scan.hu) for scan in scans]
        return [summary(own, scan.voxel_ml) for own, scan in zip(labels, scans, strict=True)]

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    port, workers = map(int, sys.argv[1:])
    server = litserve.LitServer(
        SegmentApi(threads_each(workers)),
        accelerator="cpu",
        devices=1,
        workers_per_device=workers,
        timeout=False,
    )
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")
