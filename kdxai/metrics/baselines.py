"""What a removed pixel becomes: an image [H, W, C] without the evidence, from the image itself.

No baseline is neutral. Report which one was used, or use `kdxai.metrics.road` that needs none.
"""

from collections.abc import Sequence

import dm_pix
import jax
import jax.numpy as jnp

from kdxai.metrics.arrays import one_image


def mean(image: jax.Array) -> jax.Array:
    """Zeros: the data set's mean colour, for a normalised image."""
    return jnp.zeros_like(one_image(image))


def black(
    image: jax.Array, mean: Sequence[float] | jax.Array, std: Sequence[float] | jax.Array
) -> jax.Array:
    """Black in the units of an image normalised as (x - mean) / std, per channel."""
    image = one_image(image)
    return jnp.broadcast_to(-jnp.asarray(mean) / jnp.asarray(std), image.shape).astype(image.dtype)


def blur(image: jax.Array, sigma: float = 5.0) -> jax.Array:
    """The image under a Gaussian of `sigma` pixels, cut at 3 sigma, edges clamped.

    RISE (Petsiuk et al. 2018) inserts into a blurred image: it has no sharp edges of its own.
    """
    radius = round(3 * sigma)
    padded = jnp.pad(one_image(image), ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    return dm_pix.gaussian_blur(padded, sigma, 2 * radius + 1, padding="VALID")
