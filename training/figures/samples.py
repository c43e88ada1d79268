"""What augmentation makes of slices: before and after, with the labels."""

import numpy as np
from matplotlib.figure import Figure

from training.batches import SliceBatches, in_window
from training.config import SamplingConfig, TrainingConfig
from training.data import LabelledSlice
from training.figures.slices import mark_sides, outline, show_slice, structure_legend
from training.figures.style import new_figure

CHANGES = 4
"""Different changes that are shown of every slice."""


def augmentation_samples(
    slices: list[LabelledSlice], config: TrainingConfig, rows: int = 3
) -> Figure:
    """A row a slice: as it is, then as `CHANGES` training samples drawn from it.

    Slices with tumour, of different cases, and last one with liver only, which may get drawn
    lesions. Sides are marked on the slices as they are only: a change may be mirrored.
    """
    chosen = _chosen(slices, rows)
    figure = new_figure(2.1 * (CHANGES + 1), 2.2 * len(chosen) + 0.5)
    figure.suptitle(
        f"Training samples of {config.name}: slices as they are, and {CHANGES} changes of each",
        fontsize="medium",
    )
    # Single samples are asked for, no batches, so no kind of slice need be there.
    no_batches = SamplingConfig(with_tumor=0, liver_only=0, without_liver=0)
    whole = config.model_copy(update={"crop_epochs": 0, "sampling": no_batches})
    batches = SliceBatches(slices, whole)
    for number, (line, item) in enumerate(
        zip(figure.subplots(len(chosen), CHANGES + 1, squeeze=False), chosen, strict=True)
    ):
        show_slice(line[0], in_window(item.hu(), config.window))
        outline(line[0], item.labels())
        mark_sides(line[0])
        line[0].set_ylabel(f"{item.case}\nslice {item.index}", fontsize="small")
        for change, axes in enumerate(line[1:]):
            image, classes = batches.sample(item, np.random.default_rng((number, change)))
            show_slice(axes, image[..., image.shape[-1] // 2])
            outline(axes, classes.argmax(axis=-1).astype(np.uint8))
    structure_legend(figure)
    return figure


def _chosen(slices: list[LabelledSlice], count: int) -> list[LabelledSlice]:
    """Of cases evenly over all, by their tumour, the slice with most of it; then one without."""
    most: dict[str, LabelledSlice] = {}
    for item in slices:
        if item.tumor_px and item.tumor_px > getattr(most.get(item.case), "tumor_px", 0):
            most[item.case] = item
    with_tumor = sorted(most.values(), key=lambda item: -item.tumor_px)
    step = max(1, len(with_tumor) // max(1, count - 1))
    without = max(
        (item for item in slices if not item.tumor_px), key=lambda item: item.liver_px, default=None
    )
    return [*with_tumor[::step][: count - 1], *([without] if without else [])]
