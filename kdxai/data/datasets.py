"""Data sets as arrays in memory: one call from a name to training, validation and test images.

A name is `shapes` (rendered, see `kdxai.data.shapes`), an image classification data set of TFDS
with the features `image` and `label` (`cifar10`, `cifar100`, `svhn_cropped`, ...; see
`kdxai.data.prepared`), or that of a user's own arrays (see `kdxai.data.arrays`). What is rendered
or decoded is kept in a cache of such arrays.

A data set whose training images are more than a device takes is left where it is: its images are
`stream.Records`.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from kdxai.data import arrays, cache, prepared
from kdxai.data.arrays import CHUNK, Dataset, Split
from kdxai.data.prepared import PreparedImages
from kdxai.data.stream import WORKERS, Records, batches
from kdxai.errors import UserError, line
from kdxai.progress import progress

# One seed for the drawn images and for the cut of the validation set: data never depend on the
# seed of a training run.
DATA_SEED = 0
SHAPES_SIZES = {"train": 10_000, "validation": 1_000, "test": 2_000}
SMALL = 2**30  # bytes of training images that every device takes
SHARE = 0.25  # of a device's memory, for more than that


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    validation_size: int | None = None,
    train_size: int | None = None,
    resident_mib: int | None = None,
) -> Dataset:
    """Load a data set, which is prepared (with a download) and decoded where it has to be.

    Args:
      name: `shapes`, a data set of TFDS, or any name for a `data_dir` of decoded arrays.
      data_dir: where the data are; else $TFDS_DATA_DIR, else ~/tensorflow_datasets. A file of
        MedMNIST, or a directory that holds one as `NAME.npz`, is read as it is.
      cache_dir: where decoded arrays are kept; else $KDXAI_CACHE, else ~/.cache/kdxai.
      validation_size: images cut from the training images, always the same ones (default: a tenth;
        may be 0). `shapes` draws them instead; of decoded arrays with a validation split of their
        own so many are taken from that (default: all).
      train_size: keep the first so many of the training images that remain (default: all).
      resident_mib: from how many MiB of training images on all images are read batch by batch
        (default: 1 GiB, or a quarter of a device's memory where that is more). `shapes` never is.

    Raises:
      UserError: the data cannot be had, are not images with labels, or are fewer than asked for.
    """
    if resident_mib is not None and resident_mib < 0:
        raise UserError(f"resident_mib is {resident_mib}: it must be at least 0")
    root = cache_root(cache_dir)
    if name == "shapes":
        return _load_shapes(root, validation_size, train_size)
    directory = _directory(data_dir, "TFDS_DATA_DIR", "~/tensorflow_datasets")
    archive = directory if directory.suffix == ".npz" else directory / f"{name}.npz"
    if any((directory / f"{split}.npz").exists() for split in ("train", "test")):
        dataset = _unless_resident(arrays.read(name, directory), directory, resident_mib)
    elif archive.is_file():
        dataset = _unless_resident(arrays.read_archive(name, archive), archive, resident_mib)
    else:
        found = prepared.find(name, directory) or prepared.prepare(name, directory)
        version = "-".join(found.relative_to(directory).parts)
        cached = root / f"{version}-{prepared.fingerprint(found)}"
        dataset = _load_prepared(name, found, cached, resident_mib)
    return _cut(dataset, validation_size, train_size)


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
        parts += [size, _checksums(split.image), split.label]
        if split.mask is not None:
            parts.append(np.packbits(split.mask, axis=None))
    for part in parts:
        digest.update(part.tobytes())
    return digest.hexdigest()[:16]


def _checksums(image: np.ndarray | Records) -> np.ndarray:
    """uint32 [N], one of each image."""
    if isinstance(image, Records) and image.checksums is not None:
        return image.checksums
    parts = map(np.ascontiguousarray, arrays.chunks(image))
    return np.fromiter((zlib.crc32(one.data) for part in parts for one in part), np.uint32)


def cache_root(given: str | os.PathLike[str] | None = None) -> Path:
    """The directory of everything that can be made again: `given`, $KDXAI_CACHE, ~/.cache/kdxai.

    It holds compiled programs too, native code that runs unchecked: who may write there may run
    code as whoever reads it. So it is made for its user alone (mode 700); one that is there keeps
    its mode.
    """
    root = _directory(given, "KDXAI_CACHE", "~/.cache/kdxai")
    with contextlib.suppress(OSError):  # told where something is written
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return root


def _directory(given: str | os.PathLike[str] | None, variable: str, default: str) -> Path:
    return Path(given or os.environ.get(variable) or default).expanduser().absolute()


def _load_shapes(root: Path, validation_size: int | None, train_size: int | None) -> Dataset:
    asked = {"train": train_size, "validation": validation_size, "test": None}
    sizes = {split: SHAPES_SIZES[split] if n is None else n for split, n in asked.items()}
    for split, size in sizes.items():
        if size < 1:
            raise UserError(f"{split}_size is {size}: at least one image of shapes is drawn")
    # Rendering takes longer than reading, and another renderer may draw other pixels.
    renderer = Path(__file__).with_name("shapes.py").read_bytes()
    source = renderer + f"{sizes} {DATA_SEED} {importlib.metadata.version('jax')}".encode()
    directory = root / f"shapes-{hashlib.sha256(source).hexdigest()[:16]}"
    cache.fill(directory, "shapes", partial(_render_shapes, sizes))
    return arrays.read("shapes", directory)


def _render_shapes(sizes: dict[str, int]) -> tuple[tuple[str, ...], dict[str, Split]]:
    from kdxai.data import shapes  # imports JAX, which a cached data set does not need

    def render(split: str) -> Split:
        seed = zlib.crc32(f"{split} {DATA_SEED}".encode()) >> 1  # JAX takes 31 bits
        return Split(*shapes.render_split(seed, sizes[split]))

    return shapes.CLASS_NAMES, {split: render(split) for split in sizes}


def _cut(dataset: Dataset, validation_size: int | None, train_size: int | None) -> Dataset:
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
        validation = _rows(own, slice(validation_size))
    else:
        validation, order = _rows(train, order[:validation_size]), order[validation_size:]
    return dataset._replace(train=_rows(train, order[:train_size]), validation=validation)


def _rows(split: Split, rows: np.ndarray | slice) -> Split:
    """Some images of a split; those of `Records` stay unread."""
    image = split.image.select(rows) if isinstance(split.image, Records) else split.image[rows]
    return Split(image, split.label[rows], None if split.mask is None else split.mask[rows])


# Data too large for a device.


def _is_resident(size: int, resident_mib: int | None) -> bool:
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


def _unless_resident(dataset: Dataset, place: Path, resident_mib: int | None) -> Dataset:
    """The same; where it is large, its images are to be streamed from memory."""
    if _is_resident(dataset.train.image.nbytes, resident_mib):
        return dataset

    def lazy(split: Split) -> Split:
        sums, shape = _checksums(split.image), split.image.shape[1:]
        name = f"{place} {zlib.crc32(sums.data):08x}"
        return split._replace(image=Records(split.image, np.arange(len(sums)), shape, name, sums))

    return dataset._replace(
        train=lazy(dataset.train), validation=lazy(dataset.validation), test=lazy(dataset.test)
    )


def _load_prepared(name: str, found: Path, directory: Path, resident_mib: int | None) -> Dataset:
    """A prepared TFDS directory, decoded to `directory` or, where it is large, left as it is."""
    decoded = directory / "train.npz"
    if decoded.exists():
        size = decoded.stat().st_size  # not compressed
    else:
        shape, _, count = prepared.describe(name, found)
        size = count * int(np.prod(shape))
    if _is_resident(size, resident_mib):
        cache.fill(directory, name, partial(prepared.decode, name, found))
        return arrays.read(name, directory)
    shape, class_names, _ = prepared.describe(name, found)
    # Its name tells it from the index of a former version, which knew no checksums.
    index = directory.with_name(f"{directory.name}-checked-index")
    _fill_index(index, name, found)
    try:
        info = json.loads((index / "info.json").read_text())
        mean, std = np.array([info["mean"], info["std"]], np.float32)
        splits = {split: _indexed(index, found, split, shape) for split in prepared.SPLITS}
    except Exception as error:  # a damaged file fails in many ways
        raise UserError(f"cannot read {index} ({line(error)}): delete it") from error
    train = splits["train"]
    arrays.require_classes(found, train.label)
    class_names = arrays.checked_class_names(class_names, splits, found)
    return Dataset(name, class_names, mean, std, train, _rows(train, slice(0)), splits["test"])


def _indexed(index: Path, found: Path, split: str, shape: tuple[int, ...]) -> Split:
    """A split of a prepared TFDS directory, of which an index holds labels and checksums."""
    with np.load(index / f"{split}.npz", allow_pickle=False) as file:
        label, checksums = file["label"], file["checksums"]
    source, rows = PreparedImages(found, split, shape), np.arange(len(label))
    return Split(Records(source, rows, shape, f"{index.name} {split}", checksums), label, None)


def _fill_index(directory: Path, name: str, found: Path) -> None:
    """Unless it is there, write what must be known of a data set before its images are read."""
    if directory.is_dir():
        return
    shape, _, _ = prepared.describe(name, found)
    sources = {split: PreparedImages(found, split, shape) for split in prepared.SPLITS}
    labels = {split: source.labels() for split, source in sources.items()}
    checksums: dict[str, list[int]] = {split: [] for split in sources}
    with progress() as bar:

        def counted(split: str) -> Iterator[np.ndarray]:
            count = len(labels[split])
            images = Records(sources[split], np.arange(count), shape, name)
            plan = [np.arange(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)]
            task = bar.add_task(f"{name}: {split} images are read once", total=count, note="")
            # A few are read before a worker process has started.
            for chunk in batches(images, plan, WORKERS if len(plan) > 10 else 0):
                checksums[split] += map(zlib.crc32, chunk)
                yield chunk
                bar.advance(task, len(chunk))

        mean, std = arrays.mean_and_std(found, counted("train"), shape[-1])
        for _ in counted("test"):
            pass
    cache.write(
        directory,
        {"name": name, "mean": mean.tolist(), "std": std.tolist()},
        {
            split: {"label": label, "checksums": np.array(checksums[split], np.uint32)}
            for split, label in labels.items()
        },
    )
