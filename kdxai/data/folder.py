"""`folder`: pictures as people keep them, a folder for each class.

They lie in `DIR/train/CLASS/` and `DIR/test/CLASS/`, with or without `DIR/val/CLASS/` (or `valid`,
`validation`); where there is no `test`, the pictures of `val` are the test images. Or all lie in
`DIR/CLASS/`, and a share of each class becomes the test images, the same ones every time.

A class is called as its folder, and classes are counted in the order of their names. A picture is
any file below that folder whose name ends as a PNG, JPEG, WebP or BMP file does. Hidden files and
folders and all other files are passed over. Links to pictures, classes and splits are followed;
links to folders within a class are not.
"""

import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdxai.data import pictures, stored
from kdxai.data.sources import DATA_SEED, Dataset, Request
from kdxai.errors import UserError

SPLITS = {
    "train": "train",
    "test": "test",
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
}
TEST_SHARE = 0.2


class File(NamedTuple):
    """A picture, unread."""

    path: str
    state: str  # size and date: another where the content is another


Classes = Mapping[str, list[File]]  # in the order of their names


class FolderImages:
    """Pictures of one split, resized and cut to squares of `size` pixels."""

    def __init__(self, classes: Classes, size: int):
        files = [file.path for files in classes.values() for file in files]
        label = np.repeat(np.arange(len(classes)), [*map(len, classes.values())])
        # Mixed, since the first so many images of a split are to be of all classes.
        order = np.random.RandomState(DATA_SEED).permutation(len(files))
        # Bytes in one array: a million paths are quickly given to every process that reads.
        self._paths = np.array([*map(os.fsencode, files)])[order]
        self._label = label.astype(np.int32)[order]
        self._size = size

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Some pictures, [n, size, size, 3] uint8.

        Raises:
          UserError: a picture cannot be read.
        """
        image = np.empty((len(rows), self._size, self._size, 3), np.uint8)
        for i, path in enumerate(self._paths[rows]):
            image[i] = pictures.read(os.fsdecode(path), self._size)
        return image

    def labels(self) -> np.ndarray:
        return self._label


def load(request: Request) -> Dataset:
    """The pictures of a directory, in RGB and of one size.

    Raises:
      UserError: no directory or size is given; there are no pictures of two classes or more; their
        splits have other classes; one picture cannot be read.
    """
    place, size, share = request.data_dir, request.size, request.test_share
    if place is None:
        raise UserError("the data set folder needs data_dir: the directory with a folder per class")
    if size is None:
        raise UserError("the data set folder needs size: pixels a side, such as 32 or 224")
    if size < 1:
        raise UserError(f"size is {size}: it must be at least 1 pixel a side")
    try:
        splits = _splits(place, share)
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    images = {split: FolderImages(classes, size) for split, classes in splits.items()}
    names, count = tuple(splits["train"]), len(images["train"].labels())
    found = stored.Stored(place, names, (size, size, 3), count, images)
    return stored.load(request, f"folder-{_fingerprint(place, splits, size)}", lambda: found)


def _fingerprint(place: Path, splits: Mapping[str, Classes], size: int) -> str:
    """Changes with the files, their names and splits, and with how they are read."""
    reader = Path(pictures.__file__).read_bytes() + metadata.version("pillow").encode()
    digest = hashlib.sha256(reader + f"\n{size}\n".encode())
    for split, classes in splits.items():
        for name, files in classes.items():
            digest.update(os.fsencode(f"{split} {name} {len(files)}\n"))
            for file in files:
                path = file.path.removeprefix(str(place))  # it may be moved
                digest.update(os.fsencode(f"{path} {file.state}\n"))
    return digest.hexdigest()[:16]


def _splits(place: Path, test_share: float | None) -> Mapping[str, Classes]:
    """`train`, `test` and perhaps `validation`, all of the same classes."""
    if not place.is_dir():
        raise UserError(f"there is no directory {place}: set data_dir to where the pictures are")
    folders = _folders(place)
    found = {name: SPLITS[name.lower()] for name in folders if name.lower() in SPLITS}
    kinds = [*found.values()]
    if "train" not in kinds or len(kinds) < 2:
        if found and len(found) == len(folders):
            raise UserError(
                f"{place} has {' and '.join(found)} alone: put train and test there, or set "
                "data_dir to the one whose pictures are to be shared out"
            )
        return _split_off_test(
            place, _classes(place), TEST_SHARE if test_share is None else test_share
        )
    if test_share is not None:
        raise UserError(f"{place} has {' and '.join(found)}: leave test_share out")
    if len(set(kinds)) < len(kinds):
        raise UserError(f"{place} has {', '.join(found)}: keep one folder for each split")
    splits = {kind: _classes(folders[name]) for name, kind in found.items()}
    for name, kind in found.items():
        _require_same(folders[name], splits[kind], splits["train"])
    if "test" not in splits:
        splits["test"] = splits.pop("validation")
    return splits


def _require_same(place: Path, classes: Classes, train: Classes) -> None:
    """Check that every split has the same classes.

    Raises:
      UserError: a split has other classes than the training images.
    """
    for some, others, told in (
        (classes, train, "has a class"),
        (train, classes, "lacks the class"),
    ):
        if different := [name for name in some if name not in others]:
            others_too = f" and {len(different) - 1} more" * (len(different) > 1)
            raise UserError(
                f"{place} {told} {different[0]}{others_too}, unlike the training pictures: all "
                "splits need the same folders"
            )


def _split_off_test(place: Path, classes: Classes, test_share: float) -> Mapping[str, Classes]:
    """Some pictures of each class to test on, sampled once for all."""
    if not 0 < test_share < 1:
        raise UserError(f"test_share is {test_share}: it must be between 0 and 1")
    splits: dict[str, dict[str, list[File]]] = {"train": {}, "test": {}}
    for name, files in classes.items():
        if len(files) < 2:
            raise UserError(
                f"{place / name} holds one picture: give two, one to train and one to test on"
            )
        count = min(max(round(test_share * len(files)), 1), len(files) - 1)
        # Of each class by itself: pictures of one number may be of one place or day.
        seed = zlib.crc32(os.fsencode(f"{name} {DATA_SEED}"))
        order = np.random.RandomState(seed).permutation(len(files))
        splits["test"][name] = [files[i] for i in order[:count]]
        splits["train"][name] = [files[i] for i in order[count:]]
    return splits


def _classes(place: Path) -> Classes:
    """The pictures of every class."""
    folders = _folders(place)
    if len(folders) < 2:
        told = f"only one folder, {next(iter(folders))}" if folders else "no folder"
        raise UserError(f"{place} has {told}: two classes or more are needed, each a folder in it")
    classes = {}
    for name, folder in folders.items():
        classes[name] = [*_files(folder)]
        if not classes[name]:
            raise UserError(
                f"{folder} holds no picture (PNG, JPEG, WebP or BMP): put some there, or take it "
                "away"
            )
    return classes


def _folders(place: Path) -> dict[str, Path]:
    """The folders in a directory by name, without hidden ones."""
    names = sorted(name for name in os.listdir(place) if not name.startswith("."))
    return {name: place / name for name in names if (place / name).is_dir()}


def _files(folder: str | Path) -> Iterator[File]:
    """All pictures below a folder in the order of their names.

    Raises:
      OSError: a folder cannot be read, or a link leads nowhere.
    """
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
        elif os.path.splitext(entry.name)[1].lower() in pictures.SUFFIXES:
            state = entry.stat()
            yield File(entry.path, f"{state.st_size} {state.st_mtime_ns}")
