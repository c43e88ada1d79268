"""Conversion to ONNX, to int8 and to the GPU's float16."""

import errno
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto

from export.__main__ import main
from export.convert import AXES, OPSET
from export.gpu import check_float16, to_float16
from export.onnx_graph import (
    constants_of,
    contract_of,
    network_nodes,
    save_whole,
    with_contract,
)
from export.parity import (
    Difference,
    ParityError,
    Tolerance,
    check_self_test,
    compare,
    phantom_scans,
    self_test,
)
from export.quantize import calibration_slices, quantize
from export.runners import onnx_runner
from service.inference.contract import INPUT_NAME, OUTPUT_NAMES, ModelContract
from training.data import Case, Dataset, LabelledSlice


def ports(model: ModelProto) -> dict[str, tuple[int, list[str | int]]]:
    """Type and axes of every input and output."""
    return {
        port.name: (
            port.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in port.type.tensor_type.shape.dim],
        )
        for port in (*model.graph.input, *model.graph.output)
    }


def operators(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


SIGNATURE = {
    INPUT_NAME: (TensorProto.INT16, [*AXES, 1]),
    OUTPUT_NAMES[0]: (TensorProto.UINT8, [*AXES]),
    OUTPUT_NAMES[1]: (TensorProto.UINT8, [*AXES]),
}


def test_float32_has_the_contracts_signature_and_no_leftovers(float32: ModelProto) -> None:
    assert ports(float32) == SIGNATURE
    assert [(entry.domain, entry.version) for entry in float32.opset_import] == [("", OPSET)]
    found = operators(float32)
    assert not found.keys() & {"BatchNormalization", "Tile", "Mod", "Pad"}
    assert found["Resize"] == 2
    network = Counter(node.op_type for node in network_nodes(float32))
    assert network == {"Conv": 6, "Relu": 5, "MaxPool": 1, "Add": 1, "Concat": 2, "Resize": 2}


def test_int8_keeps_the_signature_and_quantises_the_network_only(int8: ModelProto) -> None:
    assert ports(int8) == SIGNATURE
    found = operators(int8)
    assert found["QuantizeLinear"] > 0
    assert found["DequantizeLinear"] > found["QuantizeLinear"]  # weights too
    made = {name: node.op_type for node in int8.graph.node for name in node.output}
    for node in int8.graph.node:
        if node.op_type == "MatMul":
            assert not {made.get(name) for name in node.input} & {"DequantizeLinear"}


def test_int8_weights_have_one_symmetric_scale_per_channel(int8: ModelProto) -> None:
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in int8.graph.initializer}
    weights = [
        [constants[name] for name in node.input]
        for node in int8.graph.node
        if node.op_type == "DequantizeLinear"
        and constants.get(node.input[0], np.zeros(0)).ndim == 4
    ]
    assert len(weights) == 5  # all but the last convolution's
    for codes, scales, zero_points in weights:
        assert codes.dtype == np.int8
        assert scales.shape == codes.shape[:1]
        assert not zero_points.any()


def test_int8_labels_nearly_as_float32(float32: ModelProto, int8: ModelProto) -> None:
    difference = compare(onnx_runner(float32), onnx_runner(int8), phantom_scans(1))
    assert difference.label_agreement > 0.98  # random weights, rounded, move some borders


def test_the_contract_makes_the_round_trip(int8: ModelProto, contract: ModelContract) -> None:
    assert contract_of(int8) == contract
    assert contract.validation.per_case["volume-002"] == {"liver": 0.8, "tumor": None}
    assert contract.validation.tumor_dice_per_case == 0.5
    assert contract.validation.liver_dice_per_case == pytest.approx(0.85)


def test_another_contract_replaces_the_first(int8: ModelProto, contract: ModelContract) -> None:
    other = contract.model_copy(update={"version": "9"})
    assert contract_of(with_contract(int8, other)).version == "9"
    assert contract_of(int8).version == contract.version


def test_no_contract_is_an_error(float32: ModelProto) -> None:
    with pytest.raises(ValueError, match="no segmentation_contract"):
        contract_of(float32)


def test_float16_has_no_quantisation_left(int8: ModelProto, contract: ModelContract) -> None:
    float16 = to_float16(int8)
    assert not operators(float16).keys() & {"QuantizeLinear", "DequantizeLinear"}
    assert ports(float16) == SIGNATURE
    assert contract_of(float16) == contract.model_copy(update={"precision": "float16"})
    types = Counter(item.data_type for item in float16.graph.initializer if len(item.dims) == 4)
    assert types[TensorProto.FLOAT16] == operators(float16)["Conv"]


