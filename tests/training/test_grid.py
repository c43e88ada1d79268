"""Slices go onto the network's grid and back without moving."""

import numpy as np
import pytest
from PIL import Image

from training.grid import grid_weights, pixel_weights, to_grid, to_pixels


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
