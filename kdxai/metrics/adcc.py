"""Several sides of a map in one number: harmonic means, which the worst side pulls down."""

import jax
import jax.numpy as jnp


def adcc(coherency: jax.Array, complexity: jax.Array, average_drop: jax.Array) -> jax.Array:
    """3 / (1/Coh + 1/(1 - Com) + 1/(1 - AD)), the harmonic mean: Poppi et al. 2021.

    In [0, 1] for arguments in [0, 1], and 0 as soon as one of the three is at its worst. Arguments
    outside [0, 1] (an unscaled complexity) are taken as they are, and the result then means
    nothing: it can exceed 1.
    """
    a, b, c = (jnp.asarray(x, jnp.float32) for x in (coherency, complexity, average_drop))
    return _harmonic_mean(a, 1 - b, 1 - c)


def arcc(coherency: jax.Array, complexity: jax.Array, road: jax.Array) -> jax.Array:
    """3 / (1/Coh + 1/(1 - Com) + 1/ROAD), ROAD cut to [0, 1]: Domeniconi et al. 2026.

    "How to Evaluate and Refine your CAM"; the definition is that of the authors' code in the
    library grad-cam, which adds 1e-8 to each denominator and calls the mean geometric. Higher is
    better. In [0, 1] for a coherency and a complexity in [0, 1], and 0 as soon as one of the three
    is at its worst: for every map whose most relevant pixels matter no more than its least.

    Args:
      coherency, complexity: as for `adcc`.
      road: `road.gain` of curves of probabilities, in [-1, 1].
    """
    a, b, c = (jnp.asarray(x, jnp.float32) for x in (coherency, complexity, road))
    # Not jnp.clip, which may lose NaN on a CPU.
    c = jnp.where(c < 0, 0.0, jnp.where(c > 1, 1.0, c))
    return _harmonic_mean(a, 1 - b, c)


def _harmonic_mean(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    # Multiplied out, only the case of two zeros is left to guard.
    pairs = a * b + b * c + c * a
    return jnp.where(pairs != 0, 3 * a * b * c / jnp.where(pairs != 0, pairs, 1.0), 0.0)
