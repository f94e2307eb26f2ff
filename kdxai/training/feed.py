"""The batches of a plan, each process its own part."""

from collections.abc import Generator

import jax
import numpy as np

from kdxai.data import stream


def share(values: np.ndarray) -> np.ndarray:
    """The global batch [B, ...] -> this process's part of it, [local devices, B / devices, ...]."""
    parts = values.reshape(jax.process_count(), jax.local_device_count(), -1, *values.shape[1:])
    return parts[jax.process_index()]


def feed(
    plan: stream.Plan, images: stream.Records | None, workers: int = stream.WORKERS
) -> Generator[tuple[np.ndarray, ...], None, None]:
    """This process's part of every global batch [B] of indices: what a step takes at its end.

    Args:
      images: those that the indices count, where they are streamed.
      workers: as for `stream.batches`.
    """
    if images is None:
        yield from ((share(plan[i]),) for i in range(len(plan)))
        return
    own = stream.Part(plan, jax.process_index(), jax.process_count())
    for i, part in enumerate(stream.batches(images, own, workers)):
        yield share(plan[i]), part.reshape(jax.local_device_count(), -1, *part.shape[1:])