def test_float16_gets_its_relus_back(float32: ModelProto, int8: ModelProto) -> None:
    """Quantisation leaves out a Relu whose work a zero point does."""
    network = Counter(node.op_type for node in network_nodes(float32))
    assert Counter(node.op_type for node in network_nodes(to_float16(int8))) == network


def test_float16_answers_as_int8(int8: ModelProto) -> None:
    found = compare(onnx_runner(int8), onnx_runner(to_float16(int8)), phantom_scans(1))
    assert found.label_agreement > 0.99  # only the rounding of the activations is between them


def test_float16_is_nearer_to_float32_than_int8(float32: ModelProto, int8: ModelProto) -> None:
    """It has the weights' rounding only, not that of the activations."""
    scans = phantom_scans(1)
    truth = onnx_runner(float32)
    by_float16 = compare(truth, onnx_runner(to_float16(int8)), scans)
    by_int8 = compare(truth, onnx_runner(int8), scans)
    assert by_float16.label_agreement > by_int8.label_agreement


def test_a_damaged_float16_graph_is_refused(int8: ModelProto) -> None:
    damaged = to_float16(int8)
    last = network_nodes(damaged)[-1]
    for item in damaged.graph.initializer:
        if item.name == last.input[1]:
            zeros = np.zeros(tuple(item.dims), dtype=np.float16)
            item.CopyFrom(onnx.numpy_helper.from_array(zeros, item.name))
    with pytest.raises(ParityError):
        check_float16(int8, damaged)


def test_only_a_quantised_model_becomes_float16(
    float32: ModelProto, contract: ModelContract
) -> None:
    with pytest.raises(ValueError, match="found no QuantizeLinear"):
        to_float16(with_contract(float32, contract))


def test_an_activation_beyond_float16_is_refused(int8: ModelProto) -> None:
    model = ModelProto()
    model.CopyFrom(int8)
    scale = next(node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear")
    for item in model.graph.initializer:
        if item.name == scale:
            item.CopyFrom(onnx.numpy_helper.from_array(np.float32(1000), item.name))
    with pytest.raises(ValueError, match="float16 holds 65504"):
        to_float16(model)


def test_the_self_test_takes_its_own_counts_and_no_others(float32: ModelProto) -> None:
    runner = onnx_runner(float32)
    expected = self_test(runner, seed=7, size=64, slices=2, tolerance=0.05)
    assert check_self_test(runner, expected) == expected
    wrong = expected.model_copy(update={"liver_voxels": 2 * expected.liver_voxels + 100})
    with pytest.raises(ParityError, match="self-test"):
        check_self_test(runner, wrong)


def test_a_tolerance_refuses_each_kind_of_difference() -> None:
    tolerance = Tolerance(0.99, organ_dice=0.9, largest_probability_difference=2)
    tolerance.check(Difference(0.99, 0.9, 0.0, 2), "a and b")
    for beyond in (
        Difference(0.98, 0.9, 0.0, 2),
        Difference(0.99, 0.8, 0.0, 2),
        Difference(0.99, 0.9, 0.0, 3),
    ):
        with pytest.raises(ParityError, match="a and b"):
            tolerance.check(beyond, "a and b")


class NoPixels:
    """Calibration chooses by the counts alone."""

    def hu(self, index: int) -> np.ndarray:
        raise AssertionError("expected no pixels to be read")

    labels = hu


def test_calibration_takes_each_kind_of_slice_from_every_case() -> None:
    """The middle one of its slices with tumour, with liver only, and with neither."""

    def case(name: str, counts: list[tuple[int, int]]) -> Case:
        slices = (
            LabelledSlice(name, index, liver_px, tumor_px, NoPixels())
            for index, (liver_px, tumor_px) in enumerate(counts)
        )
        return Case(name, tuple(slices), sha256="")

    a = case("a", [(10 * (index > 2), int(index > 5)) for index in range(9)])
    b = case("b", [(0, 0)] * 3)
    chosen = [(item.case, item.index) for item in calibration_slices(Dataset((a, b)))]
    assert sorted(chosen) == [("a", 1), ("a", 4), ("a", 7), ("b", 1)]


def test_a_file_is_written_as_a_whole(int8: ModelProto, tmp_path: Path) -> None:
    """With its checksum beside it, which `sha256sum` finds right, also when it is replaced."""
    path = tmp_path / "models" / "tiny.onnx"
    for model in (with_own_self_test(int8, 1, 64, 2), int8):
        save_whole(model, path)
        checked = ["sha256sum", "--check", "--strict", "tiny.onnx.sha256"]
        subprocess.run(checked, cwd=path.parent, check=True, capture_output=True)
    assert sorted(item.name for item in path.parent.iterdir()) == ["tiny.onnx", "tiny.onnx.sha256"]
    assert contract_of(onnx.load(path)) == contract_of(int8)


def test_the_gpu_command_runs_without_tensorflow(int8: ModelProto, tmp_path: Path) -> None:
    """The GPU image holds neither TensorFlow nor Keras nor the training package."""
    path = tmp_path / "tiny.onnx"
    expected = contract_of(int8).self_test
    measured = with_own_self_test(int8, expected.seed, expected.size, expected.slices)
    save_whole(measured, path)
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'tf2onnx', 'training'):\n"
        "    sys.modules[name] = None\n"
        "import export.gpu\n"
        "from export.__main__ import app\n"
        "app(['gpu', sys.argv[1]])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "labels agree on" in done.stdout
    assert contract_of(onnx.load(tmp_path / "tiny.gpu.onnx")).precision == "float16"


