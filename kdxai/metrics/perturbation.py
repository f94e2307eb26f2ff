"""Faithfulness by taking pixels away: how the score of a class falls, or comes back.

All of it is read off two curves, which cost the forward passes once:

    fill = replace(image, baselines.blur(image))
    deletion(curves(score, heatmap, fill))

`score` maps one image [H, W, C] to the scalar score of one fixed class. Probabilities give the
published numbers; with logits every metric here stays finite, but is in units of the logit.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdxai.metrics.arrays import one_image, one_map
from kdxai.metrics.finite import where_finite

Score = Callable[[jax.Array], jax.Array]
Fill = Callable[[jax.Array], jax.Array]


class Curves(NamedTuple):
    """Scores while pixels go and come in the order of their relevance.

    Attributes:
      fractions: [steps + 1] share of the pixels, from 0 to 1.
      deletion: [steps + 1] score without the most relevant share; starts at the full image.
      insertion: [steps + 1] score of the most relevant share alone; ends at the full image.
    """

    fractions: jax.Array
    deletion: jax.Array
    insertion: jax.Array


def replace(image: jax.Array, baseline: jax.Array) -> Fill:
    """Removed pixels take the baseline's value; image and baseline [H, W, C]."""
    image, baseline = one_image(image), one_image(baseline)
    return lambda removed: jnp.where(removed[..., None], baseline, image)


def ranks(heatmap: jax.Array) -> jax.Array:
    """[H, W] map -> [H, W] int32: 0 for the most relevant pixel, H W - 1 for the least.

    Ties are broken by one fixed random permutation per image size, never by position: a constant
    map is ranked at random, and the zeros that ReLU leaves do not go from top to bottom.
    """
    heatmap = one_map(heatmap)
    # RandomState's stream is frozen for good, and a constant costs no sort on the device.
    shuffle = jnp.asarray(np.random.RandomState(0).permutation(heatmap.size), jnp.int32)
    order = shuffle[jnp.argsort(-heatmap.ravel()[shuffle], stable=True)]
    places = jnp.arange(heatmap.size, dtype=jnp.int32)
    return jnp.zeros_like(places).at[order].set(places).reshape(heatmap.shape)


def curves(
    score: Score, heatmap: jax.Array, fill: Fill, *, steps: int = 20, chunk: int | None = None
) -> Curves:
    """Deletion and insertion curve of one image, from 2 * steps forward passes.

    Args:
      score: [H, W, C] -> scalar.
      heatmap: [H, W] relevance on the image's grid.
      fill: [H, W] bool, true where a pixel is removed -> [H, W, C] image; all false must give the
        full image. `replace` or `road.fill`.
      steps: each moves H W / steps pixels (rounded to whole ones).
      chunk: images in flight, which bounds the memory: `chunk` times what one forward pass takes,
        and that times the batch if the caller vmaps. Defaults to `steps`; divisors of 2 * steps
        compile the model once, others twice.
    """
    counts = _counts(heatmap, steps)
    # Each curve ends where the other starts: full and empty image are scored once.
    points = jnp.tile(counts[:-1], 2), jnp.arange(2 * steps) < steps
    scores = _scores(score, heatmap, fill, *points, chunk or steps)
    gone, come = scores[:steps], scores[steps:]
    return Curves(
        jnp.asarray(counts / heatmap.size, jnp.float32),
        jnp.append(gone, come[0]),
        jnp.append(come, gone[0]),
    )


def deletion_curve(
    score: Score, heatmap: jax.Array, fill: Fill, *, steps: int = 20, chunk: int | None = None
) -> jax.Array:
    """`curves(...).deletion` alone, [steps + 1], from steps + 1 forward passes.

    Args:
      chunk: as in `curves`; defaults to all at once.
    """
    counts = _counts(heatmap, steps)
    return _scores(score, heatmap, fill, counts, np.ones(steps + 1, bool), chunk or steps + 1)


def _counts(heatmap: jax.Array, steps: int) -> np.ndarray:
    """[steps + 1] int32: how many pixels have moved at each point of a curve."""
    return np.rint(np.arange(steps + 1) * heatmap.size / steps).astype(np.int32)


