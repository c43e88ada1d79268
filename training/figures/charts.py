"""Charts of an evaluation: Dice by case, detection by size, calibration."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.evaluation.bootstrap import Estimate
from training.evaluation.calibration import Calibration
from training.evaluation.lesions import FOUND_IOU, Lesion
from training.evaluation.results import CaseMetrics, Evaluation
from training.figures.style import (
    BLACK,
    LIVER_COLOR,
    TUMOR_COLOR,
    VERMILION,
    names_below,
    new_figure,
    plain,
)

SIZE_EDGES_MM = (0, 5, 10, 15, 20, 30, 50)
SIZE_EDGES_VOXELS = (0, 30, 100, 300, 1000, 3000, 10000)
"""Lower ends of the classes of lesion sizes; the last has no upper end."""


def per_case_dice(evaluation: Evaluation) -> Figure:
    """Dice of liver and tumour of every case, the worst tumour first, those without tumour last."""
    cases = sorted(evaluation.cases, key=lambda case: (not case.has_tumor, _tumor_dice(case)))
    figure = new_figure(max(6, 0.32 * len(cases) + 1.5), 4)
    axes = figure.subplots()
    places = np.arange(len(cases))
    axes.plot(
        places, [case.liver.overlap.dice for case in cases], "s", color=LIVER_COLOR, label="liver"
    )
    for has_tumor, fill, label in (
        (True, TUMOR_COLOR, "tumour"),
        (False, "none", "no tumour in the reference (1: none found)"),
    ):
        shown = [place for place in places if cases[place].has_tumor == has_tumor]
        if shown:
            axes.plot(
                shown, [_tumor_dice(cases[place]) for place in shown], "o", label=label,
                markerfacecolor=fill, markeredgecolor=TUMOR_COLOR,
            )  # fmt: skip
    _mean_line(axes, evaluation.figures["liver"]["dice"], LIVER_COLOR)
    _mean_line(axes, evaluation.figures["tumor_bearing"]["dice"], TUMOR_COLOR)
    names_below(axes, [case.name for case in cases])
    axes.set_ylim(-0.03, 1.03)
    plain(axes, "case", "Dice", "Dice of every case; dashed: means (tumour: cases that have any)")
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _tumor_dice(case: CaseMetrics) -> float:
    return case.tumor.overlap.dice


def _mean_line(axes: Axes, mean: Estimate, color: str) -> None:
    if mean.value is not None:
        axes.axhline(mean.value, color=color, linestyle="--", linewidth=1)


def detection_by_size(cases: Sequence[CaseMetrics]) -> Figure:
    """Reference lesions found, by size, and predicted lesions that are false, by size."""
    figure = new_figure(8, 4)
    left, right = figure.subplots(1, 2)
    expected = [lesion for case in cases for lesion in case.lesions.reference]
    found = [lesion for case in cases for lesion in case.lesions.predicted]
    in_mm = all(lesion.volume_mm3 is not None for lesion in (*expected, *found))
    edges = SIZE_EDGES_MM if in_mm else SIZE_EDGES_VOXELS
    unit = "diameter of a sphere of that volume, mm" if in_mm else "size, voxels"
    classes = _by_size(expected, edges, in_mm)
    for least, color, hatch, offset in (
        (0.0, TUMOR_COLOR, "", -0.2),
        (FOUND_IOU, VERMILION, "//", 0.2),
    ):
        parts = [_part(own, least) for own in classes]
        left.bar(
            np.arange(len(edges)) + offset, parts, 0.4, color=color, hatch=hatch,
            edgecolor="white", label=f"IoU above {least:g}",
        )  # fmt: skip
    _size_axis(left, edges, [len(own) for own in classes])
    left.set_ylim(0, 1.2)  # room for the legend
    left.set_yticks(np.linspace(0, 1, 6))
    plain(left, unit, "part found", "Reference lesions found, by size (n: how many)")
    left.legend(frameon=False, fontsize="small", ncols=2, loc="upper left")
    classes = _by_size(found, edges, in_mm)
    false = [sum(lesion.iou == 0 for lesion in own) for own in classes]
    right.bar(np.arange(len(edges)), [len(own) for own in classes], color="0.8", label="all")
    right.bar(np.arange(len(edges)), false, color=BLACK, width=0.5, label="touch no lesion")
    _size_axis(right, edges, None)
    plain(right, unit, "predicted lesions", "Predicted lesions, by size")
    right.legend(frameon=False, fontsize="small")
    return figure


def _by_size(lesions: Sequence[Lesion], edges: Sequence[int], in_mm: bool) -> list[list[Lesion]]:
    classes: list[list[Lesion]] = [[] for _ in edges]
    for lesion in lesions:
        size = _diameter_mm(lesion) if in_mm else lesion.voxels
        classes[int(np.searchsorted(edges, size, side="right")) - 1].append(lesion)
    return classes


def _diameter_mm(lesion: Lesion) -> float:
    """Of the sphere with the lesion's volume."""
    return float(np.cbrt(6 * (lesion.volume_mm3 or 0.0) / np.pi))


def _part(lesions: Sequence[Lesion], least: float) -> float:
    return sum(lesion.iou > least for lesion in lesions) / len(lesions) if lesions else 0.0


def _size_axis(axes: Axes, edges: Sequence[int], counts: Sequence[int] | None) -> None:
    ends = [*(f"{low}–{high}" for low, high in pairwise(edges)), f"≥{edges[-1]}"]
    if counts is not None:
        ends = [f"{end}\nn={count}" for end, count in zip(ends, counts, strict=True)]
    axes.set_xticks(range(len(edges)), ends, fontsize="x-small")


def reliability(found: Calibration) -> Figure:
    """The part of tumour among voxels of the liver, by the probability that was given."""
    figure = new_figure(5, 5.4)
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    given = [item for item in found.bins if item.voxels]
    upper.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="perfect")
    upper.plot(
        [item.mean_probability for item in given], [item.tumor_part for item in given],
        "o-", color=TUMOR_COLOR, markeredgecolor=BLACK, label="observed",
    )  # fmt: skip
    error = "none" if found.expected_error is None else f"{found.expected_error:.4f}"
    plain(upper, "", "part that is tumour", f"Tumour probability (expected error {error})")
    upper.set_ylim(-0.02, 1.02)
    upper.legend(frameon=False)
    # Marks and no bars: a logarithmic scale has no 0 from which a bar could rise.
    lower.plot(
        [item.mean_probability for item in given], [item.voxels for item in given],
        "o", color="0.4",
    )  # fmt: skip
    lower.set_yscale("log")
    lower.grid(axis="y", alpha=0.3)
    plain(lower, "tumour probability given, voxels of the reference's liver", "voxels", "")
    return figure
