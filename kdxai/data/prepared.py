"""Image classification data sets of TFDS: prepared directories, read; others, prepared.

TensorFlow is never imported; TFDS only where a data set is prepared or read.
"""

import contextlib
import difflib
import hashlib
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from os import fsdecode
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from kdxai.data import stored
from kdxai.data.sources import Dataset, Request, checked_labels
from kdxai.data.stored import Stored
from kdxai.data.tfrecord import TFRecords
from kdxai.errors import UserError, one_line

TIMEOUT = 10  # seconds without an answer before a download fails
PIL_MODES = {1: "L", 3: "RGB"}  # by number of channels
SPLITS = ("train", "test")
OWN = "tensorflow_datasets.core.features."  # where TFDS has its features


def load(request: Request, others: Sequence[str] = ()) -> Dataset:
    """A data set of TFDS by its name, prepared (with a download) where it has to be.

    Args:
      others: names of data that are no data sets of TFDS, for whoever has mistyped one.

    Raises:
      UserError: it cannot be had, or its images or labels do not suit.
    """
    name, directory = request.name, request.directory
    found = find_prepared(name, directory) or prepare_with_tfds(name, directory, others)
    version = "-".join(found.relative_to(directory).parts)
    key = f"{version}-{fingerprint(found)}"
    return stored.load(request, key, lambda: describe(name, found))


