"""Images that stay where they are until their batch is due: for data larger than a device.

Nothing here imports JAX: worker processes read and decode.
"""

import io
import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from kdxai.errors import UserError, line

PIL_MODES = {1: "L", 3: "RGB"}  # by number of channels
WORKERS = max(1, min(8, (os.cpu_count() or 1) // 2))  # the other cores train
BUFFER = 2  # batches that each of them has ready


@dataclass(frozen=True, eq=False)
class Records:
    """Some images of a source; `records[rows]` reads them, uint8 [n, H, W, C].

    Attributes:
      source: `source[rows]` reads images by their number: an array, or `PreparedImages`.
      rows: int [N], which of the source's images these are.
      image_shape: (H, W, C).
      name: changes with the source's content.
      checksums: uint32 [N], CRC-32 of each image, where they are known.
    """

    source: Any
    rows: np.ndarray
    image_shape: tuple[int, ...]
    name: str
    checksums: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.image_shape)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        return self.source[self.rows[rows]]

    def select(self, rows: np.ndarray | slice) -> "Records":
        """Some of these images, unread."""
        checksums = None if self.checksums is None else self.checksums[rows]
        return replace(self, rows=self.rows[rows], checksums=checksums)


class PreparedImages:
    """The images of one split of a prepared TFDS directory; every process opens it for itself."""

    def __init__(self, prepared: Path, split: str, image_shape: tuple[int, ...]):
        self.prepared, self.split, self.image_shape = prepared, split, image_shape
        self._source: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_source": None}

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Raises:
        UserError: a record cannot be read.
        """
        from PIL import Image

        image = np.empty((len(rows), *self.image_shape), np.uint8)
        mode = PIL_MODES[self.image_shape[-1]]
        records = self.read(rows)
        try:
            for i, record in enumerate(records):
                picture = Image.open(io.BytesIO(record["image"])).convert(mode)
                image[i] = np.asarray(picture).reshape(self.image_shape)
        except Exception as error:  # of a damaged picture
            raise self._unreadable(error) from error
        return image

    def labels(self) -> np.ndarray:
        """[N] int32 of the whole split; no image is decoded."""
        count = len(self._open())
        some = (self.read(range(i, min(i + 1000, count))) for i in range(0, count, 1000))
        return np.array([record["label"] for records in some for record in records], np.int32)

    def read(self, rows: Iterable[int]) -> Sequence[dict[str, Any]]:
        """The records of those numbers, their images encoded as they are stored.

        Raises:
          UserError: one cannot be read.
        """
        try:
            return self._open().__getitems__([int(row) for row in rows])
        except Exception as error:  # from a damaged file, TFRecord, a split that is not there, ...
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(
            f"cannot read split {self.split} of {self.prepared} ({line(error)}): prepare it anew "
            "(tfds build NAME --file_format=array_record) or set another data directory"
        )

    def _open(self) -> Any:
        import tensorflow_datasets as tfds

        if self._source is None:
            # The image is decoded here: TFDS would complain that OpenCV is missing.
            decoders = {"image": tfds.decode.SkipDecoding()}
            builder = tfds.builder_from_directory(self.prepared)
            self._source = builder.as_data_source(self.split, decoders=decoders)
        return self._source


@dataclass(frozen=True)
class Order:
    """The batches of a training run, step by step: shuffled by (seed, epoch) alone.

    What does not fill a batch is left out of an epoch. `order[i]` is int32 [batch_size] of the step
    `first` + i, so a run goes on at any step.
    """

    seed: int
    size: int
    batch_size: int
    first: int
    total: int

    def __len__(self) -> int:
        return max(self.total - self.first, 0)

    def __getitem__(self, i: int) -> np.ndarray:
        if not 0 <= i < len(self):
            raise IndexError(i)
        epoch, step = divmod(self.first + i, self.size // self.batch_size)
        order = _shuffled(self.seed, epoch, self.size)
        return order[step * self.batch_size :][: self.batch_size]


@lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(size).astype(np.int32)


@dataclass(frozen=True)
class Part:
    """The part of every batch that falls to one of several processes."""

    plan: Sequence[np.ndarray]
    part: int
    parts: int

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.plan[i].reshape(self.parts, -1)[self.part]


def _end_with_parent(worker: int, workers: int) -> None:
    """Let no worker outlive a process that was killed."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def batches(
    images: Records, plan: Sequence[np.ndarray], workers: int = WORKERS
) -> Iterator[np.ndarray]:
    """The images of every batch of indices in a plan, in order, read ahead.

    Args:
      workers: processes that read; 0 for a thread of this one, which is there at once. An array in
        memory needs none.

    Raises:
      UserError: an image cannot be read.
    """
    import grain

    # Bytes come through a pipe. grain would put an array into shared memory, where the last one
    # stays when it is stopped.
    dataset = grain.MapDataset.source(plan).map(lambda rows: images[rows].tobytes())
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=BUFFER)
    stream = dataset.to_iter_dataset(options)
    if workers and not isinstance(images.source, np.ndarray):
        stream = stream.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=BUFFER),
            worker_init_fn=_end_with_parent,
        )
    if not flags.FLAGS.is_parsed():  # grain asks for some, outside of a script too
        flags.FLAGS.mark_as_parsed()
    iterator = iter(stream)
    try:
        for content in iterator:
            yield np.frombuffer(content, np.uint8).reshape(-1, *images.image_shape)
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # as a worker passes it on
        raise UserError(f"the images cannot be read ({line(error)})") from error
    finally:
        iterator.close()
