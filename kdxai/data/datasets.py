"""Data sets: one call from a name to training, validation and test images.

The images are arrays in memory. Where those of training are more than a device takes, they are left
where they are and read batch by batch: `stream.Records`.
"""

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdxai.data import arrays, folder, prepared, rendered
from kdxai.data.sources import DATA_SEED, Dataset, Request, Split, checksums, directory
from kdxai.data.stored import is_resident
from kdxai.data.stream import Records
from kdxai.errors import UserError


class DataSource(NamedTuple):
    """Where data sets come from.

    Attributes:
      load: gives all that is there; no validation images where the data have none.
      options: settings that are for this source and not for each.
      exact: it makes as many images as are asked for, so none are cut off.
    """

    load: Callable[[Request], Dataset]
    options: tuple[str, ...] = ()
    exact: bool = False


# By name. Any other name is of decoded arrays, where there are some, or of TFDS.
SOURCES = {
    "folder": DataSource(folder.load, options=("size", "test_share")),
    "shapes": DataSource(rendered.load, exact=True),
}


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    validation_size: int | None = None,
    train_size: int | None = None,
    resident_mib: int | None = None,
    size: int | None = None,
    test_share: float | None = None,
) -> Dataset:
    """Load a data set, which is prepared (with a download) and decoded where it has to be.

    Args:
      name: `shapes` (rendered, see `kdxai.data.shapes`); `folder`, for a folder of pictures for
        each class in `data_dir` (see `kdxai.data.folder`); any name for a `data_dir` of decoded
        arrays (see `kdxai.data.arrays`); or an image classification data set of TFDS with the
        features `image` and `label` (`cifar10`, `cifar100`, `svhn_cropped`, ...; see
        `kdxai.data.prepared`).
      data_dir: where the data are; else $TFDS_DATA_DIR, else ~/tensorflow_datasets. A file of
        MedMNIST, or a directory that holds one as `NAME.npz`, is read as it is.
      cache_dir: where decoded arrays are cached; else $KDXAI_CACHE, else ~/.cache/kdxai.
      validation_size: images cut from the training images, always the same ones (default: a tenth;
        may be 0). `shapes` draws them instead; of data with a validation split of their own so many
        are taken from that (default: all).
      train_size: keep the first so many of the training images that remain (default: all).
      resident_mib: from how many MiB of training images on all images are read batch by batch
        (default: 1 GiB, or a quarter of a device's memory where that is more). `shapes` never is.
      size: height and width in pixels to which the pictures of `folder` are resized and cut.
      test_share: of the pictures of each class, to test on, where a `folder` has no `train` and
        `test` (default: 0.2).

    Raises:
      UserError: the data cannot be had, are not images with labels, or are fewer than asked for.
    """
    if resident_mib is not None and resident_mib < 0:
        raise UserError(f"resident_mib is {resident_mib}: it must be at least 0")
    request = Request(
        name,
        Path(data_dir).expanduser().absolute() if data_dir else None,
        cache_root(cache_dir),
        *(validation_size, train_size, resident_mib, size, test_share),
    )
    other = (
        arrays.load if arrays.holds_arrays(request) else partial(prepared.load, others=[*SOURCES])
    )
    source = SOURCES.get(name) or DataSource(other)
    for taker, taking in SOURCES.items():
        for option in set(taking.options) - set(source.options):
            if getattr(request, option) is not None:
                raise UserError(
                    f"{option} is for the data set {taker}, not for {name}: leave it out, or set "
                    f"name={taker}"
                )
    dataset = source.load(request)
    if source.exact:
        return dataset
    return _split_off_validation(_unless_resident(dataset, request), validation_size, train_size)


def fingerprint(dataset: Dataset) -> str:
    """16 hex digits that change with anything a run reads of a data set.

    Those are class names, mean, std, and every split's images, labels and masks, in their order.
    Neither the place of the data nor whether they are in memory matters, so a run may go on
    elsewhere. CIFAR-10 takes a quarter of a second; of streamed images the checksums are known.
    """
    digest = hashlib.sha256(json.dumps(dataset.class_names).encode())
    parts = [dataset.mean, dataset.std]
    for split in (dataset.train, dataset.validation, dataset.test):
        size = np.array(split.image.shape, np.int64)
        parts += [size, checksums(split.image), split.label]
        if split.mask is not None:
            parts.append(np.packbits(split.mask, axis=None))
    for part in parts:
        digest.update(part.tobytes())
    return digest.hexdigest()[:16]


def cache_root(given: str | os.PathLike[str] | None = None) -> Path:
    """The directory of everything that can be made again: `given`, $KDXAI_CACHE, ~/.cache/kdxai.

    It holds compiled programs too, native code that runs unchecked: who may write there may run
    code as whoever reads it. So it is made for its user alone (mode 700); one that is there keeps
    its mode.
    """
    root = directory(given, "KDXAI_CACHE", "~/.cache/kdxai")
    with contextlib.suppress(OSError):  # told where something is written
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return root


def _unless_resident(dataset: Dataset, request: Request) -> Dataset:
    """The same; where it is large, its images are to be streamed from memory."""
    image = dataset.train.image
    if isinstance(image, Records) or is_resident(image.nbytes, request.resident_mib):
        return dataset

    def lazy(split: Split) -> Split:
        sums, shape = checksums(split.image), split.image.shape[1:]
        name = f"{request.directory} {zlib.crc32(sums.data):08x}"
        return split._replace(image=Records(split.image, np.arange(len(sums)), shape, name, sums))

    return dataset._replace(
        train=lazy(dataset.train), validation=lazy(dataset.validation), test=lazy(dataset.test)
    )


def _split_off_validation(
    dataset: Dataset, validation_size: int | None, train_size: int | None
) -> Dataset:
    """All training images -> those for training, and those for validation if it has none."""
    train, own = dataset.train, dataset.validation
    total, known = len(train.label), len(own.label)
    if validation_size is None:
        validation_size = known or total // 10
    most = known or total - 1
    if not 0 <= validation_size <= most:
        of = f"{known} validation" if known else f"{total} training"
        raise UserError(
            f"validation_size is {validation_size}: of {of} images it must be from 0 to {most}"
        )
    rest = total if known else total - validation_size
    if train_size is None:
        train_size = rest
    if not 1 <= train_size <= rest:
        raise UserError(
            f"train_size is {train_size}: it must be at least 1 and at most {rest}, what is left "
            f"of {total} training images after {total - rest} for validation"
        )
    # RandomState, since NumPy promises to keep its numbers; those of default_rng may change.
    order = np.random.RandomState(DATA_SEED).permutation(total)
    if known:
        validation = own.select(slice(validation_size))
    else:
        validation, order = train.select(order[:validation_size]), order[validation_size:]
    return dataset._replace(train=train.select(order[:train_size]), validation=validation)
