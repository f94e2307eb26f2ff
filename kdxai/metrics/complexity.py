"""How much of the image a map uses. All read |M|, so a sign carries no information here."""

import jax
import jax.numpy as jnp
from jax.scipy.special import entr

from kdxai.metrics.arrays import one_map
from kdxai.metrics.finite import where_finite
from kdxai.scaling import headroom


def l1(heatmap: jax.Array) -> jax.Array:
    """mean |M| = sum |M| / (H W): the complexity of Poppi et al. 2021, in [0, 1] for M in [0, 1].

    0 for a zero map, 1 for a map of ones.
    """
    magnitude = jnp.abs(one_map(heatmap))
    scale = headroom(magnitude)
    return (magnitude * scale).mean() / scale


def matrix_1_norm(heatmap: jax.Array) -> jax.Array:
    """max over columns of sum |M|: the operator norm that `norm(M, 1)` gives for a matrix.

    For M in [0, 1] it lies in [0, H]: it grows with the height of the grid, so maps of different
    grids cannot be compared by it. Kept because published code took it for `l1`.
    """
    columns = jnp.abs(one_map(heatmap)).sum(axis=0)
    return where_finite(columns.max(), columns)


def entropy(heatmap: jax.Array) -> jax.Array:
    """-sum p ln p of p = |M| / sum |M|, in nats: 0 for one pixel, ln(H W) for a constant map.

    Bhatt et al. 2020 (complexity). A zero map counts as constant.
    """
    return entr(_distribution(heatmap)).sum()


def gini(heatmap: jax.Array) -> jax.Array:
    """Gini index of |M|: 0 for a constant map, 1 - 1/(H W) for a single pixel.

    1 - 2 sum_k (c_(k) / sum c) (N - k + 1/2) / N with c = |M| ascending: Hurley and Rickard 2009;
    Chalasani et al. 2020 call it sparseness. A zero map counts as constant.
    """
    p = jnp.sort(_distribution(heatmap), axis=None)
    n = p.size
    # The same sum with the 1 taken inside, where it cancels exactly for a constant map.
    weights = (2.0 * jnp.arange(1, n + 1) - n - 1) / n
    return (weights * p).sum()


def effective_area(heatmap: jax.Array, fraction: float = 0.9) -> jax.Array:
    """The smallest share of the pixels that holds `fraction` of sum |M|, in (0, 1].

    1/(H W) for a single pixel, `fraction` (rounded up to whole pixels) for a constant map, and so
    for a zero map.
    """
    p = jnp.sort(_distribution(heatmap), axis=None, descending=True)
    # The tolerance is float32's: without it 0.9 of 100 equal pixels takes 90 or 91 by rounding.
    missing = jnp.cumsum(p) < fraction - 1e-6
    share = jnp.minimum(missing.sum() + 1, p.size).astype(jnp.float32) / p.size
    return where_finite(share, p)


def _distribution(heatmap: jax.Array) -> jax.Array:
    """|M| / sum |M|, uniform for a zero map. Scaled by the maximum first: no under- or overflow."""
    magnitude = jnp.abs(one_map(heatmap))
    magnitude = magnitude * headroom(magnitude)
    top = magnitude.max()
    magnitude = jnp.where(top == 0, 1.0, magnitude / jnp.where(top == 0, 1.0, top))
    return magnitude / magnitude.sum()


# Functions of one map, by name.
METRICS = {
    "l1": l1,
    "matrix_1_norm": matrix_1_norm,
    "entropy": entropy,
    "gini": gini,
    "effective_area": effective_area,
}
