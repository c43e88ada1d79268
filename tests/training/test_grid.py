"""Slices go onto the network's grid and back without moving."""

import numpy as np
import pytest
from PIL import Image

from training.grid import GridPart, grid_weights, pixel_weights, to_grid, to_pixels


@pytest.mark.parametrize(
    ("size", "grid"), [(512, 256), (300, 256), (511, 64), (64, 256), (100, 99)]
)
def test_grid_is_pillow_bilinear(size: int, grid: int) -> None:
    """The same resampling as Pillow's BILINEAR, apart from the border, where air is outside."""
    rng = np.random.default_rng(1)
    image = rng.random((size, size), dtype=np.float32)
    ours = to_grid(image[..., None], grid)[..., 0]
    theirs = np.asarray(Image.fromarray(image).resize((grid, grid), Image.Resampling.BILINEAR))
    margin = int(np.ceil(grid / size)) + 1
    inner = (slice(margin, -margin), slice(margin, -margin))
    assert np.abs(ours[inner] - theirs[inner]).max() < 1e-5  # float32 sums in another order


def test_grid_pads_with_air() -> None:
    """A slice that is not square lies in the middle of the square of its longer side."""
    weights = grid_weights(100, 200, 50)
    assert weights.shape == (50, 100)
    assert not weights[:11].any()
    assert weights[15:35].sum(axis=1) == pytest.approx(np.ones(20))


@pytest.mark.parametrize(("rows", "columns"), [(512, 512), (511, 384), (64, 100), (300, 517)])
def test_way_back_keeps_every_place(rows: int, columns: int) -> None:
    """A ramp over rows and columns comes back as itself, but for the edges of the square."""
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    ramp = np.stack([y, x], axis=-1)
    back = to_pixels(to_grid(ramp, 96)[None], rows, columns)[0]
    edge = 2 * int(np.ceil(max(rows, columns) / 96)) + 2
    inner = (slice(edge, -edge), slice(edge, -edge))
    # A linear ramp passes two linear resamplings unchanged, but for what a cell's centre rounds.
    assert np.abs(back[inner] - ramp[inner]).max() < max(rows, columns) / 96 / 4 + 0.01
    assert np.abs(np.mean(back[inner] - ramp[inner], axis=(0, 1))).max() < 0.01


def test_every_pixel_is_a_mean_of_cells() -> None:
    """Weights of the way back are 1 in sum, whatever the sizes."""
    for size, side, grid in ((512, 512, 256), (100, 200, 50), (64, 64, 256)):
        assert pixel_weights(size, side, grid).sum(axis=1) == pytest.approx(np.ones(size))


@pytest.mark.parametrize(
    "cells",
    [
        (slice(0, 64), slice(0, 64)),
        (slice(0, 17), slice(40, 64)),
        (slice(13, 45), slice(20, 52)),
        (slice(31, 32), slice(63, 64)),
    ],
)
@pytest.mark.parametrize(
    "shape", [(128, 128), (64, 64), (100, 71), (61, 150), (40, 48), (21, 64), (63, 63)]
)
def test_a_part_is_cut_out_of_the_whole(shape: tuple[int, int], cells: tuple[slice, slice]) -> None:
    """Its cells, made of its own pixels alone, are those of the whole grid."""
    image = np.random.default_rng(2).random((*shape, 2), dtype=np.float32)
    part = GridPart.of(shape, 64, cells)
    found = part.resampled(image[part.pixels])
    expected = to_grid(image, 64)[cells]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-6  # float32 sums in another order


def test_a_part_needs_no_more_pixels_than_lie_under_it() -> None:
    """A cell of two pixels a side takes from four: a triangle that is two cells wide. Where grid
    and slice are the same, a part is its own pixels.
    """
    cells = (slice(10, 20), slice(32, 64))
    assert GridPart.of((128, 128), 64, cells).pixels == (slice(19, 41), slice(63, 128))
    same = GridPart.of((64, 64), 64, cells)
    assert same.pixels == cells
    image = np.random.default_rng(3).random((10, 32, 2), dtype=np.float32)
    assert np.array_equal(same.resampled(image), image)


@pytest.mark.parametrize(
    ("shape", "cells"),
    [((20, 64), (slice(0, 16), slice(8, 40))), ((128, 30), (slice(8, 40), slice(48, 64)))],
)
def test_a_part_in_the_padding_is_air(shape: tuple[int, int], cells: tuple[slice, slice]) -> None:
    """Beside an oblong slice there is nothing to take from; some pixel is named all the same, since
    OpenCV warps no empty image.
    """
    part = GridPart.of(shape, 64, cells)
    image = np.ones((*shape, 1), dtype=np.float32)
    assert image[part.pixels].size
    found = part.resampled(image[part.pixels])
    assert found.shape == (cells[0].stop - cells[0].start, cells[1].stop - cells[1].start, 1)
    assert not found.any()
