"""What all figures share: colours that the colour-blind tell apart, and how they are saved."""

import io
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito, Color Universal Design, 2008.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip

LIVER_COLOR, TUMOR_COLOR = SKY, ORANGE

SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
"""For runs and architectures, beside markers, so that colour is never all that differs."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

LINE_STYLES = ("-", "--", ":", "-.")
"""One after the other where there are more lines than colours."""

DPI = 130


matplotlib.rcParams["text.parse_math"] = False  # a dollar sign in a name is no formula


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def png(figure: Figure) -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes."""
    file = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def plain(axes: Axes, x_label: str, y_label: str, title: str) -> None:
    """Labels, a title, and no more lines than needed."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, fontsize="medium", loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def names_below(axes: Axes, names: Sequence[str]) -> None:
    """Names of cases under their places, upright where they are many."""
    many = len(names) > 8
    axes.set_xticks(
        range(len(names)), names, rotation=90 if many else 0, fontsize=7 if many else "medium"
    )
