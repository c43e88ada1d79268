"""Whatever labels cases is opened by what it is, and says the same through every door."""

import json
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from fakes import FakeSegmenter, by_threshold, make_contract
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from http_helpers import listening
from labelled_cases import make_case, phantom_case
from onnx import TensorProto, helper

from service.api.app import create_app
from service.inference.contract import METADATA_KEY, Context, TrainingData
from service.phantom import Phantom
from service.settings import Settings
from service.volume import HounsfieldWindow
from training.config import OptimizerConfig, TrainingConfig
from training.data import Case
from training.evaluation.decision import Cleaning, Space
from training.evaluation.evaluate import evaluate
from training.evaluation.predictors import NotAModel, open_predictor
from training.evaluation.results import Conditions
from training.evaluation.service_predictor import ServiceRefused
from training.evaluation.speed import slices_per_second
from training.predict import SLICES_AT_ONCE, NetworkPredictor
from training.prediction import Prediction
from training.run_folder import DamagedNetwork

CONFIG = TrainingConfig(
    name="tiny", window=HounsfieldWindow(lower_hu=-40, upper_hu=160), grid=32, epochs=2,
    steps_per_epoch=5, optimizer=OptimizerConfig(warmup_steps=1),
)  # fmt: skip


def sure_of_everything(path: Path, **contract: object) -> Path:
    """An exported model that calls every pixel above 50 HU liver, as ONNX."""
    hu = helper.make_tensor_value_info("hu", TensorProto.INT16, ["s", "r", "c", 1])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.UINT8, ["s", "r", "c"])
        for name in ("labels", "tumor_probability")
    ]
    constants = [
        helper.make_tensor("limit", TensorProto.INT16, [], [50]),
        helper.make_tensor("last", TensorProto.INT64, [1], [3]),
        helper.make_tensor("none", TensorProto.UINT8, [], [0]),
    ]
    nodes = [
        helper.make_node("Squeeze", ["hu", "last"], ["plane"]),
        helper.make_node("Greater", ["plane", "limit"], ["above"]),
        helper.make_node("Cast", ["above"], ["labels"], to=TensorProto.UINT8),
        helper.make_node("Mul", ["labels", "none"], ["tumor_probability"]),
    ]
    graph = helper.make_graph(nodes, "tiny", [hu], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if contract.pop("with_contract", True):
        text = make_contract(**contract).model_dump_json()
        helper.set_model_props(model, {METADATA_KEY: text})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def case() -> Case:
    return phantom_case("phantom", 7)


def test_exported_model_is_opened_with_its_contract(tmp_path: Path, case: Case) -> None:
    """Name, precision and the smallest lesions come from the file; labels are the graph's."""
    opened = open_predictor(str(sure_of_everything(tmp_path / "m.onnx")), Space())
    assert (opened.subject.kind, opened.subject.name) == ("onnx", "fake 1.0 (exact)")
    assert opened.cleaning == Cleaning(min_lesion_mm3=30, min_lesion_px=10)
    assert opened.subject.trained_on is None
    found = opened.predict(case)
    assert np.array_equal(found.labels, case.hu() > 50)
    assert found.organ_probability is None


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        ({"with_contract": False}, "expected a contract"),
        ({"context": Context(slices=3, distance_mm=5)}, "expected a context of one slice, found 3"),
    ],
)
def test_unfit_exports_are_refused(
    tmp_path: Path, contract: dict[str, object], message: str
) -> None:
    """Without a contract nothing is known, and neighbours are not shown."""
    path = sure_of_everything(tmp_path / "m.onnx", **contract)
    with pytest.raises(NotAModel, match=message):
        open_predictor(str(path), Space())


def test_exported_model_names_what_it_learned_from(tmp_path: Path) -> None:
    """So that its figures on these cases are marked."""
    learned = TrainingData(name="x", license="x", cases=2, slices=9, volumes=("one", "two"),
                           also_known=("same patient as one",))  # fmt: skip
    path = sure_of_everything(tmp_path / "m.onnx", training_data=learned)
    opened = open_predictor(str(path), Space())
    assert opened.subject.trained_on == ("one", "same patient as one", "two")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    """Whatever the library that cannot read them raises."""
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(NotAModel, match=r"m\.onnx: expected an ONNX model, found a damaged file"):
        open_predictor(str(tmp_path / "m.onnx"), Space())
    folder = run_folder(tmp_path / "run")
    (folder / "model.keras").write_bytes(b"no network")
    with pytest.raises(DamagedNetwork, match="expected a Keras model, found a damaged file"):
        open_predictor(str(folder), Space())


