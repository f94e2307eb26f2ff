"""Data sets as arrays in memory: one call from a name to training, validation and test images.

A name is `shapes` (rendered, see `kdxai.data.shapes`) or an image classification data set of TFDS
with the features `image` and `label` (`cifar10`, `cifar100`, `svhn_cropped`, ...). The data
directory holds either prepared TFDS data sets or decoded arrays: `train.npz` and `test.npz`, each
with `image` (uint8 [N, H, W, C]) and `label` (integers [N]), and optionally `info.json`
(`class_names`, `mean`, `std`). What is rendered or decoded is kept in a cache of such directories.

A data set whose training images are more than a device takes is left where it is: its images are
`stream.Records`.

TensorFlow is never imported; TFDS only where a data set is prepared or read.
"""

import contextlib
import difflib
import hashlib
import importlib.metadata
import io
import json
import os
import re
import shutil
import sys
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from kdxai.data.stream import PIL_MODES, WORKERS, PreparedImages, Records, batches
from kdxai.errors import UserError, line
from kdxai.progress import progress

# One seed for the drawn images and for the cut of the validation set: data never depend on the
# seed of a training run.
DATA_SEED = 0
SHAPES_SIZES = {"train": 10_000, "validation": 1_000, "test": 2_000}
CLASS_NAMES = {
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
}
TIMEOUT = 10  # seconds without an answer before a download fails
CHUNK = 500  # images in memory at once while they are counted
SMALL = 2**30  # bytes of training images that every device takes
SHARE = 0.25  # of a device's memory, for more than that


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


class Dataset(NamedTuple):
    """A data set in memory.

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
      data_dir: where the data are; else $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      cache_dir: where decoded arrays are kept; else $KDXAI_CACHE, else ~/.cache/kdxai.
      validation_size: images cut from the training images, always the same ones (default: a tenth;
        may be 0). `shapes` draws them instead.
      train_size: keep the first so many of the training images that remain (default: all).
      resident_mib: from how many MiB of training images on all images are read batch by batch
        (default: 1 GiB, or a quarter of a device's memory where that is more). `shapes` never is.

    Raises:
      UserError: the data cannot be had, are not images with labels, or are fewer than asked for.
    """
    root = cache_root(cache_dir)
    if name == "shapes":
        return _load_shapes(root, validation_size, train_size)
    directory = _directory(data_dir, "TFDS_DATA_DIR", "~/tensorflow_datasets")
    if any((directory / f"{split}.npz").exists() for split in ("train", "test")):
        dataset = _read(name, directory)
        if not _is_resident(dataset.train.image.nbytes, resident_mib):
            dataset = _as_records(dataset, str(directory))
    else:
        prepared = _find_prepared(name, directory) or _prepare(name, directory)
        version = "-".join(prepared.relative_to(directory).parts)
        dataset = _load_prepared(
            name, prepared, root / f"{version}-{_fingerprint(prepared)}", resident_mib
        )
    train, validation = _cut(dataset.train, validation_size, train_size)
    return dataset._replace(train=train, validation=validation)


def fingerprint(dataset: Dataset) -> str:
    """16 hex digits that change with anything a run reads of a data set.

    Those are class names, mean, std, and every split's images, labels and masks, in their order.
    Neither the place of the data nor whether they are in memory matters, so a run may go on
    elsewhere. CIFAR-10 takes a quarter of a second; of streamed images the checksums are known.
    """
    digest = hashlib.sha256(json.dumps(dataset.class_names).encode())
    arrays = [dataset.mean, dataset.std]
    for split in (dataset.train, dataset.validation, dataset.test):
        size = np.array(split.image.shape, np.int64)
        arrays += [size, _checksums(split.image), split.label]
        if split.mask is not None:
            arrays.append(np.packbits(split.mask, axis=None))
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _checksums(image: np.ndarray | Records) -> np.ndarray:
    """uint32 [N], one of each image."""
    if isinstance(image, Records) and image.checksums is not None:
        return image.checksums
    each = (zlib.crc32(one) for chunk in _chunks(image) for one in np.ascontiguousarray(chunk))
    return np.fromiter(each, np.uint32)


