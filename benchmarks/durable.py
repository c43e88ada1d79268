"""`python -m benchmarks.durable`: what it costs that an image's result is kept, and survives.

The same PNG goes to `/v1/segment` and to `/v1/segmentations` in turn, one at a time, over one
connection to one service; both answer when the result is there.
"""

import http.client
from statistics import median
from time import perf_counter
from typing import Annotated
from urllib.parse import urlsplit

import cv2
import numpy as np
import typer

from benchmarks.load import REQUEST_S, running_service
from service.phantom import abdomen_hu
from service.volume import HounsfieldWindow

STATELESS, DURABLE = "/v1/segment", "/v1/segmentations"
WARM_UP = 5


def main(
    rounds: Annotated[int, typer.Option(min=1, help="of each, in turn, after a few more")] = 60,
    size: Annotated[int, typer.Option(min=16, help="rows and columns")] = 512,
) -> None:
    """Print a table for docs/performance.md."""
    picture = phantom_png(size)
    with running_service(device="cpu") as address:
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=REQUEST_S)
        taken_ms: dict[str, list[float]] = {STATELESS: [], DURABLE: []}
        for turn in range(WARM_UP + rounds):
            for path, figures in taken_ms.items():
                spent_ms = _post_ms(connection, path, picture)
                if turn >= WARM_UP:
                    figures.append(spent_ms)
        connection.close()
    print(f"PNG of {size} x {size}, {len(picture) / 1e3:.0f} kB, {rounds} rounds")
    print("\n| What | Median | Least |\n| --- | --- | --- |")
    for path, figures in taken_ms.items():
        print(f"| POST {path} | {median(figures):.1f} ms | {min(figures):.1f} ms |")
    stateless, durable = taken_ms[STATELESS], taken_ms[DURABLE]
    # Of neighbours in time, since what else the machine does changes from second to second.
    more = median(later - first for first, later in zip(stateless, durable, strict=True))
    print(f"| overhead | {more:.1f} ms | {min(durable) - min(stateless):.1f} ms |")


def phantom_png(size: int) -> bytes:
    """An axial slice through the phantom's liver as an 8-bit PNG of `size` rows and columns."""
    hu = abdomen_hu(seed=7, slices=3, size=size)[1].astype(np.float32)
    window = HounsfieldWindow(lower_hu=-160, upper_hu=240)
    grey = np.clip((hu - window.lower_hu) / window.width_hu, 0, 1) * 255
    return cv2.imencode(".png", grey.astype(np.uint8))[1].tobytes()


def _post_ms(connection: http.client.HTTPConnection, path: str, picture: bytes) -> float:
    """Milliseconds to the end of the answer. Raises RuntimeError where it is no result."""
    started = perf_counter()
    connection.request("POST", path, picture, {"Content-Type": "image/png"})
    response = connection.getresponse()
    response.read()
    spent_ms = (perf_counter() - started) * 1000
    if response.status not in (http.HTTPStatus.OK, http.HTTPStatus.CREATED):
        raise RuntimeError(f"expected a result of {path}, found status {response.status}")
    return spent_ms


if __name__ == "__main__":
    typer.run(main)
