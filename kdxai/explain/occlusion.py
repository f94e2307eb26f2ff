"""Occlusion: what covering a part of the image does to the logit."""

from typing import Any

import jax
import jax.numpy as jnp

from kdxai.errors import UserError
from kdxai.explain.classifier import Classifier, Target, one_image, target_score


def occlusion(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    window: int = 8,
    stride: int = 4,
    baseline: jax.Array | float = 0.0,
    chunk: int = 32,
) -> jax.Array:
    """Occlusion: the fall of y_c when a window is covered, averaged over a pixel's windows.

    Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", with the logit
    for the probability. Every channel of a `window` x `window` square is set to `baseline`, which
    broadcasts to the image (0 is a normalised data set's mean colour). The square moves by
    `stride` pixels from the top left corner until it reaches the far edges, where it is cut off.
    Returns [H, W] signed logits. One forward pass per window, `chunk` of them at a time: the
    memory is that of a batch of `chunk` images (times the caller's own batch).

    Raises:
      UserError: the windows would leave pixels uncovered.
    """
    require_cover(window=window, stride=stride)
    image = one_image(image)
    rows, columns = (_windows(size, window, stride) for size in image.shape[:2])
    whole = target_score(classifier(image), class_index)

    def fall(index: jax.Array) -> jax.Array:
        row, column = jnp.divmod(index, len(columns))
        covered = rows[row][:, None, None] & columns[column][None, :, None]
        occluded = jnp.where(covered, jnp.asarray(baseline, image.dtype), image)
        return whole - target_score(classifier(occluded), class_index)

    falls = jax.lax.map(fall, jnp.arange(len(rows) * len(columns)), batch_size=chunk)
    rows, columns = rows.astype(jnp.float32), columns.astype(jnp.float32)
    falls = falls.reshape(len(rows), len(columns))
    total = jnp.einsum("ih,ij,jw->hw", rows, falls, columns, precision="highest")
    return total / (rows.sum(0)[:, None] * columns.sum(0))


def require_cover(*, window: int, stride: int, **_: Any) -> None:
    """Check the options of occlusion.

    Raises:
      UserError: the windows would leave pixels uncovered.
    """
    if not 1 <= stride <= window:
        raise UserError(
            f"occlusion needs 1 <= stride <= window to cover every pixel, but stride is {stride} "
            f"and window is {window}."
        )


def _windows(size: int, window: int, stride: int) -> jax.Array:
    """[n, size] bool: which pixels of one side each window covers."""
    count = 1 + max(0, -(-(size - window) // stride))
    starts = stride * jnp.arange(count)[:, None]
    pixels = jnp.arange(size)
    return (starts <= pixels) & (pixels < starts + window)
