"""Images that lie on the disk one by one: decoded once, or where they are many read when due."""

import functools
import json
import math
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from kdxai.data import arrays, cache
from kdxai.data.sources import (
    Dataset,
    Request,
    Split,
    checked_class_names,
    chunk_rows,
    mean_and_std,
    require_classes,
)
from kdxai.data.stream import WORKERS, Records, batches
from kdxai.errors import UserError, one_line
from kdxai.progress import progress

SMALL = 2**30  # bytes of training images that every device takes
SHARE = 0.25  # of a device's memory, for more than that


class Images(Protocol):
    """Those of one split, by their number; a process that reads gets a copy by pickle."""

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """uint8 [n, H, W, C]."""

    def labels(self) -> np.ndarray:
        """int32 [N], without decoding an image."""


class Stored(NamedTuple):
    """A data set as it is found, of which nothing has been decoded.

    Attributes:
      place: for messages.
      class_names: one for each label.
      image_shape: (H, W, C).
      train_count: of training images.
      splits: `train`, `test` and perhaps `validation`.
    """

    place: Path
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    train_count: int
    splits: Mapping[str, Images]


def load(request: Request, key: str, find: Callable[[], Stored]) -> Dataset:
    """What is stored, decoded to the cache or, where it is large, left as it is.

    Args:
      key: names it in the cache: another one where anything is stored differently.
      find: not called where it has been decoded before.

    Raises:
      UserError: an image cannot be read, the cache cannot be written, the labels do not suit, ...
    """
    find = functools.cache(find)
    directory = request.cache / key
    decoded = directory / "train.npz"
    if decoded.exists():
        size = decoded.stat().st_size  # not compressed
    else:
        stored = find()
        size = stored.train_count * math.prod(stored.image_shape)
    if is_resident(size, request.resident_mib):
        cache.write_once(directory, request.name, lambda: _decode(request.name, find()))
        return arrays.read(request.name, directory)
    # Its name tells it from the index of a former version, which knew no checksums.
    return _indexed(request.name, directory.with_name(f"{key}-checked-index"), find())


def is_resident(size: int, resident_mib: int | None) -> bool:
    """Whether so many bytes of training images are to be kept on a device."""
    if resident_mib is not None:
        return size <= resident_mib << 20
    if size <= SMALL:
        return True
    import jax

    device = jax.local_devices()[0]
    if statistics := device.memory_stats():
        memory = statistics["bytes_limit"]
    else:  # a CPU; its devices share the memory
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.device_count()
    return size <= SHARE * memory


def _decode(name: str, stored: Stored) -> tuple[tuple[str, ...], dict[str, Split]]:
    """Class names and all splits in memory."""

    def decoded(split: str) -> Split:
        label = stored.splits[split].labels()
        image = np.empty((len(label), *stored.image_shape), np.uint8)
        at = 0
        for chunk in _read(name, stored, split, len(label)):
            image[at : at + len(chunk)] = chunk
            at += len(chunk)
        return Split(image, label, None)

    return stored.class_names, {split: decoded(split) for split in stored.splits}


def _read(name: str, stored: Stored, split: str, count: int) -> Iterator[np.ndarray]:
    """All images of a split in order, some at a time."""
    images = Records(stored.splits[split], np.arange(count), stored.image_shape, name)
    plan = chunk_rows(count, stored.image_shape)
    with progress() as bar:
        task = bar.add_task(f"{name}: {split} images are read once", total=count, note="")
        # A few are read before a worker process has started.
        for chunk in batches(images, plan, WORKERS if len(plan) > 10 else 0):
            yield chunk
            bar.advance(task, len(chunk))


def _indexed(name: str, index: Path, stored: Stored) -> Dataset:
    """A data set of `Records`, with an index of all that must be known before they are read."""
    if not index.is_dir():
        _fill_index(index, name, stored)
    try:
        info = json.loads((index / "info.json").read_text())
        mean, std = np.array([info["mean"], info["std"]], np.float32)
        splits = {split: _split(index, stored, split) for split in stored.splits}
    except Exception as error:  # a damaged file fails in many ways
        raise UserError(f"cannot read {index} ({one_line(error)}): delete it") from error
    train = splits["train"]
    require_classes(stored.place, train.label)
    class_names = checked_class_names(stored.class_names, splits, stored.place)
    validation = splits.get("validation", train.select(slice(0)))
    return Dataset(name, class_names, mean, std, train, validation, splits["test"])


def _split(index: Path, stored: Stored, split: str) -> Split:
    """A split of which the index holds labels and checksums."""
    with np.load(index / f"{split}.npz", allow_pickle=False) as file:
        label, checksums = file["label"], file["checksums"]
    images, rows = stored.splits[split], np.arange(len(label))
    name = f"{index.name} {split}"
    return Split(Records(images, rows, stored.image_shape, name, checksums), label, None)


def _fill_index(index: Path, name: str, stored: Stored) -> None:
    """Read every image once."""
    labels = {split: images.labels() for split, images in stored.splits.items()}
    checksums: dict[str, list[int]] = {split: [] for split in labels}

    def counted(split: str) -> Iterator[np.ndarray]:
        for chunk in _read(name, stored, split, len(labels[split])):
            checksums[split] += map(zlib.crc32, chunk)
            yield chunk

    mean, std = mean_and_std(stored.place, counted("train"), stored.image_shape[-1])
    for split in labels:
        if split != "train":
            deque(counted(split), maxlen=0)
    cache.write_arrays(
        index,
        {"name": name, "mean": mean.tolist(), "std": std.tolist()},
        {
            split: {"label": label, "checksums": np.array(checksums[split], np.uint32)}
            for split, label in labels.items()
        },
    )
