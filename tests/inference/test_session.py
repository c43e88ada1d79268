"""The session opens what it should, on the device it should, and nothing else."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import ROOT
from fakes import make_contract
from onnx import TensorProto, helper

from service.errors import DeviceUnavailable, InvalidModel
from service.inference.checksum import checksum_file
from service.inference.contract import INPUT_NAME, METADATA_KEY, OUTPUT_NAMES, ModelContract
from service.inference.session import CPU_PROVIDER, CUDA_PROVIDER, ModelSession, Threads
from service.phantom import abdomen_hu
from service.settings import Settings

QUIET = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
"""What would keep ONNX Runtime quiet, or have it speak elsewhere."""


def write_model(
    path: Path,
    contract: ModelContract | str | None,
    input_type: int = TensorProto.INT16,
    output_names: tuple[str, str] = OUTPUT_NAMES,
    context: int = 1,
) -> Path:
    """A graph with the service's signature that labels everything above 100 HU as liver."""
    graph_input = helper.make_tensor_value_info(
        INPUT_NAME, input_type, ["slices", "rows", "columns", context]
    )
    shape = ["slices", "rows", "columns"]
    outputs = [helper.make_tensor_value_info(n, TensorProto.UINT8, shape) for n in output_names]
    threshold = helper.make_tensor("threshold", TensorProto.FLOAT, [], [100.0])
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [3])
    first = helper.make_tensor("first", TensorProto.INT64, [], [0])
    nodes = [
        helper.make_node("Gather", [INPUT_NAME, "first"], ["middle"], axis=3),
        helper.make_node("Cast", ["middle"], ["hu_float"], to=TensorProto.FLOAT),
        helper.make_node("Greater", ["hu_float", "threshold"], ["above"]),
        helper.make_node("Cast", ["above"], [output_names[0]], to=TensorProto.UINT8),
        helper.make_node("Cast", ["above"], [output_names[1]], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(nodes, "fake", [graph_input], outputs, [threshold, axis, first])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if contract is not None:
        entry = model.metadata_props.add()
        entry.key = METADATA_KEY
        entry.value = contract if isinstance(contract, str) else contract.model_dump_json()
    onnx.save(model, path)
    return path


def passing_contract(**changes: object) -> ModelContract:
    """A contract whose self-test that graph passes."""
    voxels = int((abdomen_hu(7, 3, 64) > 100).sum())
    test = {"seed": 7, "size": 64, "slices": 3, "liver_voxels": voxels, "tumor_voxels": 0}
    return make_contract(**{"self_test": {**test, "tolerance": 0.05}, **changes})


def test_opens_and_labels(tmp_path: Path) -> None:
    """A model whose contract, signature and self-test agree is ready on the CPU."""
    session = ModelSession.open(write_model(tmp_path / "m.onnx", passing_contract()), "cpu")
    assert (session.provider, session.device) == (CPU_PROVIDER, "cpu")
    labelled = session.run(np.full((2, 3, 4, 1), 101, np.int16))
    assert labelled.labels.shape == (2, 3, 4)
    assert labelled.labels.dtype == np.uint8
    assert (labelled.labels == 1).all()


def test_batches_are_filled_up(tmp_path: Path) -> None:
    """The device sees one size only, and each slice keeps its answer."""
    path = write_model(tmp_path / "m.onnx", passing_contract())
    inner = onnxruntime.InferenceSession(path, providers=[CPU_PROVIDER])
    seen: list[int] = []

    class Watched:
        def run(self, names: tuple[str, ...], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            seen.append(len(inputs[INPUT_NAME]))
            return inner.run(names, inputs)

    session = ModelSession(Watched(), passing_contract(), "0" * 64, filled_to=4)
    hu = np.random.default_rng(0).integers(0, 200, (10, 3, 5, 1), dtype=np.int16)
    for slices in (1, 4, 10):
        labelled = session.run(hu[:slices])
        assert (labelled.labels == (hu[:slices, ..., 0] > 100)).all()
        assert (labelled.tumor_probability == labelled.labels).all()
    assert seen == [4, 4, 4, 4, 4]
    assert session.fills_batches


@pytest.mark.parametrize(
    ("provider", "threads", "expected"),
    [
        (CPU_PROVIDER, 1, Threads(lanes=1, pool=1)),
        (CPU_PROVIDER, 2, Threads(lanes=2, pool=1)),
        (CPU_PROVIDER, 8, Threads(lanes=2, pool=7)),
        (CUDA_PROVIDER, 8, Threads(lanes=1, pool=8)),
    ],
)
def test_runs_at_once_and_their_threads_are_the_cores(
    provider: str, threads: int, expected: Threads
) -> None:
    """The threads of all lanes and those that they share are as many as were asked for."""
    assert Threads.on(provider, threads) == expected


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (None, "contract"),
        ("{}", "name"),
        ("no json", "contract"),
        (passing_contract(context={"slices": 3, "distance_mm": 5.0}), "context"),
        (
            make_contract(
                self_test={
                    "seed": 7,
                    "size": 64,
                    "slices": 3,
                    "liver_voxels": 9000,
                    "tumor_voxels": 0,
                    "tolerance": 0.01,
                }
            ),
            "self-test",
        ),
    ],
)
def test_mismatched_contract_is_refused(
    tmp_path: Path, contract: ModelContract | str | None, message: str
) -> None:
    """No contract, a broken one, one of another graph, and one of other weights."""
    path = write_model(tmp_path / "m.onnx", contract)
    with pytest.raises(InvalidModel, match=message):
        ModelSession.open(path, "cpu")


def test_foreign_signature_is_refused(tmp_path: Path) -> None:
    """Another input type or output name is another kind of model."""
    other_type = write_model(tmp_path / "a.onnx", passing_contract(), TensorProto.FLOAT)
    other_name = write_model(tmp_path / "b.onnx", passing_contract(), output_names=("a", "b"))
    for path in (other_type, other_name):
        with pytest.raises(InvalidModel, match="Expected"):
            ModelSession.open(path, "cpu")


def test_missing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    """No file, an empty one, a cut one and a text."""
    whole = write_model(tmp_path / "m.onnx", passing_contract()).read_bytes()
    for content in (None, b"", whole[: len(whole) // 2], b"not a model"):
        path = tmp_path / "damaged.onnx"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InvalidModel):
            ModelSession.open(path, "cpu")


@pytest.mark.parametrize("line", ["{}  m.onnx\n", "{} *models/m.onnx", "{}"])
def test_a_checksum_beside_the_model(tmp_path: Path, line: str) -> None:
    """A file that it fits opens, as one does that has none."""
    path = write_model(tmp_path / "m.onnx", passing_contract())
    beside = tmp_path / "m.onnx.sha256"
    beside.write_text(line.format(hashlib.sha256(path.read_bytes()).hexdigest()))
    ModelSession.open(path, "cpu")
    ModelSession.describe(path)


@pytest.mark.parametrize("wrong", [b"", b"\xff" * 64, b"0" * 64, b"m.onnx"])
def test_a_checksum_that_does_not_fit(tmp_path: Path, wrong: bytes) -> None:
    """Neither who runs the model nor who only describes it takes it."""
    path = write_model(tmp_path / "m.onnx", passing_contract())
    (tmp_path / "m.onnx.sha256").write_bytes(wrong)
    for opened in (lambda: ModelSession.open(path, "cpu"), lambda: ModelSession.describe(path)):
        with pytest.raises(InvalidModel, match="SHA-256"):
            opened()


def test_the_repository_s_model_has_its_checksum() -> None:
    """The one that the images check at start."""
    path = Settings().model
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert checksum_file(path).read_text() == f"{digest}  {path.name}\n"


def test_onnx_runtime_tells_nobody(tmp_path: Path) -> None:
    """Its telemetry, which is on by default but for CI, neither queues nor sends anything."""
    write_model(tmp_path / "m.onnx", passing_contract())
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import sys; from pathlib import Path; from service.inference.session import ModelSession;"
        "ModelSession.open(Path(sys.argv[1]), 'cpu')"
    )
    kept = {name: value for name, value in os.environ.items() if name not in QUIET}
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "m.onnx"],
        env=kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert list(home.rglob("*")) == []


