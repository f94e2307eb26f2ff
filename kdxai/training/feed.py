"""A split as the steps read it: whole on the devices, or its images batch by batch."""

from collections.abc import Generator
from typing import NamedTuple

import jax
import numpy as np

from kdxai import devices
from kdxai.data import stream
from kdxai.data.datasets import Dataset, Split
from kdxai.training.steps import Constants


class Placed(NamedTuple):
    """Attributes:
    constants: what is resident on the devices.
    images: those that are streamed; None where they are resident too.
    """

    constants: Constants
    images: stream.Records | None

    @property
    def size(self) -> int:
        """How many images there are."""
        return len(self.constants.label)

    def feed(
        self, plan: stream.BatchIndices, workers: int = stream.WORKERS
    ) -> Generator[tuple[np.ndarray, ...], None, None]:
        """This process's part of every global batch [B] of indices: what a step takes at its end.

        Args:
          workers: as for `stream.batches`.
        """
        if self.images is None:
            yield from ((process_share(plan[i]),) for i in range(len(plan)))
            return
        own = stream.ProcessShare(plan, jax.process_index(), jax.process_count())
        for i, part in enumerate(stream.batches(self.images, own, workers)):
            images = part.reshape(jax.local_device_count(), -1, *part.shape[1:])
            yield process_share(plan[i]), images


def place(split: Split, dataset: Dataset) -> Placed:
    """A split of a data set, with its images on the devices but where they are streamed."""
    streamed = split.image if isinstance(split.image, stream.Records) else None
    image = split.image if streamed is None else None
    arrays = (image, split.label, dataset.mean, dataset.std)
    return Placed(Constants(*devices.replicate(arrays)), streamed)


def process_share(values: np.ndarray) -> np.ndarray:
    """The global batch [B, ...] -> this process's part of it, [local devices, B / devices, ...]."""
    parts = values.reshape(jax.process_count(), jax.local_device_count(), -1, *values.shape[1:])
    return parts[jax.process_index()]
