"""Pixels taken away by whole regions: how the score falls, most relevant region first.

    regions = squares(heatmap.shape, side=4)
    selectivity(curve(score, heatmap, fill, regions))

One pixel changes no score; a region does. The regions are squares of a grid: superpixels that need
no segmentation, and are the same for every image.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kdxai.errors import UserError
from kdxai.metrics.arrays import one_map
from kdxai.metrics.finite import where_finite
from kdxai.metrics.perturbation import Fill, Score, every_score, ranks


def squares(shape: tuple[int, ...], side: int) -> np.ndarray:
    """[H, W] int32, the number of each pixel's square of `side` pixels, from 0, along the rows.

    Where the side does not divide the image, the last squares are cut.

    Raises:
      UserError: there is but one square, or none.
    """
    height, width = shape
    if side < 1:
        raise UserError(f"A square has 1 pixel or more to a side, not {side}")
    row, column = np.arange(height) // side, np.arange(width) // side
    numbers = row[:, None] * (column[-1] + 1) + column
    if numbers[-1, -1] == 0:
        raise UserError(
            f"Squares of {side} pixels cut a {height}x{width} image into one region; take smaller "
            "ones, so that there is something to rank"
        )
    return numbers.astype(np.int32)


def each_alone(regions: np.ndarray) -> np.ndarray:
    """[H, W] numbers of regions -> [R, H, W] bool: every region as a set of its own."""
    return regions == np.arange(regions.max() + 1)[:, None, None]


def curve(
    score: Score, heatmap: jax.Array, fill: Fill, regions: np.ndarray, *, chunk: int = 16
) -> jax.Array:
    """[R + 1] scores without the k most relevant of R regions, from the whole image to none of it.

    A region is as relevant as the mean of its pixels; ties are broken as by `perturbation.ranks`.

    Args:
      score: [H, W, C] -> scalar.
      heatmap: [H, W] on the image's grid.
      fill: as for `perturbation.curves`.
      regions: [H, W] numbers from 0 to R - 1.
      chunk: images in flight.
    """
    heatmap = one_map(heatmap)
    sets = each_alone(regions)
    # The minimum apart, as in `correlation.removals`: all regions of a constant map are equal.
    above = jnp.where(sets, heatmap - heatmap.min(), 0.0).sum((1, 2)) / sets.sum((1, 2))
    place = ranks(above[None])[0][regions]
    counts = jnp.arange(len(sets) + 1)[:, None, None]
    scores = every_score(score, fill, place < counts, chunk)
    return where_finite(scores, heatmap)


def selectivity(curve: jax.Array) -> jax.Array:
    """Area under the curve (trapezoids, over a width of 1): lower is better. Montavon et al. 2018.

    A constant map's regions go in a fixed random order.
    """
    return jnp.trapezoid(curve) / (len(curve) - 1)


def irof(curve: jax.Array) -> jax.Array:
    """Area over the curve as a share of its start, 1 - area / f(x): Rieger and Hansen 2020.

    Higher is better, at most 1, signed: negative where the score rises. 0 where f(x) is 0. Quantus
    0.6.0 leaves the whole image out of the area and does not divide by the number of regions, so
    that its scale is that number.
    """
    start = curve[0]
    shares = curve / jnp.where(start == 0, 1.0, start)
    return jnp.where(start == 0, 0.0, 1 - selectivity(shares))


def monotonicity(curve: jax.Array) -> jax.Array:
    """Share of the steps at which the score does not fall while relevance comes back, in [0, 1].

    Higher is better. Arya et al. 2019 add the features to a baseline from the least relevant to the
    most, which is the curve read from its end, and ask whether the score never falls: whether this
    share is 1. It hardly ever is for an image, hence the share. 1 for a score that nothing changes.
    Quantus 0.6.0 says True of every map: it adds the baseline's own values to the baseline.
    """
    rises = (curve[:-1] >= curve[1:]).mean()
    return where_finite(rises, curve)
