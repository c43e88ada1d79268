"""Architectures compared, with their intervals."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from training.evaluation.bootstrap import Estimate
from training.figures.style import MARKERS, SERIES, new_figure, plain

PANELS = (
    ("tumor_bearing", "dice", "tumour Dice, cases with tumour"),
    ("liver", "dice", "liver Dice per case"),
    ("tumor_free", "false_lesions_per_case", "false lesions per case without tumour"),
)

Figures = Mapping[str, Mapping[str, Estimate]]


def architectures(figures: Mapping[str, Figures]) -> Figure:
    """One line a subject, by name; bars are 95 % bootstrap intervals over cases."""
    figure = new_figure(11, 0.45 * len(figures) + 1.8)
    names = list(figures)
    for panel, (axes, (group, metric, label)) in enumerate(
        zip(figure.subplots(1, len(PANELS), sharey=True), PANELS, strict=True)
    ):
        for place, name in enumerate(names):
            found = figures[name][group][metric]
            if found.value is None:
                place_of_text = axes.get_yaxis_transform()
                axes.text(0.5, place, "not defined", ha="center", transform=place_of_text)
                continue
            axes.errorbar(
                found.value, place, xerr=_ends(found), capsize=3,
                color=SERIES[place % len(SERIES)], marker=MARKERS[place % len(MARKERS)],
            )  # fmt: skip
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))  # no metric here is ever below 0
        axes.grid(axis="x", alpha=0.3)
        plain(axes, label, "", "Mean and 95 % interval over cases" if panel == 0 else "")
    return figure


def _ends(found: Estimate) -> list[list[float]]:
    """How far the interval reaches below and above; 0 where there is none."""
    value = found.value or 0.0
    low, high = (value if end is None else end for end in (found.low, found.high))
    return [[max(0.0, value - low)], [max(0.0, high - value)]]