class PreparedImages:
    """The images of one split of a prepared TFDS directory; every process opens it for itself."""

    def __init__(self, prepared: Path, split: str, image_shape: tuple[int, ...]):
        self.prepared, self.split, self.image_shape = prepared, split, image_shape
        self._source: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_source": None}

    def __getitem__(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The images of some records, [n, H, W, C] uint8.

        Raises:
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
        """[N] int32 of the whole split; no image is decoded.

        Raises:
          UserError: as of `read`, or an image has no label.
        """
        count = self._call(len)
        some = (self.read(range(i, min(i + 1000, count))) for i in range(0, count, 1000))
        labels = np.array([record["label"] for records in some for record in records], np.int64)
        return checked_labels(f"label in split {self.split} of {self.prepared}", labels, count)

    def read(self, rows: Iterable[int]) -> Sequence[dict[str, Any]]:
        """The records of those numbers, their images encoded as they are stored.

        Raises:
          UserError: one cannot be read.
        """
        numbers = [int(row) for row in rows]
        return self._call(lambda source: source.__getitems__(numbers))

    def _call(self, read: Any) -> Any:
        """What `read` makes of the source, opened."""
        try:
            if self._source is None:
                self._source = _open(self.prepared, self.split)
            return read(self._source)
        except UserError:
            raise
        except Exception as error:  # from a damaged file, a split that is not there, ...
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(
            f"cannot read split {self.split} of {self.prepared} ({one_line(error)}): prepare it "
            "anew (tfds build NAME --file_format=array_record) or set another data directory"
        )


def _open(prepared: Path, split: str) -> Any:
    """The records of a split, by their number."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.data_sources import base

    # The image is decoded here: TFDS would complain that OpenCV is missing.
    decoders = {"image": tfds.decode.SkipDecoding()}
    builder = _builder(prepared)
    if builder.info.file_format != tfds.core.FileFormat.TFRECORD:
        return builder.as_data_source(split, decoders=decoders)
    source = base.BaseDataSource(builder.info, split, decoders)
    files = base.file_instructions(builder.info, split)
    source.data_source = TFRecords(file.filename for file in files)
    told = builder.info.splits[split].num_examples
    if len(source) != told:
        raise ValueError(f"{len(source)} records, not {told}")
    return source


def _builder(prepared: Path) -> Any:
    """A prepared directory, as TFDS reads it.

    TFDS imports the module of every feature that `features.json` names, whatever it is: a directory
    that somebody brought could run code.

    Raises:
      UserError: it names one that is not of TFDS itself.
    """
    import tensorflow_datasets as tfds

    _require_own_features(prepared / "features.json")
    return tfds.builder_from_directory(prepared)


def _require_own_features(path: Path) -> None:
    """Refuse data that bring code of their own.

    Raises:
      UserError: a `features.json` names a class that is not of TFDS itself.
    """
    for name in _feature_classes(json.loads(path.read_text())):
        if not name.startswith(OWN):
            raise UserError(
                f"{path} asks for the class {name}, which is not a feature of TFDS itself and is "
                "not imported: prepare the data with the features of TFDS, or bring train.npz and "
                "test.npz"
            )


def _feature_classes(features: Any) -> Iterator[str]:
    """All classes that a `features.json` names; those of older versions as `type`."""
    if isinstance(features, dict):
        for key, value in features.items():
            if key in ("pythonClassName", "python_class_name", "type") and isinstance(value, str):
                yield value
            yield from _feature_classes(value)
    elif isinstance(features, list):
        for value in features:
            yield from _feature_classes(value)


def describe(name: str, prepared: Path) -> Stored:
    """A prepared TFDS directory, of which only the metadata are read.

    Raises:
      UserError: it cannot be read, or does not suit.
    """
    import tensorflow_datasets as tfds

    try:
        builder = _builder(prepared)
        shape, class_names = _image_shape_and_class_names(name, builder)
        splits, file_format = builder.info.splits, builder.info.file_format
    except UserError:
        raise
    except Exception as error:  # from a damaged file, ...
        raise UserError(
            f"cannot read {prepared} ({one_line(error)}): prepare it anew "
            f"(tfds build {name} --file_format=array_record) or set another data directory"
        ) from error
    filled = [split for split, told in splits.items() if told.num_examples]
    if not set(SPLITS) <= set(filled):
        raise UserError(
            f"{name} in {prepared} has images in the splits {', '.join(filled) or 'none'}, but the "
            "splits train and test are needed: cut the test images off once, and bring train.npz "
            "and test.npz"
        )
    formats = tfds.core.FileFormat
    if file_format not in (formats.ARRAY_RECORD, formats.TFRECORD):
        raise UserError(
            f"{prepared} is stored as {file_format.value}, which cannot be read without "
            f"TensorFlow: store it anew (tfds build {name} --file_format=array_record)"
        )
    images = {split: PreparedImages(prepared, split, shape) for split in SPLITS}
    return Stored(prepared, class_names, shape, splits["train"].num_examples, images)


def find_prepared(name: str, directory: Path) -> Path | None:
    """The newest prepared version, found without importing TFDS."""
    versions = {
        tuple(map(int, path.parent.name.split("."))): path.parent
        for path in (directory / name).glob("*/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
    }
    return versions[max(versions)] if versions else None


def fingerprint(prepared: Path) -> str:
    """Changes with the prepared data: the metadata, and name, size and date of every file.

    Raises:
      UserError: the directory cannot be read.
    """
    try:
        digest = hashlib.sha256((prepared / "dataset_info.json").read_bytes())
        for path in sorted(prepared.iterdir()):
            state = path.stat()
            digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    except OSError as error:
        raise UserError(
            f"cannot read {prepared} ({one_line(error)}): is it yours to read?"
        ) from error
    return digest.hexdigest()[:16]


def prepare_with_tfds(name: str, directory: Path, others: Sequence[str] = ()) -> Path:
    """Let TFDS download and prepare a data set; returns the directory of its version."""
    import tensorflow_datasets as tfds

    known = [*others, *tfds.list_builders(with_community_datasets=False)]
    if name.split("/")[0] not in known:
        near = difflib.get_close_matches(name, known)
        hint = "is the data directory right? A folder of pictures for each class is called folder"
        if near:
            hint = f"did you mean {' or '.join(near)}?"
        raise UserError(
            f"no data set {name!r} in {directory}, and TFDS knows none of that name: {hint}"
        )
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        for path in (directory / name.partition("/")[0]).rglob("features.json"):
            _require_own_features(path)  # TFDS may read it
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
        prepared = find_prepared(name, directory)
        if prepared:  # by another process, meanwhile
            return prepared
        raise UserError(
            f"{name} is not in {directory} and cannot be prepared there ({one_line(error)}): run "
            f"once with network, or prepare it elsewhere (tfds build {name} "
            "--file_format=array_record) and set TFDS_DATA_DIR or the config's data directory to "
            "where it is"
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
        compat=SimpleNamespace(as_text=fsdecode),
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
