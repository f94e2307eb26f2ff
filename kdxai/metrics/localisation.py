"""Does the map point at the object? Maps [H, W] against masks [H, W] of the same grid.

All read the positive part of the map: evidence for the class. A map without any counts as
constant. Of a mask any value but 0 is inside.
"""

import jax
import jax.numpy as jnp

from kdxai.errors import UserError
from kdxai.metrics.arrays import ascending, inside, one_map
from kdxai.metrics.coherency import average_ranks
from kdxai.metrics.finite import where_finite
from kdxai.scaling import headroom


def energy_pointing_game(heatmap: jax.Array, mask: jax.Array) -> jax.Array:
    """Share of the map's positive energy inside the mask, in [0, 1].

    Wang et al. 2020 (Score-CAM). A constant map scores the mask's share of the area, which is the
    chance level to compare with.
    """
    energy = _scaled_positive_part(heatmap)
    return jnp.where(inside(mask, energy), energy, 0).sum() / energy.sum()


def pointing_game(heatmap: jax.Array, mask: jax.Array) -> jax.Array:
    """1 where the map's maximum lies in the mask, else 0 (Zhang et al. 2018).

    Where several pixels share the maximum, the share of them inside the mask, which is what a fair
    draw among them would score. No tolerance margin: dilate the mask for one.
    """
    energy = _scaled_positive_part(heatmap)
    top = energy == energy.max()
    share = (top & inside(mask, energy)).sum().astype(jnp.float32) / top.sum()
    return where_finite(share, heatmap)


def iou(heatmap: jax.Array, mask: jax.Array, threshold: float = 0.5) -> jax.Array:
    """Intersection over union of the mask and {M >= threshold * max M}, in [0, 1].

    Zhou et al. 2016 threshold CAM at 0.2 of its maximum, most later work at 0.5. A constant map
    covers the whole image; an empty mask scores 0.
    """
    energy = _scaled_positive_part(heatmap)
    found = energy >= threshold * energy.max()
    mask = inside(mask, energy)
    overlap = (found & mask).sum().astype(jnp.float32) / (found | mask).sum()
    return where_finite(overlap, heatmap)


def auc(heatmap: jax.Array, mask: jax.Array) -> jax.Array:
    """Area under the ROC curve: how well the map tells the mask's pixels from the others.

    The chance that a pixel inside is more relevant than one outside, ties counted as half; in
    [0, 1], higher is better. 0.5 for a constant map, and where there is no inside or no outside.
    """
    energy = _scaled_positive_part(heatmap)
    mask = inside(mask, energy)
    within = mask.sum().astype(jnp.float32)
    without = mask.size - within
    mean_rank = jnp.where(mask, average_ranks(energy), 0.0).sum() / jnp.maximum(within, 1)
    above = (mean_rank - (within + 1) / 2) / jnp.maximum(without, 1)
    return where_finite(jnp.where((within == 0) | (without == 0), 0.5, above), heatmap)


def top_k_intersection(heatmap: jax.Array, mask: jax.Array, fraction: float = 0.1) -> jax.Array:
    """Share of the most relevant `fraction` of the pixels that lies in the mask, in [0, 1].

    Theiner et al. 2022, after the top-k intersection of two maps of Ghorbani et al. 2019; for that
    one see `agreement.top_k_iou`. Higher is better. Of pixels that tie with the last of the top as
    many count as are missing, by the share of them inside, which is what a fair draw would score: a
    constant map scores the mask's share of the area.
    """
    energy = _scaled_positive_part(heatmap)
    mask = inside(mask, energy)
    k = max(1, round(fraction * energy.size))
    edge = ascending(energy)[-k]
    above, tied = energy > edge, energy == edge
    share = (tied & mask).sum().astype(jnp.float32) / jnp.maximum(tied.sum(), 1)
    found = (above & mask).sum() + (k - above.sum()) * share
    return where_finite(found / k, heatmap)


def area(mask: jax.Array) -> jax.Array:
    """Share of the image inside the mask [H, W]: what a map without a preference scores."""
    return inside(mask, one_map(mask)).mean()


def grid_pointing_game(
    heatmap: jax.Array, cell_index: jax.Array | int, grid: tuple[int, int]
) -> jax.Array:
    """Share of the positive energy of a mosaic's map that lies in one cell.

    Boehle et al. 2021 (CoDA Nets); Rao et al. 2022. A constant map scores 1/(rows * columns).

    Args:
      heatmap: [H, W] map of a `mosaic` for the class of the image in cell `cell_index`.
      cell_index: counted along rows; may be traced.
      grid: (rows, columns); they must divide H and W, else a UserError.
    """
    heatmap = one_map(heatmap)
    height, width = heatmap.shape
    rows, columns = grid
    if height % rows or width % columns:
        raise UserError(
            f"A {height}x{width} map has no {rows}x{columns} grid of whole cells: resize the map "
            "to the mosaic first."
        )
    row = jnp.arange(height)[:, None] // (height // rows)
    column = jnp.arange(width)[None, :] // (width // columns)
    return energy_pointing_game(heatmap, row * columns + column == cell_index)


def mosaic(images: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """[rows * columns, H, W, C] images of different classes -> [rows * H, columns * W, C]."""
    rows, columns = grid
    if len(images) != rows * columns:
        raise UserError(
            f"A {rows}x{columns} mosaic takes {rows * columns} images, not {len(images)}."
        )
    _, height, width, channels = images.shape
    tiles = images.reshape(rows, columns, height, width, channels)
    return tiles.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def _scaled_positive_part(heatmap: jax.Array) -> jax.Array:
    """max(M, 0) scaled to a maximum of 1; ones where nothing is positive."""
    heatmap = one_map(heatmap)
    heatmap = heatmap * headroom(heatmap)
    positive = jnp.where(heatmap < 0, 0.0, heatmap)  # keeps NaN, see `finite.where_finite`
    top = positive.max()
    return jnp.where(top == 0, 1.0, positive / jnp.where(top == 0, 1.0, top))


# Functions of one map and one mask, by name.
METRICS = {
    "energy_pointing_game": energy_pointing_game,
    "pointing_game": pointing_game,
    "iou": iou,
}
# Likewise, of the order of the pixels alone.
RANKINGS = {"auc": auc, "top_k_intersection": top_k_intersection}
