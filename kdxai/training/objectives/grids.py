"""Maps of two networks brought together: to one grid, and to length one."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdxai.explain.maps import resize


def pooled(maps: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """[B, h, w, c] -> [B, *shape, c] by average pooling, of any size (adaptive pooling).

    Cell i of n covers rows floor(i h / n) to ceil((i + 1) h / n), as in
    `torch.nn.functional.adaptive_avg_pool2d`.
    """
    rows, columns = (
        _windows(size, cells) for size, cells in zip(maps.shape[1:3], shape, strict=True)
    )
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, maps)


def _windows(size: int, cells: int) -> Any:
    """[cells, size]: the weights of each cell."""
    row, cell = np.arange(size), np.arange(cells)[:, None]
    inside = (row >= cell * size // cells) & (row < -(-(cell + 1) * size // cells))
    return np.float32(inside / inside.sum(1, keepdims=True))


def resized(maps: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """[B, h, w] -> [B, *shape], as a map is resized: see `explain.maps.resize`."""
    return jax.vmap(partial(resize, shape=shape))(maps)


def smaller(one: jax.Array, other: jax.Array) -> tuple[int, int]:
    """The smaller grid of two batches of maps, side by side."""
    (height, width), (its_height, its_width) = one.shape[1:3], other.shape[1:3]
    return min(height, its_height), min(width, its_width)


def unit_vectors(values: jax.Array) -> jax.Array:
    """values / |values| along the last axis; zeros stay zeros, and have no gradient."""
    square = (values**2).sum(-1, keepdims=True)
    positive = square > 0
    return jnp.where(positive, values * jax.lax.rsqrt(jnp.where(positive, square, 1)), 0)
