"""Learning curves from the logs of runs."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from training.figures.style import LINE_STYLES, MARKERS, SERIES, new_figure, plain

Log = Sequence[Mapping[str, float]]
"""Lines of a `log.csv`, as `RunFolder.logged` reads them."""


def learning_curves(logs: Mapping[str, Log]) -> Figure:
    """Loss, and Dice of held-out cases where a run looked at them, of all runs by epoch."""
    looked = any("tumor_dice" in line for log in logs.values() for line in log)
    panels = [("loss", "training loss")]
    if looked:
        panels += [("liver_dice", "liver Dice"), ("tumor_dice", "tumour Dice")]
    figure = new_figure(4.2 * len(panels), 3.8)
    for axes, (field, label) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        for number, (name, log) in enumerate(logs.items()):
            points = [(line["epoch"] + 1, line[field]) for line in log if field in line]
            axes.plot(
                [x for x, _ in points], [y for _, y in points],
                color=SERIES[number % len(SERIES)], marker=MARKERS[number % len(MARKERS)],
                linestyle=LINE_STYLES[number // len(SERIES) % len(LINE_STYLES)],
                markersize=3, linewidth=1.2, label=name if field == "loss" else None,
            )  # fmt: skip
        plain(axes, "epoch", label, "" if field == "loss" else "of held-out cases")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if field != "loss":
            axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=min(4, len(logs)), frameon=False)
    return figure