def run_folder(folder: Path, trained_on: tuple[str, ...] = ("other",)) -> Path:
    """A finished run whose network scores a pixel by its grey alone."""
    folder.mkdir(parents=True)
    image = keras.Input((32, 32, 1))
    scores = keras.layers.Conv2D(3, 1)
    network = keras.Model(image, scores(image))
    scores.set_weights([np.array([[[[0.0, 20.0, 0.0]]]]), np.array([0.0, -10.0, -5.0])])
    network.save(folder / "model.keras")
    (folder / "config.json").write_text(CONFIG.model_dump_json())
    (folder / "data.json").write_text(json.dumps({"cases": trained_on}))
    return folder


def test_run_is_opened_by_folder_or_file(tmp_path: Path, case: Case) -> None:
    """Both say the same, and what they learned from and for how long."""
    folder = run_folder(tmp_path / "run")
    by_folder = open_predictor(str(folder), Space())
    by_file = open_predictor(str(folder / "model.keras"), Space())
    assert by_folder.subject == by_file.subject
    assert by_folder.subject.trained_on == ("other",)
    assert by_folder.subject.training_slices == 2 * 5 * 8
    assert by_folder.subject.parameters == 6
    found = by_folder.predict(case)
    assert np.array_equal(found.labels, by_file.predict(case).labels)
    assert found.organ_probability is not None
    assert 0 < (found.labels == 1).mean() < 1


