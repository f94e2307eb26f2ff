"""Augmentation and normalisation of one image; the caller vmaps."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def augment(
    key: jax.Array, image: jax.Array, *, pad: int = 4, flip: bool = True, cutout: int = 0
) -> jax.Array:
    """A random view of one image.

    Args:
      key: the view's own random key; the same key gives the same view.
      image: [H, W, C], any dtype.
      pad: pixels of reflection on each side before a random crop back to [H, W].
      flip: mirror left and right with probability 1/2.
      cutout: side in pixels of a square around a random centre that is set to zero, cut off at the
        border (DeVries & Taylor 2017). Zero is the mean colour only after `normalise`.

    Returns:
      [H, W, C], the dtype of `image`.
    """
    height, width, channels = image.shape
    crop_key, flip_key, cutout_key = jax.random.split(key, 3)
    if pad:
        padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
        top, left = jax.random.randint(crop_key, (2,), 0, 2 * pad + 1)
        image = jax.lax.dynamic_slice(padded, (top, left, 0), (height, width, channels))
    if flip:
        image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
    if cutout:
        centre = jax.random.randint(cutout_key, (2,), 0, jnp.array([height, width]))
        rows, columns = (
            (jnp.arange(size) >= c - cutout // 2) & (jnp.arange(size) < c - cutout // 2 + cutout)
            for size, c in zip((height, width), centre, strict=True)
        )
        image = jnp.where((rows[:, None] & columns[None, :])[..., None], 0, image)
    return image


def normalise(image: ArrayLike, mean: ArrayLike, std: ArrayLike) -> jax.Array:
    """(image / 255 - mean) / std: [..., C] uint8 -> [..., C] float32, so 0 is the mean colour."""
    return (jnp.asarray(image, jnp.float32) / 255 - mean) / std


def denormalise(image: jax.Array, mean: ArrayLike, std: ArrayLike) -> jax.Array:
    """The inverse of `normalise`, to [0, 1]: [..., C] -> [..., C] float32, clipped."""
    return jnp.clip(image * std + mean, 0, 1)