def cache_root(given: str | os.PathLike[str] | None = None) -> Path:
    """The directory of everything that can be made again: `given`, $KDXAI_CACHE, ~/.cache/kdxai."""
    return _directory(given, "KDXAI_CACHE", "~/.cache/kdxai")


def _directory(given: str | os.PathLike[str] | None, variable: str, default: str) -> Path:
    return Path(given or os.environ.get(variable) or default).expanduser().absolute()


def _load_shapes(root: Path, validation_size: int | None, train_size: int | None) -> Dataset:
    asked = {"train": train_size, "validation": validation_size, "test": None}
    sizes = {split: SHAPES_SIZES[split] if n is None else n for split, n in asked.items()}
    # Rendering takes longer than reading, and another renderer may draw other pixels.
    renderer = Path(__file__).with_name("shapes.py").read_bytes()
    source = renderer + f"{sizes} {DATA_SEED} {importlib.metadata.version('jax')}".encode()
    directory = root / f"shapes-{hashlib.sha256(source).hexdigest()[:16]}"
    _fill_cache(directory, "shapes", partial(_render_shapes, sizes))
    return _read("shapes", directory)._replace(validation=_read_split(directory / "validation.npz"))


def _render_shapes(sizes: dict[str, int]) -> tuple[tuple[str, ...], dict[str, Split]]:
    from kdxai.data import shapes  # imports JAX, which a cached data set does not need

    def render(split: str) -> Split:
        seed = zlib.crc32(f"{split} {DATA_SEED}".encode()) >> 1  # JAX takes 31 bits
        return Split(*shapes.render_split(seed, sizes[split]))

    return shapes.CLASS_NAMES, {split: render(split) for split in sizes}


def _cut(train: Split, validation_size: int | None, train_size: int | None) -> tuple[Split, Split]:
    """All training images -> those for training, those for validation."""
    total = len(train.label)
    if validation_size is None:
        validation_size = total // 10
    if not 0 <= validation_size < total:
        raise UserError(
            f"validation_size is {validation_size}: it must be at least 0 and less than the "
            f"{total} training images"
        )
    rest = total - validation_size
    if train_size is None:
        train_size = rest
    if not 1 <= train_size <= rest:
        raise UserError(
            f"train_size is {train_size}: it must be at least 1 and at most {rest}, what is left "
            f"of {total} training images after {validation_size} for validation"
        )
    # RandomState, since NumPy promises to keep its numbers; those of default_rng may change.
    order = np.random.RandomState(DATA_SEED).permutation(total)
    validation = _rows(train, order[:validation_size])
    return _rows(train, order[validation_size : validation_size + train_size]), validation


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


def _as_records(dataset: Dataset, name: str) -> Dataset:
    """The same, its images to be streamed from memory."""

    def lazy(split: Split) -> Split:
        image = split.image
        return split._replace(image=Records(image, np.arange(len(image)), image.shape[1:], name))

    splits = (dataset.train, dataset.validation, dataset.test)
    return dataset._replace(
        **dict(zip(("train", "validation", "test"), map(lazy, splits), strict=True))
    )


