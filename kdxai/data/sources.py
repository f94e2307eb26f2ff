"""What a source of data is given and what it gives, and the checks that all of them share.

A source is a file with a function `load(request) -> Dataset` and an entry in `datasets.SOURCES`. It
gives all training and test images, and validation images where the data have some; in memory, or
as `Records`. Whose images are single files or records describes them and lets `stored` do the rest.
"""

import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdxai.data.stream import Records
from kdxai.errors import UserError

# One seed for drawn images, and for the cut of test and validation images: data never depend on the
# seed of a training run.
DATA_SEED = 0
CHUNK = 500  # images in memory at once while they are counted, where they are small
CHUNK_BYTES = 2**22  # where they are not
STD = (1e-4, 10.0)  # that images are divided by; a grey level is 0.004, and pixels are in [0, 1]


class Request(NamedTuple):
    """What `datasets.load` is asked for; see there."""

    name: str
    data_dir: Path | None
    cache: Path
    validation_size: int | None
    train_size: int | None
    resident_mib: int | None
    size: int | None
    test_share: float | None

    @property
    def directory(self) -> Path:
        """Where the data are."""
        return self.data_dir or directory(None, "TFDS_DATA_DIR", "~/tensorflow_datasets")


def directory(given: str | os.PathLike[str] | None, variable: str, default: str) -> Path:
    """The path that is given, or else that of an environment variable, or else the default."""
    return Path(given or os.environ.get(variable) or default).expanduser().absolute()


class Split(NamedTuple):
    """Some images of a data set.

    Attributes:
      image: uint8 [N, H, W, C]; `Records` where it is too large for memory.
      label: int32 [N].
      mask: bool [N, H, W], where the object is, if the data set tells; else None.
    """

    image: np.ndarray | Records
    label: np.ndarray
    mask: np.ndarray | None

    def select(self, rows: np.ndarray | slice) -> "Split":
        """Some of them; those of `Records` stay unread."""
        image = self.image.select(rows) if isinstance(self.image, Records) else self.image[rows]
        return Split(image, self.label[rows], None if self.mask is None else self.mask[rows])


class Dataset(NamedTuple):
    """A data set and its normalisation.

    Attributes:
      name: as asked for.
      class_names: one for each label.
      mean, std: float32 [C], of the pixels of all training images (before validation images are cut
        off and before `train_size`), scaled to [0, 1].
    """

    name: str
    class_names: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    train: Split
    validation: Split
    test: Split


def checked_labels(what: str, label: np.ndarray, count: int) -> np.ndarray:
    """Integers [N] or [N, 1] -> int32 [N].

    Raises:
      UserError: anything else.
    """
    if label.shape == (count, 1):
        label = label[:, 0]
    if label.dtype.kind not in "iu" or label.shape != (count,):
        hint = ""
        if label.ndim == 2 and len(label) == count:
            hint = "; if a row marks its one class with 1, store label.argmax(1)"
        elif label.shape == (count,) and label.dtype.kind in "fb":
            hint = "; store label.astype(int) if they are whole numbers"
        raise UserError(
            f"{what} is {label.dtype} {list(label.shape)}: it must be one integer for each of "
            f"{count} images{hint}"
        )
    low, high = int(label.min()), int(label.max())
    if low < 0 or high >= 2**31:  # before int32 wraps
        raise UserError(f"{what} goes from {low} to {high}: classes are counted from 0")
    return label.astype(np.int32)


def require_classes(place: Path, label: np.ndarray) -> None:
    """Check that there is something to classify.

    Raises:
      UserError: the training images are of less than two classes.
    """
    if (label == label[0]).all():
        raise UserError(
            f"all training images in {place} are of class {label[0]}: to tell classes apart, give "
            "images of two or more"
        )


def checked_class_names(
    given: tuple[str, ...], splits: Mapping[str, Split], place: Path
) -> tuple[str, ...]:
    """The names of all classes, which are numbers where none are given.

    Raises:
      UserError: labels and names do not fit, or there are no names and the training images do not
        have every class.
    """
    low = min(int(split.label.min()) for split in splits.values())
    high = max(int(split.label.max()) for split in splits.values())
    if given:
        if high >= len(given):
            raise UserError(
                f"labels in {place} go from {low} to {high}: with {len(given)} classes they must "
                f"go from 0 to {len(given) - 1}"
            )
        return given
    used = np.unique(splits["train"].label)
    if len(used) <= high:
        missing = np.flatnonzero(np.append(used, -1) != np.arange(len(used) + 1))[0]
        raise UserError(
            f"labels in {place} go up to {high}, but no training image is of class {missing}: "
            "number the classes from 0 without a gap, or name all in info.json (class_names)"
        )
    return tuple(map(str, range(len(used))))


def mean_and_std_of(
    place: str | Path, image: np.ndarray | Records
) -> tuple[np.ndarray, np.ndarray]:
    """`mean_and_std` of all images at once."""
    return mean_and_std(place, image_chunks(image), image.shape[-1])


def image_chunks(image: np.ndarray | Records) -> Iterator[np.ndarray]:
    """Some images at a time."""
    return (image[rows] for rows in chunk_rows(len(image), image.shape[1:]))


def chunk_rows(count: int, image_shape: tuple[int, ...]) -> list[np.ndarray]:
    """The numbers of `count` images, in pieces of which memory holds several."""
    size = max(1, min(CHUNK, CHUNK_BYTES // math.prod(image_shape)))
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def checksums(image: np.ndarray | Records) -> np.ndarray:
    """CRC-32 of each image: uint32 [N]."""
    if isinstance(image, Records) and image.checksums is not None:
        return image.checksums
    parts = map(np.ascontiguousarray, image_chunks(image))
    return np.fromiter((zlib.crc32(one.data) for part in parts for one in part), np.uint32)


def mean_and_std(
    place: str | Path, chunks: Iterable[np.ndarray], channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, H, W, C] pieces -> float32 [C], [C] of values in [0, 1], through exact counts.

    Args:
      place: of the data, for an error message.

    Raises:
      UserError: a channel never changes.
    """
    counts = np.zeros((channels, 256), np.int64)
    for chunk in chunks:
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255

    def moments(weights: np.ndarray) -> tuple[float, float]:
        mean = np.average(values, weights=weights)
        return mean, np.sqrt(np.average((values - mean) ** 2, weights=weights))

    mean, std = np.array([moments(weights) for weights in counts], np.float32).T
    constant = np.flatnonzero(std < STD[0])
    if constant.size:
        channel = constant[0]
        raise UserError(
            f"channel {channel} of {channels} (counted from 0) is {255 * mean[channel]:.0f} in all "
            f"training images of {place}, so they cannot be divided by its deviation: leave it out "
            "(of RGBA pictures store image[..., :3])"
        )
    return mean, std
