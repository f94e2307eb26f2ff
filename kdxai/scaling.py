"""Values of any size, brought to where float32 can compute with them."""

import jax
import jax.numpy as jnp


def headroom(values: jax.Array) -> jax.Array:
    """A power of two: `values` times it can be subtracted, summed and divided by without overflow.

    1 but for huge values, so that nothing else changes; even 1 / 1e38 is subnormal, which XLA
    takes for 0.
    """
    return jnp.where(jnp.abs(values).max() > 2.0**100, 2.0**-60, 1.0)


def unit_range(values: jax.Array) -> jax.Array:
    """Scaled to [0, 1] by minimum and maximum; exact zeros for a constant."""
    values = values * headroom(values)
    low = values.min()
    span = values.max() - low
    return (values - low) / jnp.where(span == 0, 1.0, span)
