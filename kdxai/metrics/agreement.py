"""Do two maps of one image, of two models or two methods, say the same?

Both must lie on one grid: a map of 4x4 cells and one of 8x8 are resized to the image first.
"""

import jax
import jax.numpy as jnp

from kdxai.metrics.arrays import ascending, two_maps
from kdxai.metrics.coherency import WINDOW, pearson, spearman, ssim
from kdxai.metrics.finite import where_finite


def top_k_iou(a: jax.Array, b: jax.Array, fraction: float = 0.1) -> jax.Array:
    """Intersection over union of the top `fraction` of the pixels of two maps, in [0, 1].

    Pixels that tie with the last of the top count as well, unless they are the map's minimum: the
    zeros that ReLU leaves are no agreement. A constant map has no top and scores 0.
    """
    a, b = two_maps(a, b)
    top_a, top_b = top(a, fraction), top(b, fraction)
    union = (top_a | top_b).sum()
    overlap = (top_a & top_b).sum().astype(jnp.float32) / jnp.maximum(union, 1)
    return where_finite(overlap, a, b)


def agreement(a: jax.Array, b: jax.Array) -> dict[str, jax.Array]:
    """All of `METRICS` between two maps [H, W] in [0, 1]; of small ones without SSIM.

    Raises:
      UserError: their shapes differ.
    """
    fits = min(a.shape) >= WINDOW["gaussian"]
    return {name: metric(a, b) for name, metric in METRICS.items() if fits or name != "ssim"}


def top(heatmap: jax.Array, fraction: float) -> jax.Array:
    k = max(1, round(fraction * heatmap.size))
    cut = ascending(heatmap)[-k]
    return (heatmap >= cut) & (heatmap > heatmap.min())


# Functions of two maps of one shape, by name. SSIM takes them to lie in [0, 1].
METRICS = {"pearson": pearson, "spearman": spearman, "ssim": ssim, "top_k_iou": top_k_iou}
