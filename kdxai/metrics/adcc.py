"""Average DCC: drop, coherency and complexity in one number."""

import jax
import jax.numpy as jnp


def adcc(coherency: jax.Array, complexity: jax.Array, average_drop: jax.Array) -> jax.Array:
    """3 / (1/Coh + 1/(1 - Com) + 1/(1 - AD)), the harmonic mean: Poppi et al. 2021.

    In [0, 1] for arguments in [0, 1], and 0 as soon as one of the three is at its worst. Arguments
    outside [0, 1] (an unscaled complexity) are taken as they are, and the result then means
    nothing: it can exceed 1.
    """
    a, b, c = (jnp.asarray(x, jnp.float32) for x in (coherency, complexity, average_drop))
    b, c = 1 - b, 1 - c
    # Multiplied out, only the case of two zeros is left to guard.
    pairs = a * b + b * c + c * a
    return jnp.where(pairs != 0, 3 * a * b * c / jnp.where(pairs != 0, pairs, 1.0), 0.0)
