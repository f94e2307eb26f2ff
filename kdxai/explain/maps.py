"""What is done to a map once a method has drawn it: scale, size, and what is broken stays so."""

from typing import Any

import jax
import jax.numpy as jnp

from kdxai.scaling import unit_range


def min_max(values: jax.Array) -> jax.Array:
    """Scale to [0, 1]: (v - min) / (max - min), any shape.

    A constant input carries no ranking, so it becomes all zeros rather than 0/0; one NaN makes
    every value NaN. float32 for every dtype: integers would wrap, float16 overflow.
    """
    values = jnp.asarray(values, jnp.float32)
    return spread_nan(values, unit_range(values))


def resize(values: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """[h, w] -> `shape` (H, W), bilinear with half-pixel centres and clamped edges.

    The convention of `torch.nn.functional.interpolate(align_corners=False)`: no antialiasing when
    a map shrinks. float32 for every dtype.
    """
    return jax.image.resize(jnp.asarray(values, jnp.float32), shape, "bilinear", antialias=False)


def spread_nan(source: Any, values: Any) -> Any:
    """`values`, all NaN if `source` has one; either is an array or a pytree of them.

    For what comes after a maximum: XLA on a CPU may lose a NaN in max(NaN, 0) or in a maximum or
    minimum over an axis (seen up to JAX 0.11.2 in batches of 8), and the derivative of a ReLU at
    NaN is 0. What is left would pass for an honest map.
    """
    broken = jnp.array([jnp.isnan(leaf).any() for leaf in jax.tree.leaves(source)]).any()
    return jax.tree.map(lambda leaf: jnp.where(broken, jnp.nan, leaf), values)