def _scores(
    score: Score,
    heatmap: jax.Array,
    fill: Fill,
    counts: jax.Array | np.ndarray,
    deleting: jax.Array | np.ndarray,
    chunk: int,
) -> jax.Array:
    """[P] scores without the `counts` most relevant pixels, or of them alone."""
    place = ranks(heatmap)

    def point(step: tuple[jax.Array, jax.Array]) -> jax.Array:
        count, deleting = step
        return score(fill((place < count) == deleting)).astype(jnp.float32)

    scores = jax.lax.map(point, (counts, deleting), batch_size=min(chunk, len(counts)))
    return where_finite(scores, heatmap)  # a rank is finite even where the relevance is not


def every_score(score: Score, fill: Fill, sets: jax.Array | np.ndarray, chunk: int) -> jax.Array:
    """[P, H, W] sets of removed pixels -> [P] scores, in equal parts of at most `chunk` images.

    The last part is filled up. So one program gives all scores, and images that are equal get equal
    ones: another program rounds otherwise, and what changes nothing would seem to change a little.
    """
    parts = -(-len(sets) // chunk)
    size = -(-len(sets) // parts)
    filled = np.arange(parts * size) % len(sets)
    score_of = lambda removed: score(fill(removed)).astype(jnp.float32)  # noqa: E731
    return jax.lax.map(score_of, jnp.asarray(sets, bool)[filled], batch_size=size)[: len(sets)]


def deletion(curves: Curves) -> jax.Array:
    """Area under the deletion curve (trapezoids): lower is better. Petsiuk et al. 2018 (RISE)."""
    return jnp.trapezoid(curves.deletion, curves.fractions)


def insertion(curves: Curves) -> jax.Array:
    """Area under the insertion curve (trapezoids): higher is better. Petsiuk et al. 2018 (RISE)."""
    return jnp.trapezoid(curves.insertion, curves.fractions)


def symmetric_relevance_gain(curves: Curves) -> jax.Array:
    """Insertion minus deletion: 0 in expectation for a random map, higher is better.

    Bluecher et al. 2024. What the fill does to every image of the curve cancels in part, so the
    ranking of maps depends less on the baseline than either area alone. With `road.fill` it is
    least minus most relevant first, the combined score of ROAD (Rong et al. 2022).
    """
    return insertion(curves) - deletion(curves)


def pixel_flipping(curves: Curves) -> jax.Array:
    """AOPC = mean over k = 0..L of f(x) - f(x_k), the most relevant pixels gone first.

    Bach et al. 2015; Samek et al. 2017. Higher is better; signed.
    """
    return curves.deletion[0] - curves.deletion.mean()


def comprehensiveness(
    curves: Curves, fractions: Sequence[float] = (0.05, 0.1, 0.2, 0.5)
) -> jax.Array:
    """Mean over `fractions` of f(x) - f(x without its top share): higher is better, signed.

    DeYoung et al. 2020 (ERASER). Fractions between the points of the curve are interpolated.
    """
    without = jnp.interp(jnp.asarray(fractions), curves.fractions, curves.deletion)
    return (curves.deletion[0] - without).mean()


def sufficiency(curves: Curves, fractions: Sequence[float] = (0.05, 0.1, 0.2, 0.5)) -> jax.Array:
    """Mean over `fractions` of f(x) - f(top share of x alone): lower is better, signed.

    DeYoung et al. 2020 (ERASER). Fractions between the points of the curve are interpolated.
    """
    alone = jnp.interp(jnp.asarray(fractions), curves.fractions, curves.insertion)
    return (curves.insertion[-1] - alone).mean()


# Functions of one image's curves, by name.
METRICS = {
    "deletion": deletion,
    "insertion": insertion,
    "symmetric_relevance_gain": symmetric_relevance_gain,
    "pixel_flipping": pixel_flipping,
    "comprehensiveness": comprehensiveness,
    "sufficiency": sufficiency,
}
