"""Figures show what they say: the right slice, sides marked where they are known, labelled axes."""

from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from labelled_cases import make_case, phantom_case, said
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from service.notices import Notice
from service.volume import HounsfieldWindow
from training.config import TrainingConfig
from training.data import Case, Dataset
from training.evaluation.bootstrap import Estimate
from training.evaluation.calibration import Calibration, ReliabilityBin
from training.evaluation.evaluate import evaluate
from training.evaluation.results import Conditions, Evaluation, Subject
from training.figures.architectures import architectures
from training.figures.charts import detection_by_size, per_case_dice, reliability
from training.figures.curves import learning_curves
from training.figures.evaluation import evaluation_pictures, telling_cases
from training.figures.samples import CHANGES, augmentation_samples
from training.figures.slices import side_by_side, telling_slice, telling_view
from training.figures.style import LIVER_COLOR, TUMOR_COLOR, png

WINDOW = HounsfieldWindow(lower_hu=-40, upper_hu=160)
CASES = tuple(phantom_case(f"case-{seed}", seed, lesions) for seed, lesions in ((7, 3), (8, 0)))


def perfect(case: Case) -> Evaluation:
    return evaluate([(case, said(case.labels()))], Subject(name="x", kind="network"), Conditions())


def points(lines: Iterable[Line2D]) -> list[list[tuple[float, float]]]:
    return [list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in lines]


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


def test_sides_are_marked_only_where_they_are_known() -> None:
    """A file that does not say how the patient lies in it may be mirrored."""
    unknown = replace(CASES[0], notices=(Notice("orientation_unknown", "no form"),))
    view = telling_view(unknown, said(unknown.labels()), WINDOW, "x")
    assert texts(side_by_side([view], "title")) == set()


def test_panels_are_image_reference_and_prediction() -> None:
    """Outlines of the truth, on the left, stand in the second; of the prediction in the third."""
    truth, found = np.zeros((2, 1, 60, 60), dtype=np.uint8)
    truth[0, 20:30, 10:15], found[0, 20:30, 45:50] = 1, 1
    view = telling_view(make_case("case", truth), said(found), WINDOW, "x")
    figure = side_by_side([view], "title")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["image", "reference", "prediction"]
    outlines = [
        [path for drawn in axes.collections for path in drawn.get_paths()] for axes in figure.axes
    ]
    assert [len(paths) for paths in outlines] == [0, 1, 1]
    columns = [paths[0].vertices[:, 0].mean() for paths in outlines[1:]]
    assert columns == pytest.approx([12, 47], abs=1)


def test_pixels_that_are_not_square_are_shown_as_they_are() -> None:
    """2 mm high and 1 mm wide."""
    case = make_case("case", CASES[0].labels(), spacing_mm=(5, 2, 1))
    figure = side_by_side([telling_view(case, said(case.labels()), WINDOW, "x")], "title")
    assert {axes.get_aspect() for axes in figure.axes} == {2}


def test_dice_of_every_case_stands_over_its_name() -> None:
    """The worst tumour first, cases without tumour last, liver and tumour in their colours."""
    case, without = CASES
    half = case.labels()
    half[:18] = np.minimum(half[:18], 1)
    settled = [
        (make_case("perfect", case.labels()), said(case.labels())),
        (without, said(np.zeros_like(without.labels()))),
        (make_case("half", case.labels()), said(half)),
    ]
    found = evaluate(settled, Subject(name="x", kind="network"), Conditions())
    axes = per_case_dice(found).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["half", "perfect", "case-8"]
    dice = {case.name: case.tumor.overlap.dice for case in found.cases}
    assert 0 < dice["half"] < 1
    by_label = {str(line.get_label()): line for line in axes.lines}
    liver, tumor = by_label["liver"], by_label["tumour"]
    assert (liver.get_color(), tumor.get_markerfacecolor()) == (LIVER_COLOR, TUMOR_COLOR)
    assert liver.get_ydata().tolist() == [1, 1, 0]
    (free,) = (line for label, line in by_label.items() if label.startswith("no tumour"))
    assert points([tumor, free]) == [[(0, dice["half"]), (1, 1)], [(2, 1)]]


def test_reliability_is_of_what_was_given() -> None:
    """To the right what was said, upwards what came true."""
    bins = [ReliabilityBin(0, None, None)] * 10
    bins[2], bins[8] = ReliabilityBin(100, 0.25, 0.5), ReliabilityBin(10, 0.85, 0.7)
    upper, lower = reliability(Calibration(tuple(bins), 0.2)).axes
    (observed,) = (line for line in upper.lines if line.get_label() == "observed")
    assert observed.get_xdata().tolist() == [0.25, 0.85]
    assert observed.get_ydata().tolist() == [0.5, 0.7]
    assert lower.lines[0].get_ydata().tolist() == [100, 10]


def test_false_lesions_touch_none() -> None:
    """Of two predicted lesions of one size one touches a lesion, hardly; the other is false."""
    truth, found = np.zeros((2, 4, 40, 40), dtype=np.uint8)
    truth[1, 2:6, 2:6] = 2
    found[1, 5:9, 5:9] = found[1, 20:24, 20:24] = 2
    metrics = evaluate(
        [(make_case("case", truth), said(found))], Subject(name="x", kind="network"), Conditions()
    ).cases
    left, right = detection_by_size(metrics).axes
    # All are below 30 voxels, or just above: the first two classes of size.
    heights = [[bar.get_height() for bar in bars] for bars in (*left.containers, *right.containers)]
    touched, found_half, every, false = (sum(own) for own in heights)
    assert (touched, found_half, every, false) == (1, 0, 2, 1)


def test_intervals_reach_from_low_to_high() -> None:
    """Of the value named, below and above it."""
    estimates = {
        ("tumor_bearing", "dice"): Estimate(0.4, 0.1, 0.6, 5),
        ("liver", "dice"): Estimate(0.9, 0.85, 0.99, 5),
        ("tumor_free", "false_lesions_per_case"): Estimate(2, None, None, 1),
    }
    figures: dict[str, dict[str, Estimate]] = {}
    for (group, metric), found in estimates.items():
        figures.setdefault(group, {})[metric] = found
    panels = architectures({"one": figures}).axes
    ends = []
    for axes in panels:
        (drawn,) = axes.containers
        (segment,) = drawn.lines[2][0].get_segments()
        ends.append([float(x) for x in segment[:, 0]])
    assert ends == [pytest.approx(one) for one in ([0.1, 0.6], [0.85, 0.99], [2, 2])]


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
    assert points(figure.axes[0].lines) == [[(1, 1.0), (2, 0.5)]] * 2


def test_no_two_runs_look_alike() -> None:
    """Twenty of them: colour, marker or line differs."""
    logs = {str(number): [{"epoch": 0.0, "loss": 1.0}] for number in range(20)}
    lines = learning_curves(logs).axes[0].lines
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}
    assert len(looks) == 20


def test_names_are_no_formulas() -> None:
    """A dollar sign in the name of a case or a run is drawn as it is."""
    case = make_case("a$x^{$", CASES[0].labels())
    png(per_case_dice(perfect(case)))
    png(learning_curves({"b$_{$": [{"epoch": 0.0, "loss": 1.0}]}))