def _load_prepared(name: str, prepared: Path, directory: Path, resident_mib: int | None) -> Dataset:
    """A prepared TFDS directory, decoded to `directory` or, where it is large, left as it is."""
    decoded = directory / "train.npz"
    if decoded.exists():
        size = decoded.stat().st_size  # not compressed
    else:
        shape, _, count = _describe(name, prepared)
        size = count * int(np.prod(shape))
    if _is_resident(size, resident_mib):
        _fill_cache(directory, name, partial(_decode, name, prepared))
        return _read(name, directory)
    shape, _, _ = _describe(name, prepared)
    index = directory.with_name(f"{directory.name}-checked-index")
    _fill_index(index, name, prepared)
    info = json.loads((index / "info.json").read_text())

    def split(name: str) -> Split:
        with np.load(index / f"{name}.npz", allow_pickle=False) as file:
            label, checksums = file["label"], file["checksums"]
        source = PreparedImages(prepared, name, shape)
        rows = np.arange(len(label))
        return Split(Records(source, rows, shape, f"{index.name} {name}", checksums), label, None)

    train = split("train")
    return Dataset(
        name,
        tuple(info["class_names"]),
        np.float32(info["mean"]),
        np.float32(info["std"]),
        train,
        _rows(train, slice(0)),
        split("test"),
    )


def _describe(name: str, prepared: Path) -> tuple[tuple[int, ...], tuple[str, ...], int]:
    """Image shape, class names and number of training images of a prepared TFDS directory.

    Raises:
      UserError: it cannot be read, or does not suit.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(prepared)
        shape, class_names = _image_shape_and_class_names(name, builder)
        counts = [builder.info.splits[split].num_examples for split in ("train", "test")]
        return shape, class_names, counts[0]
    except UserError:
        raise
    except Exception as error:  # from a damaged file, a split that is not there, ...
        raise UserError(
            f"cannot read splits train and test of {prepared} ({line(error)}): prepare it anew "
            f"(tfds build {name} --file_format=array_record) or set another data directory"
        ) from error


def _fill_index(directory: Path, name: str, prepared: Path) -> None:
    """Unless it is there, write what must be known of a data set before its images are read."""
    if directory.is_dir():
        return
    shape, class_names, _ = _describe(name, prepared)
    sources = {split: PreparedImages(prepared, split, shape) for split in ("train", "test")}
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

        mean, std = _mean_and_std(counted("train"), shape[-1])
        for _ in counted("test"):
            pass
    _write_arrays(
        directory,
        {"name": name, "class_names": class_names, "mean": mean.tolist(), "std": std.tolist()},
        {
            split: {"label": label, "checksums": np.uint32(checksums[split])}
            for split, label in labels.items()
        },
    )


# Directories of decoded arrays: the cache, or what a user brings.


def _fill_cache(
    directory: Path, name: str, make: Callable[[], tuple[tuple[str, ...], dict[str, Split]]]
) -> None:
    """Unless it is there, write what `make` gives, so that it appears whole or not at all."""
    if directory.is_dir():
        return
    class_names, splits = make()
    mean, std = _mean_and_std_of(splits["train"].image)
    info = {"name": name, "class_names": class_names, "mean": mean.tolist(), "std": std.tolist()}
    present = {
        split: {key: array for key, array in arrays._asdict().items() if array is not None}
        for split, arrays in splits.items()
    }
    _write_arrays(directory, info, present)


def _write_arrays(
    directory: Path, info: dict[str, Any], splits: dict[str, dict[str, np.ndarray]]
) -> None:
    """A directory of .npz files and `info.json`, whole or not at all.

    Raises:
      UserError: it cannot be written.
    """
    unfinished = directory.with_name(f".{uuid.uuid4().hex}")
    try:
        unfinished.mkdir(parents=True)
        for split, arrays in splits.items():
            np.savez(unfinished / f"{split}.npz", **arrays)
        (unfinished / "info.json").write_text(json.dumps(info, indent=1))
        unfinished.rename(directory)
    except OSError as error:
        if not directory.is_dir():  # else another process was faster
            raise UserError(
                f"cannot write {directory} ({error}): set KDXAI_CACHE to a directory with room"
            ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _read(name: str, directory: Path) -> Dataset:
    """A directory of decoded arrays, all training images in `train` and none in `validation`."""
    train, test = (_read_split(directory / f"{split}.npz") for split in ("train", "test"))
    if train.image.shape[1:] != test.image.shape[1:]:
        raise UserError(
            f"the images in {directory} differ: {list(train.image.shape[1:])} in train.npz and "
            f"{list(test.image.shape[1:])} in test.npz"
        )
    path = directory / "info.json"
    try:
        info = json.loads(path.read_text()) if path.exists() else {}
        stored_name = info.get("name", name)
        class_names = tuple(map(str, info.get("class_names", CLASS_NAMES.get(name, ()))))
        stored = [np.asarray(info[key], np.float32) for key in ("mean", "std") if key in info]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"cannot read {path} ({error}): mend it or delete it") from error
    if stored_name != name:
        raise UserError(
            f"{directory} holds {stored_name}, not {name}: ask for that or set another directory"
        )
    labels = np.concatenate([train.label, test.label])
    class_names = class_names or tuple(map(str, range(labels.max() + 1)))
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise UserError(
            f"labels in {directory} go from {labels.min()} to {labels.max()}: with "
            f"{len(class_names)} classes they must go from 0 to {len(class_names) - 1}"
        )
    mean, std = stored if len(stored) == 2 else _mean_and_std_of(train.image)
    if not mean.shape == std.shape == train.image.shape[-1:]:
        raise UserError(f"mean and std in {path} must have one number for each channel")
    return Dataset(name, class_names, mean, std, train, _rows(train, slice(0)), test)


def _read_split(path: Path) -> Split:
    """One .npz of decoded arrays, checked."""
    try:
        with np.load(path, allow_pickle=False) as file:
            image, label = file["image"], file["label"]
            mask = file.get("mask")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: {path.parent} needs train.npz and test.npz") from error
    except Exception as error:  # a damaged file fails in many ways
        raise UserError(
            f"cannot read the arrays image and label of {path} ({line(error)}): bring a whole "
            f"file, or delete {path.parent} if kdxai wrote it there as a cache"
        ) from error
    if image.dtype != np.uint8 or image.ndim != 4 or 0 in image.shape:
        raise UserError(
            f"image in {path} is {image.dtype} {list(image.shape)}: it must be uint8 [N, H, W, C]"
        )
    if label.dtype.kind not in "iu" or label.shape != image.shape[:1]:
        raise UserError(
            f"label in {path} is {label.dtype} {list(label.shape)}: it must be one integer for "
            f"each of {len(image)} images"
        )
    if mask is not None and (mask.dtype != bool or mask.shape != image.shape[:3]):
        raise UserError(
            f"mask in {path} is {mask.dtype} {list(mask.shape)}: it must be bool "
            f"{list(image.shape[:3])}, or not there"
        )
    return Split(image, label.astype(np.int32), mask)


def _mean_and_std_of(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`_mean_and_std` of an array in memory."""
    return _mean_and_std(_chunks(image), image.shape[-1])


