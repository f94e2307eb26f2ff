"""Does the map say how much the score falls without some pixels?

Pixels are removed in many ways, and what the map says of each is set against what the score does:

    found = removals(score, heatmap, fill, random_subsets(key, heatmap.shape, size=50, count=100))
    correlation(found)

The published metrics differ in what is removed, and share the rest. Where every set has the same
number of pixels, a correlation is the same for a M + b with a > 0: a map scaled to [0, 1] serves as
well as the signed map it was made of. `infidelity` needs the signed map.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdxai.errors import UserError
from kdxai.metrics.arrays import one_map
from kdxai.metrics.coherency import pearson, spearman
from kdxai.metrics.finite import where_finite
from kdxai.metrics.perturbation import Fill, Score, every_score


class Removals(NamedTuple):
    """What sets of pixels are said to be worth, and what they are worth.

    Attributes:
      relevance: [P] sum of the map over each set.
      drops: [P] score of the image less its score without the set.
    """

    relevance: jax.Array
    drops: jax.Array


def removals(
    score: Score,
    heatmap: jax.Array,
    fill: Fill,
    sets: jax.Array | np.ndarray,
    *,
    chunk: int = 16,
) -> Removals:
    """Remove each set of pixels from the image: P + 1 forward passes.

    Args:
      score: [H, W, C] -> scalar.
      heatmap: [H, W] on the image's grid.
      fill: [H, W] bool, true where a pixel is removed -> [H, W, C] image; as for
        `perturbation.curves`.
      sets: [P, H, W] bool.
      chunk: images in flight.
    """
    heatmap = one_map(heatmap)
    sets = jnp.asarray(sets, bool)
    scores = every_score(score, fill, jnp.pad(sets, ((1, 0), (0, 0), (0, 0))), chunk)
    # The minimum apart: a constant map's sums are then equal, not equal but for rounding.
    least = heatmap.min()
    above = jnp.where(sets, heatmap - least, 0.0).sum((1, 2))
    relevance = least * sets.sum((1, 2)) + above
    return Removals(where_finite(relevance, heatmap), scores[0] - scores[1:])


def random_subsets(key: jax.Array, shape: tuple[int, ...], size: int, count: int) -> jax.Array:
    """[count, H, W] bool: subsets of `size` pixels each, sampled at random.

    Raises:
      UserError: an image has no such subset but none or all.
    """
    height, width = shape
    if not 0 < size < height * width:
        raise UserError(
            f"A subset of a {height}x{width} image has 1 to {height * width - 1} pixels, not {size}"
        )
    bits = jax.random.bits(key, (count, height * width))
    edge = jnp.sort(bits, axis=1)[:, size : size + 1]
    return (bits < edge).reshape(count, height, width)


def correlation(removals: Removals) -> jax.Array:
    """Pearson's r between the relevance of the sets and the drops of the score, in [-1, 1].

    Higher is better; 0 for a constant map, and for a score that nothing changes. With
    `random_subsets` of one size it is the faithfulness correlation of Bhatt et al. 2020;
    with sets that part the image, each removed alone, the faithfulness estimate of Alvarez-Melis
    and Jaakkola 2018.
    """
    return pearson(removals.relevance[None], removals.drops[None])


def sensitivity_n(removals: Removals) -> jax.Array:
    """Mean over sizes n of `correlation` over random subsets of n pixels: Ancona et al. 2018.

    Higher is better, 1 where the map has sensitivity-n for every n; 0 for a constant map. Quantus
    0.6.0 computes another number under this name: it removes one sequence of growing sets by rank
    and correlates over the images of a batch, so that an image's score depends on its neighbours.

    Args:
      removals: of arrays [N, K], K subsets of each of N sizes.
    """
    return jax.vmap(correlation)(removals).mean()


def monotonicity_correlation(removals: Removals) -> jax.Array:
    """Spearman's rho of |relevance| and drop^2 over sets removed alone: Nguyen and Martinez 2020.

    Higher is better; 0 for a constant map. Their expectation over what could stand in the place of
    the pixels is here the one image that `fill` makes; and their factor 1 / f(x)^2 is left out, as
    ranks do not see it.
    """
    return spearman(jnp.abs(removals.relevance)[None], (removals.drops**2)[None])


def infidelity(removals: Removals, *, scaled: bool = False) -> jax.Array:
    """Mean of (I . Phi - (f(x) - f(x - I)))^2 over the removals I: Yeh et al. 2019, Eq. 1.

    Lower is better, 0 for a map whose sums are the drops. I . Phi is the relevance of a set, so the
    map holds contributions to the score; of a gradient pass its product with what is taken away, x
    less the fill. A zero map scores the mean squared drop, and any constant map what its constant
    says.

    Args:
      scaled: multiply the map by the number that makes the result least, as Yeh et al. do to
        compare maps that have no unit. It may be negative; 0 for a zero map.
    """
    relevance, drops = removals
    if scaled:
        # In units of the largest: the squares of small or large values are no float32.
        top = jnp.abs(relevance).max()
        relevance = relevance / jnp.where(top == 0, 1.0, top)
        square = (relevance**2).sum()
        relevance = relevance * ((relevance * drops).sum() / jnp.where(square == 0, 1.0, square))
    return ((relevance - drops) ** 2).mean()
