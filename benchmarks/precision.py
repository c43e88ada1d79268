"""`python -m benchmarks.precision FOLDER`: an export's float32 and int8 on one thread, and where
the int8 graph spends its time.

All graphs take turns in one process, and of each the least of all rounds counts: whatever else the
machine does makes a round slower and never faster. The int8 graph also runs with a Resize in the
place of its copies (`export/doubling.py`), which must answer the same to the bit.
"""

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import onnxruntime
import typer
from numpy.typing import NDArray
from onnx import ModelProto

from export.doubling import double_by_resize
from service.inference.contract import INPUT_NAME, OUTPUT_NAMES
from service.inference.session import CPU_PROVIDER
from service.phantom import abdomen_hu

BATCH, SIDE = 2, 512
LEAST_SHARE = 0.01
"""Of the time, for an operator to have a line of its own."""

Answers = list[NDArray[np.uint8]]


def main(
    folder: Annotated[Path, typer.Argument(help="what `python -m export` wrote")],
    rounds: Annotated[int, typer.Option(min=1, help="of each graph, in turn")] = 20,
) -> None:
    """Print tables for docs/training.md; exit with an error where int8 answers in two ways."""
    graphs = {name: onnx.load(folder / f"model.{name}.onnx") for name in ("float32", "int8")}
    graphs["int8, Resize"] = _with_resize(graphs["int8"])
    sessions = {name: _session(model) for name, model in graphs.items()}
    hu = np.ascontiguousarray(abdomen_hu(1, BATCH, SIDE)[..., None])
    answers = {
        name: session.run(OUTPUT_NAMES, {INPUT_NAME: hu}) for name, session in sessions.items()
    }
    if not _equal(answers["int8"], answers["int8, Resize"]):
        raise SystemExit("expected both int8 graphs to answer the same, found a difference")

    least = {name: float("inf") for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            least[name] = min(least[name], _seconds(session, hu))
    print(f"batches of {BATCH} slices of {SIDE} x {SIDE}, one thread, least of {rounds} rounds")
    print("\n| Graph | ms a slice | Times as fast as float32 |\n| --- | --- | --- |")
    for name, seconds in least.items():
        print(f"| {name} | {1000 * seconds / BATCH:.1f} | {least['float32'] / seconds:.2f} |")
    print("\n| Operator of int8 | ms a slice | Share |\n| --- | --- | --- |")
    for line in operator_lines(_profile(graphs["int8"], hu, rounds)):
        print(line)


def _with_resize(int8: ModelProto) -> ModelProto:
    model = ModelProto()
    model.CopyFrom(int8)
    double_by_resize(model)
    return model


def _session(model: ModelProto, profile: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=[CPU_PROVIDER]
    )


def _seconds(session: onnxruntime.InferenceSession, hu: NDArray[np.int16]) -> float:
    """Of the processor: seconds in which others had it do not count."""
    started = time.process_time()
    session.run(OUTPUT_NAMES, {INPUT_NAME: hu})
    return time.process_time() - started


def _equal(one: Answers, other: Answers) -> bool:
    return all(np.array_equal(first, second) for first, second in zip(one, other, strict=True))


def _profile(model: ModelProto, hu: NDArray[np.int16], rounds: int) -> list[dict[str, Any]]:
    """ONNX Runtime's own events of all rounds."""
    with tempfile.TemporaryDirectory() as folder:
        session = _session(model, Path(folder) / "profile")
        for _ in range(rounds):
            session.run(OUTPUT_NAMES, {INPUT_NAME: hu})
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    return events


def operator_lines(events: Iterable[dict[str, Any]]) -> list[str]:
    """The least time of every node, summed by operator, the slowest first."""
    nodes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event["name"].endswith("_kernel_time"):
            nodes[event["args"]["op_name"], event["name"]].append(event["dur"] / 1000)
    operators: dict[str, float] = defaultdict(float)
    for (operator, _), durations_ms in nodes.items():
        operators[operator] += min(durations_ms) / BATCH
    total = sum(operators.values())
    return [
        f"| {operator} | {spent:.1f} | {spent / total:.0%} |"
        for operator, spent in sorted(operators.items(), key=lambda item: -item[1])
        if spent >= LEAST_SHARE * total
    ]


if __name__ == "__main__":
    typer.run(main)