def _chunks(image: np.ndarray | Records) -> Iterator[np.ndarray]:
    return (image[start : start + CHUNK] for start in range(0, len(image), CHUNK))


def _mean_and_std(chunks: Iterable[np.ndarray], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, H, W, C] pieces -> float32 [C], [C] of values in [0, 1], through exact counts."""
    counts = np.zeros((channels, 256), np.int64)
    for chunk in chunks:
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255

    def moments(weights: np.ndarray) -> tuple[float, float]:
        mean = np.average(values, weights=weights)
        return mean, np.sqrt(np.average((values - mean) ** 2, weights=weights))

    mean, std = np.float32([moments(weights) for weights in counts]).T
    return mean, std


# TFDS.


def _find_prepared(name: str, directory: Path) -> Path | None:
    """The newest prepared version, found without importing TFDS."""
    versions = {
        tuple(map(int, path.parent.name.split("."))): path.parent
        for path in (directory / name).glob("*/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
    }
    return versions[max(versions)] if versions else None


def _fingerprint(prepared: Path) -> str:
    """Changes with the prepared data: the metadata, and name, size and date of every file."""
    digest = hashlib.sha256((prepared / "dataset_info.json").read_bytes())
    for path in sorted(prepared.iterdir()):
        digest.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _prepare(name: str, directory: Path) -> Path:
    """Let TFDS download and prepare a data set; returns the directory of its version."""
    import tensorflow_datasets as tfds

    known = ["shapes", *tfds.list_builders(with_community_datasets=False)]
    if name.split("/")[0] not in known:
        near = difflib.get_close_matches(name, known)
        raise UserError(
            f"no data set {name!r} in {directory}, and TFDS knows none of that name: "
            + (f"did you mean {' or '.join(near)}?" if near else "is the data directory right?")
        )
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            builder = tfds.builder(name, data_dir=directory, file_format="array_record")
            _image_shape_and_class_names(name, builder)  # fail before the download
            with _without_tensorflow(builder):
                builder.download_and_prepare(
                    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
                )
        return Path(builder.data_dir)
    except UserError:
        raise
    except Exception as error:  # TFDS fails in as many ways as it has data sets
        prepared = _find_prepared(name, directory)
        if prepared:  # by another process, meanwhile
            return prepared
        raise UserError(
            f"{name} is not in {directory} and cannot be prepared there ({line(error)}): run once "
            f"with network, or prepare it elsewhere (tfds build {name} --file_format=array_record) "
            "and set TFDS_DATA_DIR or the config's data directory to where it is"
        ) from error


@contextlib.contextmanager
def _without_tensorflow(builder: Any) -> Iterator[None]:
    """Stand in for the functions of TensorFlow with which TFDS prepares a small image data set.

    Whatever else a data set asks of TensorFlow fails, as an AttributeError. A download fails early
    as well: TFDS by itself waits for ever and retries for minutes.
    """
    from tensorflow_datasets.core.download import downloader, extractor
    from tensorflow_datasets.core.features import image_feature

    tensorflow = SimpleNamespace(
        io=SimpleNamespace(gfile=SimpleNamespace(GFile=open)),
        compat=SimpleNamespace(as_text=os.fsdecode),
    )
    open_url = partial(downloader._open_url, timeout=TIMEOUT)
    with (
        mock.patch.object(extractor, "tf", tensorflow),
        mock.patch.object(sys.modules[type(builder).__module__], "tf", tensorflow, create=True),
        mock.patch.object(image_feature._ImageEncoder, "_encode_image", _encode_image),
        mock.patch.object(downloader, "_open_url", open_url),
        mock.patch.object(downloader, "MAX_RETRIES", 0),
    ):
        yield


def _encode_image(encoder: Any, image: np.ndarray) -> bytes:
    """uint8 [H, W, C] -> the bytes of a file in the format (PNG, JPEG) of the encoder."""
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.save(buffer, format=encoder.encoding_format)
    return buffer.getvalue()


def _image_shape_and_class_names(
    name: str, builder: Any
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """What a data set must tell to be used here, from a TFDS builder."""
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise UserError(
            f"{name} is not for image classification: it has {', '.join(features)} where an image "
            "named image and a class named label are needed"
        )
    if None in image.shape or image.shape[-1] not in PIL_MODES or image.np_dtype != np.uint8:
        raise UserError(
            f"images of {name} are {np.dtype(image.np_dtype)} {list(image.shape)}: they must be "
            "uint8, all of one size, with 1 or 3 channels"
        )
    return image.shape, tuple(label.names)


def _decode(name: str, prepared: Path) -> tuple[tuple[str, ...], dict[str, Split]]:
    """Class names and splits of a prepared TFDS directory."""
    shape, class_names, _ = _describe(name, prepared)

    def decode(split: str) -> Split:
        source = PreparedImages(prepared, split, shape)
        label = source.labels()
        return Split(source[range(len(label))], label, None)

    return class_names, {split: decode(split) for split in ("train", "test")}
