"""Nothing that is not finite becomes a number: marked under `jit`, refused on the host."""

import jax
import jax.numpy as jnp
import numpy as np

from kdxai.errors import UserError


def where_finite(value: jax.Array, *inputs: jax.Array) -> jax.Array:
    """`value`, or NaN unless every entry of every input is finite.

    For metrics of ranks, counts and extremes, which would otherwise turn a NaN into an ordinary
    number: compiled by XLA for a CPU, `max` and `min` can skip NaN, and so can `relu` before a sum.
    """
    finite = jnp.array([jnp.isfinite(x).all() for x in inputs]).all()
    return jnp.where(finite, value, jnp.nan)


def require_finite(name: str, values: jax.Array | np.ndarray) -> None:
    """A UserError that names the metric where `values` hold a NaN or an infinity.

    Metrics define their edge cases, so a value that is not finite comes from the map, the score or
    the image. Called on the host with a batch of results, one row per image. Call it on maps and
    images too: a network with ReLU can turn their NaN into a finite score (see `where_finite`).
    """
    finite = np.isfinite(np.atleast_1d(values))
    rows = np.flatnonzero(~finite.all(axis=tuple(range(1, finite.ndim))))
    if rows.size:
        raise UserError(
            f"{name} is not finite for {rows.size} of {len(finite)} images, first at row "
            f"{rows[0]}: check the model's outputs and the image for NaN."
        )