def refused(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the GPU's command says of a file that it does not take."""
    with pytest.raises(SystemExit) as ended:
        main(["gpu", str(path)])
    assert ended.value.code == 1
    assert not list(path.parent.glob("*gpu*"))
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert error.endswith("; nothing was written")
    return error


def test_the_gpu_command_says_what_is_wrong_in_one_line(
    float32: ModelProto,
    int8: ModelProto,
    contract: ModelContract,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A file that is missing, in float32, without contract, cut off, empty or no model."""
    path = tmp_path / "tiny.onnx"
    assert "No such file" in refused(path, capsys)
    save_whole(with_contract(float32, contract), path)
    assert "expected an int8 model, found no QuantizeLinear" in refused(path, capsys)
    save_whole(float32, path)
    assert "no segmentation_contract in the model's metadata" in refused(path, capsys)
    whole = int8.SerializeToString()
    for damaged in (whole[: len(whole) // 2], b"", b"no model"):
        path.write_bytes(damaged)
        assert refused(path, capsys).startswith("tiny.onnx: expected an ONNX model, found a damag")


def test_the_gpu_command_refuses_a_graph_that_differs(
    int8: ModelProto,
    contract: ModelContract,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From what the contract's self-test expects, here twice the liver."""
    wrong = contract.self_test.model_copy(
        update={"liver_voxels": 2 * contract.self_test.liver_voxels + 100}
    )
    path = tmp_path / "tiny.onnx"
    save_whole(with_contract(int8, contract.model_copy(update={"self_test": wrong})), path)
    assert refused(path, capsys).startswith("self-test: expected")


def test_a_file_that_does_not_fit_on_the_disk_leaves_nothing(
    int8: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the file nor the part of it that was written."""
    write = Path.write_bytes

    def half(path: Path, data: bytes) -> int:
        write(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space left"):
        save_whole(int8, tmp_path / "tiny.onnx")
    assert not list(tmp_path.iterdir())


def with_own_self_test(int8: ModelProto, seed: int, size: int, slices: int) -> ModelProto:
    """The model with the self-test that its own int8 answers give, as the release writes it."""
    expected = self_test(onnx_runner(int8), seed, size, slices, tolerance=0.9)
    contract = contract_of(int8).model_copy(update={"self_test": expected})
    return with_contract(int8, contract)


def test_one_bright_slice_does_not_widen_every_step(float32: ModelProto) -> None:
    """The range of an activation is the mean of those of the slices: here of the network's input,
    0 to 1 in a white slice and 0 in a black one.
    """
    white, black = (np.full((32, 32), hu, np.int16) for hu in (160, -40))

    def first_step(slices: list[np.ndarray]) -> float:
        int8 = quantize(float32, slices)
        first = next(node for node in int8.graph.node if node.op_type == "QuantizeLinear")
        return float(constants_of(int8)[first.input[1]])

    assert first_step([white]) == pytest.approx(1 / 255, rel=1e-3)
    assert first_step([black, black, black, white]) == pytest.approx(0.25 / 255, rel=1e-3)
