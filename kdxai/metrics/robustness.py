"""Does the map stay when the image hardly changes?"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kdxai.metrics.arrays import one_image
from kdxai.metrics.finite import where_finite
from kdxai.scaling import headroom


class Sensitivity(NamedTuple):
    """Relative change of a map under noise, both scalars; 0 is a map that does not move."""

    maximum: jax.Array
    average: jax.Array


def sensitivity(
    explain: Callable[[jax.Array], jax.Array],
    image: jax.Array,
    key: jax.Array,
    *,
    radius: float = 0.02,
    samples: int = 10,
) -> Sensitivity:
    """|E(x + e) - E(x)|_2 / |E(x)|_2 over uniform noise e in [-radius, radius] per value.

    Its maximum is max-sensitivity (Yeh et al. 2019), here by sampling, so a lower bound; its mean
    is the average sensitivity of Bhatt et al. 2020. Where E(x) is zero, the absolute change.

    Args:
      explain: [H, W, C] -> map, for one fixed class.
      image: [H, W, C]; `radius` is in its units.
      samples: all in flight at once (gradients of convolutions are slow in loops on a CPU), so
        the memory is `samples` times that of one explanation.
    """
    image = one_image(image)
    noise = jax.random.uniform(key, (samples, *image.shape), minval=-radius, maxval=radius)
    heatmap = jnp.asarray(explain(image), jnp.float32)
    # In units of the map's maximum: the squares of huge and of tiny values are no float32.
    room = headroom(heatmap)
    top = jnp.abs(heatmap * room).max()
    scaled = lambda m: jnp.asarray(m, jnp.float32) * room / jnp.where(top == 0, 1.0, top)  # noqa: E731
    change = scaled(jax.vmap(explain)(image + noise)) - scaled(heatmap)
    size = jnp.linalg.norm(scaled(heatmap))
    ratios = jnp.linalg.norm(change.reshape(samples, -1), axis=1) / jnp.where(size == 0, 1.0, size)
    return Sensitivity(where_finite(ratios.max(), ratios), ratios.mean())