class RecordingNetwork:
    """Scores a pixel by its grey alone, and keeps how many slices it saw at once."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        self.seen.append(len(images))
        grey = images[..., :1]
        return np.concatenate([0.5 + 0 * grey, 4 * grey - 1, 8 * grey - 5], axis=-1)


@pytest.mark.parametrize("slices", [1, 5, 8, 9, 11, 16, 23])
def test_slices_are_said_once_in_batches_of_one_size(slices: int) -> None:
    """The last batch begins earlier: a backend compiles anew for each size. Each slice is labelled
    as if it were alone, and those of a short case come in one batch.
    """
    hu = np.random.default_rng(slices).integers(-40, 161, (slices, 32, 32, 1)).astype(np.int16)
    network, alone = RecordingNetwork(), RecordingNetwork()
    found = NetworkPredictor(network, CONFIG.grid, CONFIG.window)(hu)
    one_by_one = NetworkPredictor(alone, CONFIG.grid, CONFIG.window)
    expected = Prediction.joined([one_by_one(plane[None]) for plane in hu])
    assert set(np.unique(found.labels)) == {0, 1, 2}
    assert np.array_equal(found.labels, expected.labels)
    assert np.array_equal(found.tumor_probability, expected.tumor_probability)
    assert found.organ_probability is not None
    assert expected.organ_probability is not None
    assert np.array_equal(found.organ_probability, expected.organ_probability)
    batches = -(-slices // SLICES_AT_ONCE)
    assert network.seen == [min(slices, SLICES_AT_ONCE)] * batches


def test_run_knows_the_patients_it_learned_from(tmp_path: Path) -> None:
    """Another scan of one of them is no new case."""
    folder = run_folder(tmp_path / "run", trained_on=("a", "c"))
    groups = (("a", "b"), ("d", "e"))
    config = CONFIG.model_copy(update={"same_patient": groups})
    (folder / "config.json").write_text(config.model_dump_json())
    assert open_predictor(str(folder), Space()).subject.trained_on == ("a", "b", "c")


def test_budget_is_what_a_run_saw(tmp_path: Path) -> None:
    """Not what was planned, where it stopped early."""
    folder = run_folder(tmp_path / "run")
    (folder / "log.csv").write_text("epoch,loss\n0,0.5\n")
    assert open_predictor(str(folder), Space()).subject.training_slices == 1 * 5 * 8


def test_flips_are_shown_to_networks_only(tmp_path: Path, case: Case) -> None:
    """A network that looks at single pixels says the same of a mirrored slice."""
    folder = run_folder(tmp_path / "run")
    flipped = open_predictor(str(folder), Space(), flips=True)
    assert flipped.subject.name.endswith("with flips")
    plain = open_predictor(str(folder), Space()).predict(case)
    assert np.array_equal(flipped.predict(case).labels, plain.labels)
    with pytest.raises(NotAModel, match="found an exported model"):
        open_predictor(str(tmp_path / "m.onnx"), Space(), flips=True)


def test_out_of_fold_predictions_are_those_kept(tmp_path: Path, case: Case) -> None:
    """Only cases whose fold was run can be labelled."""
    run_folder(tmp_path / "fold-0")
    labels = case.labels()
    Prediction(labels, labels, labels).save(tmp_path / "predictions" / "phantom.npz")
    opened = open_predictor(str(tmp_path), Space())
    assert opened.subject.kind == "out_of_fold"
    assert (opened.subject.training_slices, opened.subject.parameters) == (80, 6)
    assert np.array_equal(opened.predict(case).labels, labels)
    assert opened.can_label(case)
    assert not opened.can_label(make_case("unseen", labels))


def test_damaged_predictions_are_named(tmp_path: Path, case: Case) -> None:
    """As a copy that was cut short, or another archive."""
    run_folder(tmp_path / "fold-0")
    labels = case.labels()
    path = tmp_path / "predictions" / "phantom.npz"
    Prediction(labels, labels, labels).save(path)
    whole = path.read_bytes()
    opened = open_predictor(str(tmp_path), Space())
    for data in (whole[: len(whole) // 2], b"", whole[:200] + bytes(100) + whole[300:]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="phantom: expected kept predictions, found a damaged"):
            opened.predict(case)


@pytest.mark.parametrize("body", ['{"status": "fine"}', "<html></html>", "[1]", '{"models": 3}'])
def test_another_service_is_refused(body: str) -> None:
    """It says what was expected there."""

    other = FastAPI()
    other.get("/v1/models")(lambda: PlainTextResponse(body))
    message = "expected a service that tells its model's contract"
    with listening(other) as port, pytest.raises(ServiceRefused, match=message):
        open_predictor(f"http://127.0.0.1:{port}", Space())


def test_folds_of_two_configurations_are_refused(tmp_path: Path) -> None:
    """They are no cross-validation of one thing."""
    (tmp_path / "predictions").mkdir()
    run_folder(tmp_path / "fold-0")
    other = CONFIG.model_copy(update={"seed": 2})
    (run_folder(tmp_path / "fold-1") / "config.json").write_text(other.model_dump_json())
    with pytest.raises(NotAModel, match="expected folds of one configuration"):
        open_predictor(str(tmp_path), Space())


@pytest.mark.parametrize("missing", ["nothing", "nothing.onnx", "nothing/model.keras"])
def test_what_is_not_there_is_named(tmp_path: Path, missing: str) -> None:
    """No traceback of a library for a wrong path."""
    with pytest.raises(NotAModel, match="expected"):
        open_predictor(str(tmp_path / missing), Space())


def test_service_is_measured_by_the_same_code(tmp_path: Path) -> None:
    """Slices left out and the spacing assumed: what comes back is what the model says of each."""
    hu, labels = (np.asarray(item.array) for item in Phantom.draw(7).sample(36, 64, noise_hu=0))
    numbers = [number for number in range(36) if number not in (3, 4, 20)]
    gappy = make_case("gappy", labels[numbers], hu[numbers], [2 * number for number in numbers])
    space = Space(slice_step=2, assumed_spacing_mm=(5, 6.25, 6.25))
    fake = FakeSegmenter(by_threshold)
    app = create_app(Settings(data_dir=tmp_path / "data"), lambda _: fake)
    with listening(app) as port:
        opened = open_predictor(f"http://127.0.0.1:{port}/", space)
        assert opened.subject.name == f"{fake.contract.name} 1.0 at http://127.0.0.1:{port}"
        assert opened.subject.trained_on is None
        found = evaluate([(gappy, opened.predict(gappy))], opened.subject, Conditions())
        with pytest.raises(ServiceRefused, match="gappy: expected a spacing"):
            open_predictor(f"http://127.0.0.1:{port}", Space()).predict(gappy)
        tiny = make_case("flat", np.zeros((2, 8, 8), dtype=np.uint8), numbers=[0, 2])
        with pytest.raises(ServiceRefused, match="flat: unsupported_pixels: "):
            opened.predict(tiny)
    assert found.figures["liver"]["dice"].value == 1
    assert found.figures["tumor"]["dice"].value == 1
    assert found.calibration is None
    assert sum(len(handed) for handed in fake.handed) == 36
    with pytest.raises(ServiceRefused, match=r"http://127\.0\.0\.1"):
        opened.predict(gappy)


def test_speed_is_measured(tmp_path: Path) -> None:
    """Slices of a phantom per second; a missing file is named."""
    assert slices_per_second(sure_of_everything(tmp_path / "m.onnx")) > 0
    with pytest.raises(NotAModel, match=r"gone\.onnx"):
        slices_per_second(tmp_path / "gone.onnx")
