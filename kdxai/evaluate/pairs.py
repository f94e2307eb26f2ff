"""How alike many models explain the same images, all with all."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdxai import devices
from kdxai.errors import UserError
from kdxai.evaluate.chunks import IN_FLIGHT, chunks, computing, stack
from kdxai.explain.maps import resize
from kdxai.metrics import pairs
from kdxai.metrics.finite import require_finite


def pairwise(
    maps: Sequence[np.ndarray],
    shape: tuple[int, int],
    *,
    chunk: int | None = None,
    name: str = "all pairs",
) -> dict[str, np.ndarray]:
    """The agreement of every two models' maps of every image, on the image's grid.

    Args:
      maps: M models' [N, h, w] in [0, 1], as `draw_maps` returns them, on any grids; read a chunk
        at a time, so that they may be memory maps.
      shape: (H, W) of the images.
      chunk: images on each device at once.
      name: for the progress bar.

    Returns:
      Metric of `metrics.agreement` -> [N, P] float32, pairs in the order of
      `np.triu_indices(M, 1)`.

    Raises:
      UserError: fewer than two models, other than maps of the same images, or one is not finite;
        the memory does not hold a chunk.
    """
    if len(maps) < 2 or any(one.ndim != 3 or len(one) != len(maps[0]) for one in maps):
        shapes = ", ".join(str(list(one.shape)) for one in maps)
        raise UserError(
            f"pairs are of two models or more, each with maps [N, h, w] of the same N images, not "
            f"of {shapes or 'none'}"
        )
    size = len(maps[0])
    with computing(chunk):
        chunk = chunk or max(1, 64 * IN_FLIGHT // (len(maps) * math.prod(shape)))
        parts = []
        for part in chunks(size, chunk, name):
            some = [np.asarray(one[part], np.float32) for one in maps]
            for one in some:
                require_finite(f"{name}: a map", one)
            parts.append(jax.device_get(agreements(some, tuple(shape))))
        return stack(parts, size)


@partial(jax.jit, static_argnames="shape")
def agreements(maps: Sequence[jax.Array], shape: tuple[int, int]) -> dict[str, jax.Array]:
    """M models' [N, h, w] -> metric -> [N, P]."""

    def one(maps: Sequence[jax.Array]) -> dict[str, jax.Array]:
        return pairs.agreements(jnp.stack([resize(each, shape) for each in maps]))

    def share(_: Any, maps: Sequence[jax.Array]) -> dict[str, jax.Array]:
        return jax.lax.map(one, maps)  # one image at a time is fastest on a CPU: it stays in cache

    return devices.divide(share, (), maps)
