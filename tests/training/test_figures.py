"""Figures show what they say: the right slice, sides marked where they are known, labelled axes."""

import cv2
import numpy as np
import pytest
from labelled_cases import make_case, phantom_case, said
from matplotlib.figure import Figure

from service.volume import HounsfieldWindow
from training.config import TrainingConfig
from training.data import Case, Dataset
from training.evaluation.evaluate import evaluate
from training.evaluation.results import Conditions, Evaluation, Subject
from training.figures.architectures import architectures
from training.figures.charts import detection_by_size, per_case_dice, reliability
from training.figures.curves import learning_curves
from training.figures.evaluation import evaluation_pictures, telling_cases
from training.figures.samples import CHANGES, augmentation_samples
from training.figures.slices import side_by_side, telling_slice, telling_view
from training.figures.style import png

WINDOW = HounsfieldWindow(lower_hu=-40, upper_hu=160)
CASES = tuple(phantom_case(f"case-{seed}", seed, lesions) for seed, lesions in ((7, 3), (8, 0)))


def perfect(case: Case) -> Evaluation:
    return evaluate([(case, said(case.labels()))], Subject(name="x", kind="network"), Conditions())


def texts(figure: Figure) -> set[str]:
    return {text.get_text() for axes in figure.axes for text in axes.texts}


def test_figures_are_whole_pngs_and_always_the_same() -> None:
    """Of three megapixels at most, not blank, and byte for byte reproducible."""
    case = CASES[0]
    found = perfect(case)
    data = Dataset((case,))
    logs = {"run": [{"epoch": 0.0, "loss": 1.0}, {"epoch": 1.0, "loss": 0.5}], "without a log": []}
    first, second = (
        evaluation_pictures(found, data, lambda one: said(one.labels()), WINDOW, logs)
        for _ in range(2)
    )
    assert first == second
    assert len(first) == 5
    for picture in first.values():
        image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
        assert image.std() > 10
        assert image.shape[0] * image.shape[1] < 3e6


def test_telling_slice_has_most_of_the_rarest() -> None:
    """Tumour of the truth before tumour of the prediction before liver before the middle."""
    truth, found = np.zeros((2, 5, 4, 4), dtype=np.uint8)
    assert telling_slice(truth, found) == 2
    truth[3, 0, :2] = 1
    assert telling_slice(truth, found) == 3
    found[1, 0, 0] = 2
    assert telling_slice(truth, found) == 1
    truth[0, 0, 3] = 2
    assert telling_slice(truth, found) == 0


def test_view_is_cut_to_both_livers() -> None:
    """A margin around, the slice's own number in the caption, and values of the window."""
    labels = np.zeros((2, 100, 120), dtype=np.uint8)
    labels[1, 40:60, 50:70] = 2
    case = make_case("case", labels, numbers=[4, 6])
    view = telling_view(case, said(labels), WINDOW, "best")
    assert view.image.shape == (20 + 48, 20 + 48)
    assert view.caption == "best\ncase, slice 6"
    assert view.image.max() == 1
    assert (view.truth == 2).sum() == 400


def test_sides_are_marked_on_every_slice_shown() -> None:
    """R is on the left of the image, L on the right."""
    case = CASES[0]
    figure = side_by_side([telling_view(case, said(case.labels()), WINDOW, "x")], "title")
    for axes in figure.axes:
        sides = {text.get_text(): text.get_position()[0] for text in axes.texts}
        assert sides["R"] < 0.5 < sides["L"]


def test_changed_samples_have_no_sides() -> None:
    """A change may be mirrored; the slice beside it says which side is which."""
    config = TrainingConfig(name="tiny", window=WINDOW, grid=32, crop=32, crop_epochs=1)
    slices = Dataset(CASES).slices
    figure = augmentation_samples(slices, config)
    assert len(figure.axes) == 2 * (CHANGES + 1)  # one case with tumour, and one slice without
    marked = [bool(axes.texts) for axes in figure.axes]
    assert marked == ([True] + [False] * CHANGES) * 2
    shown = figure.axes[1].images[0].get_array()
    assert shown.shape == (32, 32)
    png(figure)


def test_best_median_and_worst() -> None:
    """By tumour Dice among cases that have any; a case is shown once."""
    case, without = CASES
    partly = case.labels()
    partly[:18] = np.minimum(partly[:18], 1)
    predictions = {"good": case.labels(), "bad": np.minimum(case.labels(), 1), "half": partly}
    settled = [
        (make_case(name, case.labels()), said(labels)) for name, labels in predictions.items()
    ]
    settled.append((without, said(np.zeros_like(without.labels()))))
    found = evaluate(settled, Subject(name="x", kind="network"), Conditions())
    chosen = {rank: metrics.name for rank, metrics in telling_cases(found).items()}
    assert chosen == {"best": "good", "median": "half", "worst": "bad"}
    pair = evaluate(settled[:2], Subject(name="x", kind="network"), Conditions())
    assert list(telling_cases(pair)) == ["best", "worst"]
    alone = telling_cases(perfect(without))
    assert {rank: metrics.name for rank, metrics in alone.items()} == {"best": "case-8"}


@pytest.mark.parametrize("spacing_mm", [(5.0, 6.25, 6.25), None])
def test_axes_have_names_and_units(spacing_mm: tuple[float, float, float] | None) -> None:
    """Sizes are in mm only where the spacing is known."""
    found = perfect(make_case("case", CASES[0].labels(), spacing_mm=spacing_mm))
    assert found.calibration is not None
    figures = [
        per_case_dice(found), detection_by_size(found.cases), reliability(found.calibration),
        learning_curves({"run": [{"epoch": 0, "loss": 1.0, "liver_dice": 0.5, "tumor_dice": 0.1}]}),
        architectures({"one": found.figures}),
    ]  # fmt: skip
    for figure in figures:
        png(figure)  # also what is not defined is drawn without a warning
        for axes in figure.axes:
            assert axes.get_ylabel() or axes.get_xlabel()
    assert ("mm" in figures[1].axes[0].get_xlabel()) == (spacing_mm is not None)
    assert "not defined" in texts(figures[4])  # no case without tumour, so no false lesions


def test_lesions_are_counted_in_their_class_of_size() -> None:
    """27, 300 and 12,000 voxels: one each below 30, from 300, and from 10,000."""
    labels = np.zeros((20, 60, 60), dtype=np.uint8)
    labels[1:4, 1:4, 1:4] = 2
    labels[1:4, 10:20, 10:20] = 2
    labels[6:18, 10:50, 10:35] = 2
    figure = detection_by_size(perfect(make_case("case", labels)).cases)
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert [tick.split("n=")[1] for tick in ticks] == ["1", "0", "0", "1", "0", "0", "1"]


def test_runs_without_looks_show_their_loss_only() -> None:
    """No empty panels."""
    logs = {name: [{"epoch": 0.0, "loss": 1.0}, {"epoch": 1.0, "loss": 0.5}] for name in "ab"}
    figure = learning_curves(logs)
    assert len(figure.axes) == 1
    assert len(figure.axes[0].lines) == 2