@pytest.mark.parametrize("package", ["service", "training", "export", "benchmarks"])
def test_whatever_imports_onnx_runtime_has_it_quiet(package: str) -> None:
    """It looks when it is imported, so each package comes first."""
    code = (
        f"import os, sys, {package};"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1' and 'onnxruntime' not in sys.modules"
    )
    kept = {name: value for name, value in os.environ.items() if name not in QUIET}
    subprocess.run([sys.executable, "-c", code], env=kept, cwd=ROOT, check=True)


def test_cuda_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cuda` fails by name, whether the package lacks it or the provider does not load."""
    path = write_model(tmp_path / "m.onnx", passing_contract())
    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        with pytest.raises(DeviceUnavailable, match="install the set `gpu`"):
            ModelSession.open(path, "cuda")
        assert ModelSession.open(path, "auto").provider == CPU_PROVIDER
    # A GPU build of ONNX Runtime without a driver: the provider is offered, and does not load.
    create = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: [CUDA_PROVIDER, CPU_PROVIDER]
    )
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda data, options, providers: create(data, options, providers=[CPU_PROVIDER]),
    )
    with pytest.raises(DeviceUnavailable, match="NVIDIA driver"):
        ModelSession.open(path, "cuda")
    assert ModelSession.open(path, "auto").provider == CPU_PROVIDER
