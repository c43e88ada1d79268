"""`bentoml serve benchmarks.peers.bentoml_server:Segment`: BentoML.

Two services, as its guide on adaptive batching composes them: one decodes in threads and hands
slices on, the other, one worker with the resident session, gathers what waits into batches of at
most BATCH_SLICES. So the model runs while the next request is decoded.
"""

import asyncio
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.work import BATCH_SLICES, Model, batches, decode, summary

PATIENCE_S = 600
"""Nothing is to be turned away while eight clients wait."""


@bentoml.service(workers=1, traffic={"timeout": PATIENCE_S})
class Label:
    """The model."""

    def __init__(self) -> None:
        self._model = Model()

    @bentoml.api(batchable=True, max_batch_size=BATCH_SLICES, max_latency_ms=PATIENCE_S * 1000)
    def label(self, hu: np.ndarray) -> np.ndarray:
        return self._model.label(hu)

    @bentoml.api
    def window(self) -> dict[str, float]:
        return self._model.window


@bentoml.service(workers=1, traffic={"timeout": PATIENCE_S})
class Segment:
    """A form with one file in, counts and volumes out."""

    model = bentoml.depends(Label)

    def __init__(self) -> None:
        self._window: dict[str, float] | None = None

    @bentoml.api
    async def segment(self, files: Path) -> dict[str, Any]:
        if self._window is None:
            self._window = await self.model.to_async.window()
        scan = await asyncio.to_thread(lambda: decode(files.read_bytes(), self._window))
        found: list[NDArray[np.uint8]] = await asyncio.gather(
            *(self.model.to_async.label(hu=batch) for batch in batches(scan.hu))
        )
        return await asyncio.to_thread(summary, np.concatenate(found), scan.voxel_ml)
