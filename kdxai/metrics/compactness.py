"""Are the most relevant pixels one patch, or scattered over the image?

After the minimum spanning tree compactness (MST-C) of Mesgari et al. 2026, "Structural Compactness
as a Complementary Criterion for Explanation Quality", which is high for salient points in a small
area and in few clusters. The equations here are not theirs: `cohesion` and `concentration` are
defined below, and `compactness` is their harmonic mean.

All are of the top `fraction` of the pixels by |M|, exactly that many, ties by `perturbation.ranks`:
the top of a constant map is scattered at random. Higher is more compact.
"""

import jax
import jax.numpy as jnp

from kdxai.metrics.arrays import one_map
from kdxai.metrics.finite import where_finite
from kdxai.metrics.perturbation import ranks


def cohesion(heatmap: jax.Array, fraction: float = 0.1) -> jax.Array:
    """(k - 1) / L, L the length of the minimum spanning tree of the k most relevant pixels.

    In (0, 1]: 1 where they hang together by their sides, however thin; an edge is as long as the
    gap that it bridges. 1 for a single pixel.
    """
    points = _top(heatmap, fraction)
    if len(points) == 1:
        return where_finite(jnp.float32(1), one_map(heatmap))
    return where_finite((len(points) - 1) / tree_length(points), one_map(heatmap))


def concentration(heatmap: jax.Array, fraction: float = 0.1) -> jax.Array:
    """A^2 / (2 pi I) of the k most relevant pixels as unit squares: area and moment of inertia.

    The shape index of Li, Goodchild and Church 2013, in (0, 1]: 1 for a disc, 3 / pi for a square;
    the spread of clusters counts however they hang together.
    """
    points = _top(heatmap, fraction)
    count = len(points)
    # Of a unit square about its own centre I is 1/6.
    inertia = ((points - points.mean(0)) ** 2).sum() + count / 6
    return where_finite(count**2 / (2 * jnp.pi * inertia), one_map(heatmap))


def compactness(heatmap: jax.Array, fraction: float = 0.1) -> jax.Array:
    """The harmonic mean of `cohesion` and `concentration`, in (0, 1]."""
    a, b = cohesion(heatmap, fraction), concentration(heatmap, fraction)
    return 2 * a * b / (a + b)


def tree_length(points: jax.Array) -> jax.Array:
    """[k, 2] points -> [] length of their minimum spanning tree, by Prim's algorithm."""

    def grow(_: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        distance, length = state  # of each point from the tree; those in it are infinitely far
        nearest = distance.argmin()
        further = jnp.linalg.norm(points - points[nearest], axis=1)
        inside = jnp.isinf(distance) | (jnp.arange(len(points)) == nearest)
        length += distance[nearest]
        return jnp.where(inside, jnp.inf, jnp.minimum(distance, further)), length

    first = jnp.linalg.norm(points - points[0], axis=1).at[0].set(jnp.inf)
    return jax.lax.fori_loop(1, len(points), grow, (first, jnp.float32(0)))[1]


def _top(heatmap: jax.Array, fraction: float) -> jax.Array:
    """[k, 2] float32 places of the most relevant pixels."""
    magnitude = jnp.abs(one_map(heatmap))
    k = max(1, round(fraction * magnitude.size))
    places = jnp.nonzero(ranks(magnitude) < k, size=k)
    return jnp.stack(places, axis=1).astype(jnp.float32)


# Functions of one map, by name.
METRICS = {"cohesion": cohesion, "concentration": concentration, "compactness": compactness}
