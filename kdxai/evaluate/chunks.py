"""Images in equal parts, so that memory is bounded and one compiled program serves all."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np

from kdxai import devices
from kdxai.errors import UserError
from kdxai.measures import MEASURES
from kdxai.progress import progress
from kdxai.protocol import Protocol

IN_FLIGHT = 256 * 32 * 32  # pixels on the device at once, with all perturbed copies


def chunk_size(protocol: Protocol, extra: Sequence[str], shape: tuple[int, ...]) -> int:
    """Images [H, W] at once, so that `IN_FLIGHT` bounds the memory (at least one)."""
    times = max((MEASURES[name].cost for name in extra), default=1)
    return max(1, IN_FLIGHT // (protocol.copies * times * math.prod(shape)))


@contextmanager
def computing(chunk: int | None) -> Iterator[None]:
    """Compute on all devices of this host, whatever mesh the caller has set.

    Raises:
      UserError: there is no such chunk, or their memory does not hold one.
    """
    if chunk is not None and (not isinstance(chunk, int | np.integer) or chunk < 1):
        raise UserError(f"chunk is a whole number of images from 1, or None, not {chunk!r}")
    less = "give a chunk" if chunk is None else f"give a smaller chunk than {chunk}"
    advice = f"{less}, smaller images or a method with fewer copies of an image"
    with devices.memory(advice), devices.without_mesh():
        yield


def each(row: Callable[[Any, Any], Any], shared: Any, entries: Any) -> Any:
    """`row(shared, entry)` for all entries, a share of them on every device."""
    return devices.divide(
        lambda shared, entries: jax.vmap(partial(row, shared))(entries), shared, entries
    )


def chunks(size: int, chunk: int, name: str) -> Iterator[np.ndarray]:
    """Indices of equal parts of `size` images, `chunk` for each device, with a progress bar.

    The last is filled up with repeats: all parts have one shape, so one compilation serves all.
    """
    count = jax.local_device_count()
    chunk = min(chunk, -(-size // count)) * count
    with progress() as bar:
        task = bar.add_task(name, total=size, note="")
        for start in range(0, size, chunk):
            yield np.arange(start, start + chunk) % size
            bar.update(task, completed=min(start + chunk, size))


def stack(parts: Iterable[dict[str, jax.Array]], size: int) -> dict[str, np.ndarray]:
    """Join the results of `chunks` on the host and cut off the repeats."""
    rows = list(devices.fetch(parts))
    return {key: np.concatenate([part[key] for part in rows])[:size] for key in rows[0]}
