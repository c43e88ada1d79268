"""Slices with their outlines: the image, the truth and the prediction side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from service.boxes import box_of
from service.volume import LIVER_LABEL, TUMOR_LABEL, HounsfieldWindow
from training.batches import in_window
from training.data import Case
from training.figures.style import LIVER_COLOR, TUMOR_COLOR, new_figure
from training.prediction import Prediction

MARGIN_PX = 24
"""Around the liver, as shown."""

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """One slice: window units [rows, columns], the labels of truth and prediction, and a caption.

    Slices lie as the model sees them: the patient's right on the left, the front above, where the
    `sides` are known. `aspect` is the height of a pixel over its width.
    """

    image: NDArray[np.float32]
    truth: Labels
    found: Labels
    caption: str
    sides: bool = True
    aspect: float = 1.0


def telling_view(
    case: Case, prediction: Prediction, window: HounsfieldWindow, caption: str
) -> View:
    """The slice of a case with most tumour in the truth; without one, with most in the prediction;
    else with most liver. Cut to the liver and a margin.
    """
    truth, found = case.labels(), prediction.labels
    index = telling_slice(truth, found)
    item = case.slices[index]
    rows, columns = _around(truth[index], found[index])
    return View(
        image=in_window(item.hu(), window)[rows, columns],
        truth=truth[index][rows, columns],
        found=found[index][rows, columns],
        caption=f"{caption}\n{case.name}, slice {item.index}",
        sides=all(notice.code != "orientation_unknown" for notice in case.notices),
        aspect=case.spacing_mm[1] / case.spacing_mm[2] if case.spacing_mm else 1.0,
    )


def telling_slice(truth: Labels, found: Labels) -> int:
    """Which slice of [slices, rows, columns] to look at."""
    for mask in (truth == TUMOR_LABEL, found == TUMOR_LABEL, truth >= LIVER_LABEL):
        if mask.any():
            return int(mask.sum(axis=(1, 2)).argmax())
    return len(truth) // 2


def _around(truth: Labels, found: Labels) -> tuple[slice, slice]:
    """Rows and columns of both livers and a margin; everything where there is none."""
    box = box_of((truth | found)[None])
    if box is None:
        return slice(None), slice(None)
    rows, columns = (
        slice(max(0, axis.start - MARGIN_PX), axis.stop + MARGIN_PX) for axis in box[1:]
    )
    return rows, columns


def side_by_side(views: Sequence[View], title: str) -> Figure:
    """A row a view: image, reference and prediction."""
    shapes = [view.image.shape for view in views]
    ratios = [
        view.aspect * rows / columns for view, (rows, columns) in zip(views, shapes, strict=True)
    ]
    figure = new_figure(9, 2.9 * sum(ratios) + 0.9)
    figure.suptitle(title, fontsize="medium")
    grid = figure.subplots(len(views), 3, squeeze=False, height_ratios=ratios)
    for row, view in zip(grid, views, strict=True):
        for axes in row:
            show_slice(axes, view.image, view.aspect)
            if view.sides:
                mark_sides(axes)
        row[0].set_ylabel(view.caption, fontsize="small")
        outline(row[1], view.truth)
        outline(row[2], view.found)
    for axes, name in zip(grid[0], ("image", "reference", "prediction"), strict=True):
        axes.set_title(name, fontsize="medium")
    structure_legend(figure)
    return figure


def show_slice(axes: Axes, image: NDArray[np.float32], aspect: float = 1.0) -> None:
    """Grey from 0 to 1; `aspect` is the height of a pixel over its width."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect=aspect)
    axes.set_xticks([])
    axes.set_yticks([])


def mark_sides(axes: Axes) -> None:
    """The patient's right and left, of a slice that lies as the model sees it."""
    box = {"facecolor": "black", "edgecolor": "none", "alpha": 0.5, "pad": 1.5}
    for x, side, align in ((0.02, "R", "left"), (0.98, "L", "right")):
        axes.text(
            x, 0.5, side, transform=axes.transAxes, color="white", fontsize="small",
            ha=align, va="center", bbox=box,
        )  # fmt: skip


def outline(axes: Axes, labels: Labels) -> None:
    """Liver (with tumour) and tumour, along the edges of their pixels."""
    for least, color in ((LIVER_LABEL, LIVER_COLOR), (TUMOR_LABEL, TUMOR_COLOR)):
        mask = labels >= least
        if mask.any() and not mask.all():
            axes.contour(mask, levels=[0.5], colors=color, linewidths=1.2)


def structure_legend(figure: Figure) -> None:
    """Which colour is which, below everything."""
    lines = [Line2D([], [], color=LIVER_COLOR), Line2D([], [], color=TUMOR_COLOR)]
    figure.legend(
        lines, ["liver (with tumour)", "tumour"], loc="outside lower center", ncols=2, frameon=False
    )
