"""Agreement of many maps of one image, all with all: what `agreement` says of each pair, faster.

What belongs to a map (its ranks, its norm, its moments) is computed once, not once a pair.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kdxai.metrics.agreement import METRICS, top
from kdxai.metrics.coherency import WINDOW, average_ranks, centred


def agreements(maps: jax.Array) -> dict[str, jax.Array]:
    """`agreement.agreement` of every two of M finite maps of one image.

    Args:
      maps: [M, H, W] in [0, 1].

    Returns:
      Metric -> [P] of all pairs, in the order of `np.triu_indices(M, 1)`; of maps smaller than its
      window without SSIM.
    """
    first, second = np.triu_indices(len(maps), 1)
    alike = {"pearson": correlations(maps), "spearman": correlations(jax.vmap(average_ranks)(maps))}
    found = {name: values[first, second] for name, values in alike.items()}
    if min(maps.shape[1:]) >= WINDOW["gaussian"]:
        found["ssim"] = similarities(maps)
    found["top_k_iou"] = overlaps(maps)[first, second]
    return {name: found[name] for name in METRICS if name in found}


def products(rows: jax.Array) -> jax.Array:
    """[M, n] -> [M, M] inner products, in full float32 on any device."""
    return jnp.matmul(rows, rows.T, precision=jax.lax.Precision.HIGHEST)


def correlations(maps: jax.Array) -> jax.Array:
    """[M, H, W] -> [M, M], `coherency.pearson` of every two."""
    rows = jax.vmap(centred)(maps).reshape(len(maps), -1)
    norms = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return jnp.clip(products(rows / jnp.where(norms == 0, 1.0, norms)), -1.0, 1.0)


def overlaps(maps: jax.Array) -> jax.Array:
    """[M, H, W] -> [M, M], `agreement.top_k_iou` of every two."""
    chosen = jax.vmap(lambda one: top(one, 0.1))(maps).reshape(len(maps), -1)
    both = products(chosen.astype(jnp.float32))
    sizes = jnp.diagonal(both)
    return both / jnp.maximum(sizes[:, None] + sizes - both, 1)


def similarities(maps: jax.Array) -> jax.Array:
    """[M, H, W] -> [P], `coherency.ssim` of every two: Wang et al. 2004, equation 13.

    Each map is compared with the one that stands d places on in a circle, for d up to M / 2. So
    every product has one shape, M maps, which fits the cache of a CPU.
    """
    count = len(maps)
    down, across = (windows(size) for size in maps.shape[1:])

    def blur(values: jax.Array) -> jax.Array:
        values = jnp.einsum("nhw,xw->nhx", values, across, precision=jax.lax.Precision.HIGHEST)
        return jnp.einsum("nhx,yh->nyx", values, down, precision=jax.lax.Precision.HIGHEST)

    mean = blur(maps)
    variance = jnp.maximum(blur(maps * maps) - mean * mean, jnp.finfo(jnp.float32).eps ** 2)
    deviation = jnp.sqrt(variance)
    c1, c2 = 0.01**2, 0.03**2

    def at(distance: jax.Array) -> jax.Array:
        b, mean_b, variance_b, deviation_b = (
            jnp.roll(one, -distance, 0) for one in (maps, mean, variance, deviation)
        )
        means, most = mean * mean_b, deviation * deviation_b
        covariance = jnp.clip(blur(maps * b) - means, -most, most)
        above = (2 * means + c1) * (2 * covariance + c2)
        below = (mean**2 + mean_b**2 + c1) * (variance + variance_b + c2)
        return (above / below).mean((1, 2))

    found = jax.lax.map(at, jnp.arange(1, count // 2 + 1))
    first, second = np.triu_indices(count, 1)
    distance = second - first
    near = distance <= count // 2
    return found[np.where(near, distance, count - distance) - 1, np.where(near, first, second)]


def windows(size: int) -> np.ndarray:
    """[size - 10, size], the Gaussian weights of every window that lies inside."""
    width = WINDOW["gaussian"]
    weights = np.exp(-0.5 * ((np.arange(width) - width // 2) / 1.5) ** 2)
    found = np.zeros((size - width + 1, size), np.float32)
    for start, row in enumerate(found):
        row[start : start + width] = weights / weights.sum()
    return found
