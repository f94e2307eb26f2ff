"""What a metric takes: one map, one mask, one image, all of any dtype."""

import jax
import jax.numpy as jnp

from kdxai.errors import UserError


def one_map(heatmap: jax.Array) -> jax.Array:
    """[H, W] of any dtype -> float32, so that no integer wraps.

    Raises:
      UserError: it is not one map.
    """
    if jnp.ndim(heatmap) != 2:
        raise UserError(
            f"A metric is of one map [H, W], but got {jnp.shape(heatmap)}: jax.vmap it over a "
            "batch, and drop an axis of channels."
        )
    return jnp.asarray(heatmap, jnp.float32)


def two_maps(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`one_map` of both.

    Raises:
      UserError: one is not one map, or their shapes differ.
    """
    a, b = one_map(a), one_map(b)
    if a.shape != b.shape:
        raise UserError(
            f"Cannot compare maps of {a.shape} and {b.shape}: resize both to one grid first."
        )
    return a, b


def ascending(values: jax.Array) -> jax.Array:
    """All values of a float32 array of any shape, sorted; NaN at the ends.

    By their bits, which are ordered as the numbers are once those of the negative are flipped: XLA
    on a CPU sorts integers six times as fast.
    """
    bits = jax.lax.bitcast_convert_type(values, jnp.int32).ravel()
    flip = lambda bits: jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)  # noqa: E731
    return jax.lax.bitcast_convert_type(flip(jnp.sort(flip(bits))), jnp.float32)


def inside(mask: jax.Array, heatmap: jax.Array) -> jax.Array:
    """[H, W] mask -> bool: any value but 0 is inside, be it True, 1 or 255.

    Raises:
      UserError: it is not one mask of the map's shape.
    """
    mask = jnp.asarray(mask)
    if mask.shape != heatmap.shape:
        raise UserError(f"A map of {heatmap.shape} has a mask of its shape, not of {mask.shape}.")
    return mask != 0


def one_image(image: jax.Array) -> jax.Array:
    """[H, W, C] -> the same, floating.

    Raises:
      UserError: it is not one image.
    """
    image = jnp.asarray(image)
    if image.ndim != 3:
        raise UserError(
            f"A metric is of one image [H, W, C], but got {image.shape}: jax.vmap it over a batch."
        )
    return image if jnp.issubdtype(image.dtype, jnp.floating) else image.astype(jnp.float32)
