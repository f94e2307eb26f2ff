"""What some maps promise by their construction, as the distance from the promise."""

import jax
import jax.numpy as jnp

from kdxai.metrics.arrays import one_map, two_maps
from kdxai.metrics.finite import where_finite
from kdxai.scaling import headroom


def completeness_gap(attribution: jax.Array, difference: jax.Array) -> jax.Array:
    """|s - d| / (|s| + |d|) of the attributions' sum s and what they should sum to, in [0, 1].

    d = f(x) - f(baseline): Sundararajan et al. 2017 (completeness), Shrikumar et al. 2017
    (summation to delta). 0 is complete, 1/3 off by a factor of two, 1 of the wrong sign or nothing
    of what is asked for; a zero map scores 1, or 0 where d is 0 as well. A share, because d may be
    near 0; Quantus 0.6.0 asks whether s and d are equal as floating-point numbers.

    Args:
      attribution: [h, w] signed, on the method's own grid: resizing changes a sum.
      difference: [] of the score that the method attributes.
    """
    attribution = one_map(attribution)
    total = attribution.sum()
    size = jnp.abs(total) + jnp.abs(difference)
    gap = jnp.abs(total - difference) / jnp.where(size == 0, 1.0, size)
    return where_finite(gap, attribution, difference)


def input_shift(heatmap: jax.Array, shifted: jax.Array) -> jax.Array:
    """|E' - E|_2 / |E|_2: how the map changes when image and model are shifted alike.

    Kindermans et al. 2019 (input invariance): the model f'(x + m) = f(x) gives every image its old
    answer, so its map E' of x + m should be the old map E of x. 0 is invariant. Where E is zero,
    the absolute change. Quantus 0.6.0 asks whether all values agree within 1e-4.
    """
    heatmap, shifted = two_maps(heatmap, shifted)
    room = headroom(jnp.stack([heatmap, shifted]))
    size = _norm(heatmap * room)
    change = _norm(shifted * room - heatmap * room)
    return where_finite(change / jnp.where(size == 0, 1.0, size), heatmap, shifted)


def _norm(values: jax.Array) -> jax.Array:
    """The L2 norm, in units of the largest: squares of small or large values are no float32."""
    top = jnp.abs(values).max()
    nothing = top < jnp.finfo(jnp.float32).tiny
    unit = jnp.where(nothing, 1.0, top)
    return jnp.where(nothing, 0.0, unit * jnp.linalg.norm(values / unit))
