"""`python -m benchmarks.architectures CONFIG...`: size and speed of architectures after export.

The networks are at random: what a slice costs does not depend on the weights, so nothing has to be
trained. What they reach is another question (`python -m training compare`).
"""

import tempfile
from pathlib import Path
from typing import Annotated

import onnx
import typer

from export.convert import deployed, for_export, to_onnx
from export.quantize import quantize
from export.signature import Preprocessing, Signature
from service.phantom import abdomen_hu
from training.batches import CLASSES
from training.config import TrainingConfig
from training.evaluation.speed import slices_per_second
from training.network import build_network, finest

SLICES, SIDE = 4, 512
"""Of the synthetic abdomen, to calibrate int8 with."""


def main(
    configs: Annotated[list[Path], typer.Argument(help="TOML files, as in training/configs")],
) -> None:
    """Print a table for docs/model-report.md."""
    print("| Network | Grid | Parameters | int8, MB | int8, slices/s |")
    print("| --- | --- | --- | --- | --- |")
    for path in configs:
        print(line(TrainingConfig.read(path)))


def line(config: TrainingConfig) -> str:
    """One row of the table: the network of a configuration, exported and timed."""
    network = finest(build_network(config.network, config.grid, CLASSES))
    preprocessing = Preprocessing(config.grid, config.window, context=config.network.context)
    model = deployed(to_onnx(Signature(for_export(network), preprocessing)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(quantize(model, abdomen_hu(1, SLICES, SIDE)), path)
        facts = (
            config.name,
            config.grid,
            f"{network.count_params():,}",
            f"{path.stat().st_size / 1e6:.2f}",
            f"{slices_per_second(path):.1f}",
        )
    return f"| {' | '.join(map(str, facts))} |"


if __name__ == "__main__":
    typer.run(main)
